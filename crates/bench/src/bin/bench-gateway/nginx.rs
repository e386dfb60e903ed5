//! nginx of Debian, with njs: keys in an object of the script, tokens by its WebCrypto. Its own `map` would be faster for
//! keys alone, and takes them in any case, so that it does not count.

use std::net::SocketAddr;

use serde_json::json;

use crate::credentials::Job;
use crate::ground::{Ground, ISSUER, SECRET};
use crate::process::{Process, free_port};
use crate::{BODY, Contender};

/// What nginx does with a call; `KEYS`, `JWK`, `SECRET`, `ALG`, `ISSUER` and `BODY` are put in before it.
const SCRIPT: &str = r#"
let imported = null;
async function key() {
    if (imported === null) {
        imported = ALG === 'HS256'
            ? await crypto.subtle.importKey('raw', Buffer.from(SECRET), { name: 'HMAC', hash: 'SHA-256' }, false, ['verify'])
            : await crypto.subtle.importKey('spki', Buffer.from(SPKI, 'base64'), { name: 'ECDSA', namedCurve: 'P-256' }, false, ['verify']);
    }
    return imported;
}
async function allowed(r) {
    const owner = KEYS[r.headersIn['apikey']];
    if (owner === undefined) { return false; }
    if (ALG === '') { return true; }
    const sent = r.headersIn['authorization'];
    if (sent === undefined || !sent.startsWith('Bearer ')) { return false; }
    const parts = sent.slice(7).split('.');
    if (parts.length !== 3) { return false; }
    if (JSON.parse(Buffer.from(parts[0], 'base64url').toString()).alg !== ALG) { return false; }
    const algorithm = ALG === 'HS256' ? { name: 'HMAC' } : { name: 'ECDSA', hash: 'SHA-256' };
    const signature = Buffer.from(parts[2], 'base64url');
    const signed = Buffer.from(parts[0] + '.' + parts[1]);
    const known = await key();
    const good = await crypto.subtle.verify(algorithm, known, signature, signed);
    if (!good) { return false; }
    const claims = JSON.parse(Buffer.from(parts[1], 'base64url').toString());
    return claims.iss === ISSUER && claims.exp > Date.now() / 1000 && claims.sub === owner;
}
async function handle(r) {
    let good = false;
    try { good = await allowed(r); } catch (e) { good = false; }
    if (!good) { r.return(401, 'no\n'); return; }
    if (PROXIED) { r.internalRedirect('@up'); return; }
    r.headersOut['content-type'] = 'application/json';
    r.return(200, BODY);
}
export default { handle };
"#;

/// Starts nginx for a job.
pub(crate) fn start(ground: &Ground, job: Job) -> anyhow::Result<Contender> {
    let port = free_port()?;
    let keys: serde_json::Map<_, _> =
        ground.keys.iter().map(|(key, owner)| (key.clone(), owner.clone().into())).collect();
    let algorithm = job.algorithm().map(|it| it.as_str()).unwrap_or_default();
    let pem = std::fs::read_to_string(ground.path("public.pem"))?;
    let spki: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    let script = format!(
        "const KEYS = {};\nconst ALG = {};\nconst SECRET = {};\nconst SPKI = {};\nconst ISSUER = {};\nconst BODY = {};\n\
         const PROXIED = {};\n{SCRIPT}",
        serde_json::Value::Object(keys),
        json!(algorithm),
        json!(SECRET),
        json!(spki),
        json!(ISSUER),
        json!(BODY),
        job == Job::Proxied
    );
    ground.write("checks.js", &script)?;
    let directory = ground.directory().display();
    let settings = format!(
        "load_module /usr/lib/nginx/modules/ngx_http_js_module.so;\ndaemon off;\nmaster_process off;\n\
         pid {directory}/nginx.pid;\nerror_log stderr error;\nevents {{ worker_connections 1024; }}\n\
         http {{\n  access_log off;\n  keepalive_requests 1000000000;\n  js_path {directory};\n  js_import checks from checks.js;\n  \
         client_body_temp_path {directory}/b;\n  proxy_temp_path {directory}/p;\n  fastcgi_temp_path {directory}/f;\n  \
         uwsgi_temp_path {directory}/u;\n  scgi_temp_path {directory}/s;\n  \
         upstream up {{ server {}; keepalive 64; keepalive_requests 1000000000; }}\n  \
         server {{\n    listen 127.0.0.1:{port};\n    location / {{ js_content checks.handle; }}\n    \
         location @up {{ proxy_pass http://up; proxy_http_version 1.1; proxy_set_header connection ''; \
         proxy_set_header authorization ''; proxy_set_header apikey ''; }}\n  }}\n}}\n",
        ground.upstream
    );
    let file = ground.write("nginx.conf", &settings)?;
    let mut process = Process::start(ground.directory(), "nginx", "nginx", &["-c", &file])?;
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    process.wait_for(address, &ground.path("nginx.log"))?;
    let (pairs, bad) = (ground.pairs(job)?, ground.bad(job)?);
    Ok(Contender { name: "nginx (njs)", process, address, path: "/orders", pairs, bad })
}
