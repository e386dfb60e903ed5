//! Heads on their way through: what belongs to one connection stays there, what a caller shows of itself stays here, and
//! what is said of where a call comes from is what we know.

use std::net::IpAddr;
use std::sync::Arc;

use http::header::{
    AUTHORIZATION, CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, COOKIE, EXPECT,
    FORWARDED, HOST, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, SET_COOKIE, TE, TRAILER, TRANSFER_ENCODING,
    UPGRADE, VIA,
};
use http::{HeaderMap, HeaderName, HeaderValue, Version};
use tollgate_flow::{Forward, ForwardSettings};
use tollgate_model::steps::CallerCredential;

use crate::fields::remove_where;
use crate::flows::visible_cookies;
use crate::front::Origin;
use crate::gateway::{REQUEST_ID, Received};
use crate::look_alikes;
use crate::problem::TOLLGATE_ERROR;
use crate::request::API_KEY;
use crate::trace::{TRACEPARENT, TRACESTATE, Trace};

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");

/// What can stand in a head only, is a credential, or is ours to say, whichever way it goes.
const HEAD_ONLY: [HeaderName; 20] = [
    CONTENT_LENGTH,
    CONTENT_TYPE,
    CONTENT_ENCODING,
    CONTENT_RANGE,
    HOST,
    TRAILER,
    EXPECT,
    AUTHORIZATION,
    PROXY_AUTHORIZATION,
    PROXY_AUTHENTICATE,
    API_KEY,
    COOKIE,
    SET_COOKIE,
    FORWARDED,
    VIA,
    X_FORWARDED_FOR,
    X_FORWARDED_HOST,
    X_FORWARDED_PROTO,
    REQUEST_ID,
    TOLLGATE_ERROR,
];

/// What we are called in `Via` (RFC 9110 section 7.6.3).
const NAME: &str = "tollgate";

/// So often a call may have come by: more is a circle.
const MAX_VISITS: usize = 8;

/// Tells whether a field belongs to one connection (RFC 9110 section 7.6.1).
fn is_of_connection(name: &HeaderName) -> bool {
    [&CONNECTION, &KEEP_ALIVE, &PROXY_CONNECTION, &TE, &TRANSFER_ENCODING, &UPGRADE, &HTTP2_SETTINGS]
        .contains(&name)
}

/// Tells whether a field is one that we write, or take away, whatever the caller sent.
fn is_ours(name: &HeaderName) -> bool {
    [&HOST, &CONTENT_LENGTH, &EXPECT, &FORWARDED, &VIA, &REQUEST_ID, &TRACEPARENT, &TRACESTATE, &PROXY_AUTHORIZATION]
        .contains(&name)
        || name.as_str().starts_with("x-forwarded-")
        || name.as_str() == "x-real-ip"
        // `X_Forwarded_For` is what many servers make of both.
        || name.as_str().contains('_')
}

/// Tells whether a field is a credential that stays here.
fn is_kept(name: &HeaderName, forward: &Forward) -> bool {
    let passes = |credential| forward.settings.pass_on.contains(&credential);
    *name == API_KEY && !passes(CallerCredential::ApiKey)
        || *name == AUTHORIZATION && !passes(CallerCredential::Authorization)
        || *name == COOKIE
}

/// Returns the fields that a head names as those of its connection.
fn named(headers: &HeaderMap) -> Vec<HeaderName> {
    let values = headers.get_all(CONNECTION).iter();
    values
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok())
        .collect()
}

/// Tells whether a call has come by so often that it goes around in a circle.
pub(super) fn is_circle(headers: &HeaderMap) -> bool {
    let visits = headers.get_all(VIA).iter().filter_map(|value| value.to_str().ok());
    let visits = visits.flat_map(|value| value.split(','));
    visits.filter(|visit| visit.split_whitespace().nth(1) == Some(NAME)).count() >= MAX_VISITS
}

/// Tells whether a caller wants to go on in another protocol. `h2c` is none that anybody counts on (RFC 9113 section 3.1).
pub(super) fn wants_upgrade(headers: &HeaderMap) -> bool {
    let is_other = |value: &HeaderValue| !value.as_bytes().trim_ascii().eq_ignore_ascii_case(b"h2c");
    headers.get_all(UPGRADE).iter().any(is_other)
}

/// Makes the head that an upstream gets.
pub(super) fn to_upstream(received: &Received<'_>, forward: &Forward, trace: Option<&Trace>) -> HeaderMap {
    let from = &received.parts.headers;
    let named = if from.contains_key(CONNECTION) { named(from) } else { Vec::new() };
    let mut headers = HeaderMap::with_capacity(from.len() + forward.headers.len() + 8);
    for (name, value) in from {
        let stays = is_of_connection(name)
            || is_ours(name)
            || is_kept(name, forward)
            || named.contains(name)
            || forward.settings.drop_headers.contains(name);
        if !stays {
            headers.append(name.clone(), value.clone());
        }
    }
    if forward.settings.pass_on.contains(&CallerCredential::Cookies)
        && !named.contains(&COOKIE)
        && let Some(cookies) = Some(visible_cookies(from)).filter(|it| !it.is_empty())
        && let Ok(cookies) = HeaderValue::try_from(cookies)
    {
        headers.insert(COOKIE, cookies);
    }
    // Trailers are for whoever says that it takes them.
    if from.get_all(TE).iter().any(|it| it.as_bytes().trim_ascii().eq_ignore_ascii_case(b"trailers")) {
        headers.insert(TE, HeaderValue::from_static("trailers"));
        headers.insert(CONNECTION, HeaderValue::from_static("te"));
    }
    tell_origin(&received.origin, from, &mut headers);
    add_via(from, received.parts.version, &mut headers);
    // Where attempts are recorded, each tells its own.
    if let Some(trace) = trace {
        trace.write(&mut headers);
    }
    if let Ok(id) = HeaderValue::from_bytes(&received.request_id.to_text()) {
        headers.insert(REQUEST_ID, id);
    }
    replace(&mut headers, &forward.headers);
    headers
}

/// Tells where a call comes from: the caller, as trusted proxies tell it, and nothing that a caller could have written.
fn tell_origin(origin: &Origin<'_>, from: &HeaderMap, headers: &mut HeaderMap) {
    let (host, scheme) = (origin.host(from), origin.scheme(from));
    let address = address_text(origin.caller);
    let mut forwarded = String::with_capacity(96);
    let (before, after) = if origin.caller.is_ipv6() { ("for=\"[", "]\"") } else { ("for=", "") };
    for part in [before, &address, after] {
        forwarded.push_str(part);
    }
    if let Some(host) = host.and_then(|host| host.to_str().ok()) {
        for part in [";host=\"", host, "\""] {
            forwarded.push_str(part);
        }
    }
    forwarded.push_str(";proto=");
    forwarded.push_str(scheme);
    if let Ok(value) = HeaderValue::try_from(forwarded) {
        headers.insert(FORWARDED, value);
    }
    if let Ok(value) = HeaderValue::try_from(address) {
        headers.insert(X_FORWARDED_FOR, value);
    }
    if let Some(host) = host {
        headers.insert(X_FORWARDED_HOST, host.clone());
    }
    headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static(scheme));
}

/// Returns an address as it is displayed; of IPv4 without what displaying costs.
fn address_text(address: IpAddr) -> String {
    let IpAddr::V4(address) = address else { return address.to_string() };
    let mut text = String::with_capacity("255.255.255.255".len());
    for (place, octet) in address.octets().into_iter().enumerate() {
        if place > 0 {
            text.push('.');
        }
        text.push_str(itoa::Buffer::new().format(octet));
    }
    text
}

fn add_via(from: &HeaderMap, version: Version, headers: &mut HeaderMap) {
    for value in from.get_all(VIA) {
        headers.append(VIA, value.clone());
    }
    headers.append(VIA, HeaderValue::from_static(via(version)));
}

fn via(version: Version) -> &'static str {
    match version {
        Version::HTTP_2 => "2 tollgate",
        Version::HTTP_10 => "1.0 tollgate",
        _ => "1.1 tollgate",
    }
}

fn replace(headers: &mut HeaderMap, fields: &[(HeaderName, HeaderValue)]) {
    for (name, value) in fields {
        headers.insert(name.clone(), value.clone());
    }
}

/// Makes the head that the caller gets of the one that an upstream sent.
pub(super) fn to_caller(head: &mut http::response::Parts, forward: &Forward, defaults: &HeaderMap) {
    let headers = &mut head.headers;
    if headers.contains_key(CONNECTION) {
        for name in named(headers) {
            headers.remove(name);
        }
    }
    // `Tollgate-Error` is ours alone: by it a caller tells our answers from an upstream's.
    remove_where(headers, |name| {
        is_of_connection(name) || [&PROXY_AUTHENTICATE, &TOLLGATE_ERROR].contains(&name)
    });
    for name in &forward.settings.drop_response_headers {
        headers.remove(name);
    }
    if matches!(head.status, http::StatusCode::NO_CONTENT | http::StatusCode::RESET_CONTENT) {
        headers.remove(CONTENT_LENGTH);
    }
    for (name, value) in defaults {
        if !headers.contains_key(name) {
            headers.append(name.clone(), value.clone());
        }
    }
    replace(headers, &forward.response_headers);
    headers.append(VIA, HeaderValue::from_static(via(head.version)));
}

/// What goes no further of the trailers of a body: whoever gets them may put them beside the head (RFC 9110 section
/// 6.5.1), where they would say what the head was not allowed to.
#[derive(Clone)]
pub(super) struct TrailerRules {
    way: Way,
    settings: Arc<ForwardSettings>,
    /// The fields that the step sets.
    set: Arc<[(HeaderName, HeaderValue)]>,
}

/// Where trailers go.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    ToUpstream,
    ToCaller,
}

// === impl TrailerRules ===

impl TrailerRules {
    pub(super) fn to_upstream(forward: &Forward) -> Self {
        Self { way: Way::ToUpstream, settings: forward.settings.clone(), set: forward.headers.clone() }
    }

    pub(super) fn to_caller(forward: &Forward) -> Self {
        Self { way: Way::ToCaller, settings: forward.settings.clone(), set: forward.response_headers.clone() }
    }

    /// The settings of the step that they are of.
    pub(super) fn settings(&self) -> &ForwardSettings {
        &self.settings
    }

    /// Takes such fields out.
    pub(super) fn clean(&self, trailers: &mut HeaderMap) {
        remove_where(trailers, |name| self.drops(name));
    }

    fn drops(&self, name: &HeaderName) -> bool {
        let of_way = match self.way {
            Way::ToUpstream => {
                is_ours(name) || look_alikes::is_look_alike(name) || self.settings.drop_headers.contains(name)
            }
            Way::ToCaller => {
                name.as_str().starts_with("access-control-")
                    || self.settings.drop_response_headers.contains(name)
            }
        };
        of_way
            || is_of_connection(name)
            || HEAD_ONLY.contains(name)
            || self.set.iter().any(|(set, _)| set == name)
    }
}
