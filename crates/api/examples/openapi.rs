//! Prints the OpenAPI document: `cargo run -p tollgate-api --example openapi > docs/openapi.json`.

fn main() {
    println!("{:#}", tollgate_api::openapi());
}
