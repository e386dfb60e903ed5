//! Envoy: keys by its filter for API keys, tokens by `jwt_authn`, with and without its cache of tokens.

use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::credentials::Job;
use crate::ground::{Ground, ISSUER};
use crate::process::{Process, free_port};
use crate::{BODY, Contender};

/// Tokens that Envoy remembers: more than are used.
const CACHED: u32 = 4_096;

/// Whether Envoy remembers tokens that it verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cache {
    Off,
    On,
}

/// Starts Envoy for a job.
pub(crate) fn start(ground: &Ground, job: Job, cache: Cache) -> anyhow::Result<Contender> {
    let port = free_port()?;
    let typed = |name: &str, mut config: Value| {
        if let Some(fields) = config.as_object_mut() {
            fields.insert(
                "@type".to_owned(),
                format!("type.googleapis.com/envoy.extensions.filters.{name}").into(),
            );
        }
        config
    };
    let credentials: Vec<Value> =
        ground.keys.iter().map(|(key, owner)| json!({ "key": key, "client": owner })).collect();
    let mut filters = vec![json!({ "name": "envoy.filters.http.api_key_auth", "typed_config":
        typed("http.api_key_auth.v3.ApiKeyAuth", json!({ "credentials": credentials, "key_sources": [{ "header": "apikey" }] })) })];
    if job.has_token() {
        let mut provider = json!({ "issuer": ISSUER, "local_jwks": { "inline_string": ground.jwks(job) } });
        if let Some(fields) = provider.as_object_mut().filter(|_| cache == Cache::On) {
            fields.insert("jwt_cache_config".to_owned(), json!({ "jwt_cache_size": CACHED }));
        }
        filters.push(json!({ "name": "envoy.filters.http.jwt_authn", "typed_config":
            typed("http.jwt_authn.v3.JwtAuthentication", json!({ "providers": { "bench": provider },
                "rules": [{ "match": { "prefix": "/" }, "requires": { "provider_name": "bench" } }] })) }));
    }
    filters.push(json!({ "name": "envoy.filters.http.router", "typed_config": typed("http.router.v3.Router", json!({})) }));
    let route = if job == Job::Proxied {
        json!({ "match": { "prefix": "/" }, "route": { "cluster": "up" } })
    } else {
        json!({ "match": { "prefix": "/" }, "direct_response": { "status": 200, "body": { "inline_string": BODY } },
            "response_headers_to_add": [{ "header": { "key": "content-type", "value": "application/json" },
                "append_action": "OVERWRITE_IF_EXISTS_OR_ADD" }] })
    };
    let manager = typed(
        "network.http_connection_manager.v3.HttpConnectionManager",
        json!({ "stat_prefix": "bench", "http_filters": filters,
            "route_config": { "virtual_hosts": [{ "name": "all", "domains": ["*"], "routes": [route],
                "request_headers_to_remove": ["apikey"] }] } }),
    );
    let settings = json!({ "static_resources": {
        "listeners": [{ "name": "front", "address": socket(SocketAddr::from(([127, 0, 0, 1], port))),
            "filter_chains": [{ "filters": [{ "name": "envoy.filters.network.http_connection_manager", "typed_config": manager }] }] }],
        "clusters": [{ "name": "up", "type": "STATIC", "connect_timeout": "5s", "load_assignment": { "cluster_name": "up",
            "endpoints": [{ "lb_endpoints": [{ "endpoint": { "address": socket(ground.upstream) } }] }] } }] } });
    let name = if cache == Cache::On { "envoy-cached" } else { "envoy" };
    let file = ground.write(&format!("{name}.json"), &settings.to_string())?;
    let envoy = ground.envoy.display().to_string();
    let arguments = ["-c", &file, "--concurrency", "1", "--disable-hot-restart", "-l", "error"];
    let mut process = Process::start(ground.directory(), name, &envoy, &arguments)?;
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    process.wait_for(address, &ground.path(&format!("{name}.log")))?;
    let (pairs, bad) = (ground.pairs(job)?, ground.bad(job)?);
    let name = if cache == Cache::On { "Envoy, caching" } else { "Envoy" };
    Ok(Contender { name, process, address, path: "/orders", pairs, bad })
}

fn socket(address: SocketAddr) -> Value {
    json!({ "socket_address": { "address": address.ip().to_string(), "port_value": address.port() } })
}
