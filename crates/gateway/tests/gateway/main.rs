//! Calls through [`tollgate_gateway::Gateway::handle`], in process, against a snapshot built from stored objects.

mod answers;
mod api_keys;
mod attacks;
mod back_pressure;
mod calls;
mod client_address;
mod compression;
mod credentials;
mod enforcement;
mod explain;
mod flows;
mod informational;
mod issuers;
mod limits;
mod methods;
mod metrics;
mod mtls;
mod order;
mod passing;
mod proxying;
mod remembered;
mod tcp;
mod traffic;
mod trailers;
mod upstream_health;
mod world;
