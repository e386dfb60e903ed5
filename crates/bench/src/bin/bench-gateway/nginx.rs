//! nginx of Debian, with Lua: keys in a table, tokens by the libcrypto that nginx has loaded already. Its own `map` would be
//! a little faster for keys alone, and takes them in any case, so that it does not count.

use std::net::SocketAddr;

use crate::credentials::Job;
use crate::ground::{Ground, ISSUER, SECRET};
use crate::process::{Process, free_port};
use crate::{BODY, Contender};

/// What nginx does with a call; `KEYS`, `SPKI`, `SECRET`, `ALG`, `ISSUER` and `BODY` are put in before it.
const SCRIPT: &str = r#"
local ffi, cjson, base64 = require 'ffi', require 'cjson.safe', require 'ngx.base64'
ffi.cdef[[
const void *EVP_sha256(void);
unsigned char *HMAC(const void *md, const void *key, int len, const char *data, size_t n, unsigned char *out, unsigned int *out_len);
void *d2i_PUBKEY(void **a, const unsigned char **der, long length);
void *EVP_MD_CTX_new(void);
int EVP_MD_CTX_reset(void *ctx);
int EVP_DigestVerifyInit(void *ctx, void **pctx, const void *type, void *engine, void *key);
int EVP_DigestVerify(void *ctx, const char *signature, size_t signature_len, const char *data, size_t len);
int CRYPTO_memcmp(const void *a, const void *b, size_t len);
]]
local C, sha256 = ffi.C, ffi.C.EVP_sha256()
local tag, tag_len = ffi.new('unsigned char[32]'), ffi.new('unsigned int[1]')
local context, public = C.EVP_MD_CTX_new(), nil
if ALG == 'ES256' then
    local der = ngx.decode_base64(SPKI)
    local at = ffi.new('const unsigned char *[1]', ffi.cast('const unsigned char *', der))
    public = C.d2i_PUBKEY(nil, at, #der)
    assert(public ~= nil, 'no public key')
end

-- An integer of DER, from half a signature.
local function integer(half)
    half = half:gsub('^%z+', '')
    if half == '' or half:byte() > 127 then half = '\0' .. half end
    return '\2' .. string.char(#half) .. half
end

local function is_signed(data, signature)
    if ALG == 'HS256' then
        if #signature ~= 32 then return false end
        C.HMAC(sha256, SECRET, #SECRET, data, #data, tag, tag_len)
        return C.CRYPTO_memcmp(tag, signature, 32) == 0
    end
    if #signature ~= 64 then return false end
    local both = integer(signature:sub(1, 32)) .. integer(signature:sub(33))
    local der = '\48' .. string.char(#both) .. both
    C.EVP_MD_CTX_reset(context)
    return C.EVP_DigestVerifyInit(context, nil, sha256, nil, public) == 1
        and C.EVP_DigestVerify(context, der, #der, data, #data) == 1
end

local function allowed()
    local sent = ngx.var.http_apikey
    local owner = sent and KEYS[sent]
    if not owner then return false end
    if ALG == '' then return true end
    local sent = ngx.var.http_authorization
    if not sent or sent:sub(1, 7) ~= 'Bearer ' then return false end
    local first = sent:find('.', 8, true)
    local second = first and sent:find('.', first + 1, true)
    if not second then return false end
    local header = cjson.decode(base64.decode_base64url(sent:sub(8, first - 1)) or '')
    local signature = base64.decode_base64url(sent:sub(second + 1))
    if not header or header.alg ~= ALG or not signature then return false end
    if not is_signed(sent:sub(8, second - 1), signature) then return false end
    local claims = cjson.decode(base64.decode_base64url(sent:sub(first + 1, second - 1)) or '')
    return claims and claims.iss == ISSUER and claims.exp > ngx.time() and claims.sub == owner
end

local checks = {}
function checks.refuse()
    if not allowed() then
        ngx.status = 401
        ngx.say('no')
        return ngx.exit(401)
    end
end
function checks.answer()
    if not allowed() then return checks.refuse() end
    ngx.header.content_type = 'application/json'
    ngx.header.content_length = #BODY
    ngx.print(BODY)
end
return checks
"#;

/// Starts nginx for a job.
pub(crate) fn start(ground: &Ground, job: Job) -> anyhow::Result<Contender> {
    let port = free_port()?;
    let algorithm = job.algorithm().map(|it| it.as_str()).unwrap_or_default();
    let pem = std::fs::read_to_string(ground.path("public.pem"))?;
    let spki: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    let keys: String = ground.keys.iter().map(|(key, owner)| format!("['{key}']='{owner}',\n")).collect();
    let script = format!(
        "local KEYS = {{\n{keys}}}\nlocal ALG, SECRET, SPKI, ISSUER, BODY = '{algorithm}', '{SECRET}', '{spki}', '{ISSUER}', '{BODY}'\n\
         {SCRIPT}"
    );
    ground.write("checks.lua", &script)?;
    let directory = ground.directory().display();
    let handler = if job == Job::Proxied {
        "access_by_lua_block { checks.refuse() }\n      proxy_pass http://up; proxy_http_version 1.1; proxy_set_header connection ''; \
         proxy_set_header authorization ''; proxy_set_header apikey '';"
    } else {
        "content_by_lua_block { checks.answer() }"
    };
    let settings = format!(
        "load_module /usr/lib/nginx/modules/ndk_http_module.so;\nload_module /usr/lib/nginx/modules/ngx_http_lua_module.so;\n\
         daemon off;\nmaster_process off;\npid {directory}/nginx.pid;\nerror_log stderr error;\n\
         events {{ worker_connections 1024; }}\n\
         http {{\n  access_log off;\n  keepalive_requests 1000000000;\n  lua_package_path '{directory}/?.lua;;';\n  \
         init_by_lua_block {{ checks = require 'checks' }}\n  \
         client_body_temp_path {directory}/b;\n  proxy_temp_path {directory}/p;\n  fastcgi_temp_path {directory}/f;\n  \
         uwsgi_temp_path {directory}/u;\n  scgi_temp_path {directory}/s;\n  \
         upstream up {{ server {}; keepalive 64; keepalive_requests 1000000000; }}\n  \
         server {{\n    listen 127.0.0.1:{port};\n    location / {{\n      {handler}\n    }}\n  }}\n}}\n",
        ground.upstream
    );
    let file = ground.write("nginx.conf", &settings)?;
    let mut process = Process::start(ground.directory(), "nginx", "nginx", &["-c", &file])?;
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    process.wait_for(address, &ground.path("nginx.log"))?;
    let (pairs, bad) = (ground.pairs(job)?, ground.bad(job)?);
    Ok(Contender { name: "nginx (Lua)", process, address, path: "/orders", pairs, bad })
}
