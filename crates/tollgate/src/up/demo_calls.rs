//! The calls that the demo prints, ready to paste.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;

use serde::{Deserialize, Serialize};
use tollgate_model::environments::Exposure;
use tollgate_model::names::EnvironmentName;

use super::entrances::Entrances;
use super::listeners::{Name, Place};

/// Where a caller on this machine reaches the server.
pub(crate) struct Addresses {
    pub(crate) console: String,
    pub(crate) test: String,
    pub(crate) prod: String,
}

/// What the calls need of the demo; kept for later starts in a file that only its owner can read.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Secrets {
    pub(crate) test_key: String,
    pub(crate) prod_key: String,
    pub(crate) password: String,
    /// The version of `product-list` that demands no token.
    pub(crate) key_only_version: String,
}

// === impl Addresses ===

impl Addresses {
    /// Finds the addresses among those that are bound.
    pub(crate) fn find(console: SocketAddr, bound: &[(Name, SocketAddr)]) -> Self {
        let of = |environment: EnvironmentName| {
            let name = Name::Environment(Place::of(environment, Exposure::External));
            bound.iter().find(|(it, _)| *it == name).map(|(_, address)| url(*address)).unwrap_or_default()
        };
        Self { console: url(console), test: of(EnvironmentName::test()), prod: of(EnvironmentName::prod()) }
    }
}

/// Returns where callers reach the external listener of each environment.
pub(crate) fn gateways(bound: &[(Name, SocketAddr)], entrances: &Entrances) -> BTreeMap<String, String> {
    let gateway = |(name, address): &(Name, SocketAddr)| {
        let Name::Environment(Place { environment, exposure: Exposure::External, mtls: false }) = name else {
            return None;
        };
        let url = url(*address);
        let url = if entrances.has_tls(name) { url.replacen("http:", "https:", 1) } else { url };
        Some((environment.to_string(), url))
    };
    bound.iter().filter_map(gateway).collect()
}

/// Returns the URL of an address; one that means "all addresses" is reached over loopback.
fn url(mut address: SocketAddr) -> String {
    if address.ip().is_unspecified() {
        match address {
            SocketAddr::V4(_) => address.set_ip(std::net::Ipv4Addr::LOCALHOST.into()),
            SocketAddr::V6(_) => address.set_ip(std::net::Ipv6Addr::LOCALHOST.into()),
        }
    }
    format!("http://{address}")
}

/// Writes the calls of the journey; beside each, what it answers.
pub(crate) fn write(addresses: &Addresses, secrets: &Secrets, token_file: &Path) -> String {
    let Addresses { console, test, prod } = addresses;
    let Secrets { test_key, prod_key, password, key_only_version } = secrets;
    // In single quotes a shell takes everything as it is, but a single quote.
    let token_file = token_file.display().to_string().replace('\'', r"'\''");
    let products = "/pipeline/default/v1/product-list";
    let mut out = String::from("\nThe journey, ready to paste into a shell:\n\n");
    let _ = write!(
        out,
        "# 1. No key: 401 api-key-missing
curl -iw '\\n' {test}{products}

# 2. With the key of test: 200 and the products
curl -iw '\\n' {test}{products} -H 'apikey: {test_key}'

# 3. The key of test in prod: 401 api-key-invalid
curl -iw '\\n' {prod}{products} -H 'apikey: {test_key}'

# 4. In prod a key alone is not enough: 401 jwt-missing
curl -iw '\\n' {prod}{products} -H 'apikey: {prod_key}'

# 5. Signing in with a wrong password: 401
curl -iw '\\n' {prod}/pipeline/default/v1/login -H 'apikey: {prod_key}' -H 'content-type: application/json' -d '{{\"user\":\"portal\",\"password\":\"wrong\"}}'

# 6. With the right one: 200 {{\"status\":\"logged\"}}, and the token in the header `authorization`
curl -iw '\\n' {prod}/pipeline/default/v1/login -H 'apikey: {prod_key}' -H 'content-type: application/json' -d '{{\"user\":\"portal\",\"password\":\"{password}\"}}'

# 7. The same, keeping the token; then key and token together: 200 and the products
TOKEN=$(curl -s -o /dev/null -D - {prod}/pipeline/default/v1/login -H 'apikey: {prod_key}' -H 'content-type: application/json' -d '{{\"user\":\"portal\",\"password\":\"{password}\"}}' | tr -d '\\r' | sed -n 's/^authorization: Bearer //p')
curl -iw '\\n' {prod}{products} -H 'apikey: {prod_key}' -H \"authorization: Bearer $TOKEN\"

# 8. The version that demands no token, deployed to prod: 422 policy-refused, and the switch to turn
curl -iw '\\n' {console}/api/v1/realms/default/environments/prod/deployments -H \"authorization: Bearer $(cat '{token_file}')\" -H 'content-type: application/json' -d '{{\"pipeline\":\"product-list\",\"version\":\"{key_only_version}\"}}'
",
    );
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_takes_the_path_of_the_token_as_it_is() {
        let directory = tempfile::Builder::new().prefix("it's a $HOME ").tempdir().expect("a directory");
        let file = directory.path().join("admin-token");
        std::fs::write(&file, "the token").expect("writes");
        let addresses =
            Addresses { console: "http://c".to_owned(), test: String::new(), prod: String::new() };
        let secrets = Secrets {
            test_key: String::new(),
            prod_key: String::new(),
            password: String::new(),
            key_only_version: "1.3".to_owned(),
        };
        let calls = write(&addresses, &secrets, &file);
        let (_, last) = calls.split_once("# 8. ").expect("a last call");
        let (_, last) = last.split_once('\n').expect("a line");
        let output = std::process::Command::new("sh")
            .arg("-c")
            .arg(last.replacen("curl", "printf '%s|'", 1))
            .output()
            .expect("sh runs");
        let arguments = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(arguments.contains("|authorization: Bearer the token|"), "{arguments}");
        assert!(arguments.contains(r#"|{"pipeline":"product-list","version":"1.3"}|"#), "{arguments}");
    }
}
