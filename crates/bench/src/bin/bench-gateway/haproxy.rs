//! HAProxy of Debian: keys in a map, tokens by `jwt_verify`.

use std::net::SocketAddr;

use tollgate_model::keysets::Algorithm;

use crate::credentials::Job;
use crate::ground::{Ground, ISSUER, SECRET};
use crate::process::{Process, free_port};
use crate::{BODY, Contender};

/// Starts HAProxy for a job.
pub(crate) fn start(ground: &Ground, job: Job) -> anyhow::Result<Contender> {
    let port = free_port()?;
    let keys = ground.path("keys.map").display().to_string();
    let mut checks = format!(
        "  http-request set-var(txn.owner) req.hdr(apikey),map_str({keys})\n  \
         http-request deny deny_status 401 unless {{ var(txn.owner) -m found }}\n"
    );
    if let Some(algorithm) = job.algorithm() {
        let public = ground.path("public.pem").display().to_string();
        let by = if algorithm == Algorithm::Hs256 { SECRET } else { &public };
        let name = algorithm.as_str();
        checks.push_str(&format!(
            "  http-request set-var(txn.alg) http_auth_bearer,jwt_header_query('$.alg')\n  \
             http-request deny deny_status 401 unless {{ var(txn.alg) -m str {name} }}\n  \
             http-request deny deny_status 401 unless {{ http_auth_bearer,jwt_verify(txn.alg,\"{by}\") -m int 1 }}\n  \
             http-request set-var(txn.iss) http_auth_bearer,jwt_payload_query('$.iss')\n  \
             http-request deny deny_status 401 unless {{ var(txn.iss) -m str {ISSUER} }}\n  \
             http-request set-var(txn.now) date()\n  \
             http-request set-var(txn.exp) http_auth_bearer,jwt_payload_query('$.exp','int')\n  \
             http-request deny deny_status 401 if {{ var(txn.exp),sub(txn.now) -m int lt 0 }}\n  \
             http-request set-var(txn.sub) http_auth_bearer,jwt_payload_query('$.sub')\n  \
             http-request deny deny_status 403 unless {{ var(txn.sub),strcmp(txn.owner) eq 0 }}\n"
        ));
    }
    let answer = if job == Job::Proxied {
        format!(
            "  default_backend up\nbackend up\n  http-reuse always\n  http-request del-header authorization\n  \
                 http-request del-header apikey\n  server one {}\n",
            ground.upstream
        )
    } else {
        let file = ground.write("answer.json", BODY)?;
        format!("  http-request return status 200 content-type application/json file {file}\n")
    };
    let settings = format!(
        "global\n  nbthread 1\n  maxconn 2000\ndefaults\n  mode http\n  timeout connect 5s\n  timeout client 60s\n  \
         timeout server 60s\nfrontend front\n  bind 127.0.0.1:{port}\n{checks}{answer}"
    );
    let file = ground.write("haproxy.cfg", &settings)?;
    let mut process = Process::start(ground.directory(), "haproxy", "haproxy", &["-db", "-f", &file])?;
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    process.wait_for(address, &ground.path("haproxy.log"))?;
    let (pairs, bad) = (ground.pairs(job)?, ground.bad(job)?);
    Ok(Contender { name: "HAProxy", process, address, path: "/orders", pairs, bad })
}
