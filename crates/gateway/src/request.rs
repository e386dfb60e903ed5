//! Reads the head of a request, and refuses what two programs could read in two ways.
//!
//! A gateway and the server behind it that disagree about a path, a header or the end of a body are how checks are
//! walked around. So a request is taken only when it has one reading; nothing is repaired. Paths are matched as they
//! were sent: `%61` never becomes `a` before a route is looked up, so an encoded path finds no route.

use http::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HOST, ORIGIN, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue};
use percent_encoding::percent_decode_str;
use tollgate_model::explanations::Check;
use tollgate_model::triggers::Method;

use crate::problem::{Code, Problem};

/// The header that carries an API key.
pub(crate) const API_KEY: HeaderName = HeaderName::from_static("apikey");

/// The query parameter that carries an API key where the trigger takes one there.
pub(crate) const API_KEY_PARAMETER: &str = "apikey";

/// How much of a head is taken.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HeadLimits {
    /// Longest path and query together, in bytes.
    pub(crate) uri_bytes: usize,
    /// Names and values of all fields together, in bytes.
    pub(crate) header_bytes: usize,
}

/// The head of a request that has one reading. No `Debug`: it holds credentials.
pub(crate) struct Head<'a> {
    /// Begins with `/`; as sent, still percent-encoded.
    pub(crate) path: &'a str,
    /// Without the `?`, as sent.
    pub(crate) query: &'a str,
    /// `None` for a method that no trigger can offer.
    pub(crate) method: Option<Method>,
    /// The `apikey` header, when there is one and it is not empty.
    pub(crate) api_key: Option<&'a HeaderValue>,
    /// The `Authorization` header.
    pub(crate) authorization: Option<&'a HeaderValue>,
    /// The `Origin` header.
    pub(crate) origin: Option<&'a HeaderValue>,
    /// The declared length of the body, in bytes.
    pub(crate) content_length: Option<u64>,
}

/// The fields that the gateway reads itself. Each may be there once.
#[derive(Default)]
struct Fields<'a> {
    host: Option<&'a HeaderValue>,
    api_key: Option<&'a HeaderValue>,
    authorization: Option<&'a HeaderValue>,
    content_length: Option<&'a HeaderValue>,
    coding: Option<&'a HeaderValue>,
    content_type: Option<&'a HeaderValue>,
    origin: Option<&'a HeaderValue>,
    /// Names and values of all fields together.
    bytes: usize,
    /// What is there more than once.
    twice: Option<&'static str>,
}

// === impl Head ===

impl<'a> Head<'a> {
    /// Reads a head.
    pub(crate) fn read(parts: &'a http::request::Parts, limits: HeadLimits) -> Result<Self, Problem> {
        let (uri, headers) = (&parts.uri, &parts.headers);
        if uri.path_and_query().is_some_and(|it| it.as_str().len() > limits.uri_bytes) {
            return Err(Problem::new(Code::UriTooLong).close());
        }
        let fields = Fields::of(headers);
        if fields.bytes > limits.header_bytes {
            return Err(Problem::new(Code::HeadersTooLarge).close());
        }
        check_path(uri.path())?;
        check_encoding(uri.query().unwrap_or_default())?;
        if let Some(twice) = fields.twice {
            return Err(Problem::malformed(twice));
        }
        check_host(uri, fields.host)?;
        if fields.content_length.is_some() && fields.coding.is_some() {
            return Err(Problem::malformed("Content-Length and Transfer-Encoding contradict each other"));
        }
        // hyper reads any list that ends in `chunked`; what is before it is not decoded, or is chunked twice.
        if fields.coding.is_some_and(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"chunked")) {
            return Err(Problem::malformed("the only Transfer-Encoding is `chunked`"));
        }
        Ok(Self {
            path: uri.path(),
            query: uri.query().unwrap_or_default(),
            method: known(&parts.method),
            api_key: fields.api_key.filter(|key| !key.is_empty()),
            authorization: fields.authorization,
            origin: fields.origin,
            content_length: fields.content_length.map(parse_length).transpose()?,
        })
    }

    /// Returns the API key of the query, when there is one and it is not empty.
    pub(crate) fn query_api_key(&self) -> Result<Option<String>, Problem> {
        let mut keys =
            form_urlencoded::parse(self.query.as_bytes()).filter(|(name, _)| name == API_KEY_PARAMETER);
        let key = keys.next().map(|(_, key)| key.into_owned());
        if keys.next().is_some() || (key.is_some() && self.api_key.is_some()) {
            return Err(Problem::malformed("there are two API keys"));
        }
        Ok(key.filter(|key| !key.is_empty()))
    }
}

/// Decodes a segment of a path that [`Head::read`] took.
pub(crate) fn decode_segment(segment: &str) -> Result<String, Problem> {
    let decoded = percent_decode_str(segment).decode_utf8();
    decoded
        .map(std::borrow::Cow::into_owned)
        .map_err(|_| Problem::malformed("the path is not UTF-8").at(Check::FlowReady))
}

// === impl Fields ===

impl<'a> Fields<'a> {
    fn of(headers: &'a HeaderMap) -> Self {
        let mut it = Self::default();
        for (name, value) in headers {
            it.bytes += name.as_str().len() + value.len();
            let (field, twice) = match name {
                name if *name == HOST => (&mut it.host, "there are two Host headers"),
                name if *name == API_KEY => (&mut it.api_key, "there are two apikey headers"),
                name if *name == AUTHORIZATION => {
                    (&mut it.authorization, "there are two Authorization headers")
                }
                name if *name == CONTENT_LENGTH => {
                    (&mut it.content_length, "there are two Content-Length headers")
                }
                name if *name == TRANSFER_ENCODING => {
                    (&mut it.coding, "there are two Transfer-Encoding headers")
                }
                name if *name == CONTENT_TYPE => (&mut it.content_type, "there are two Content-Type headers"),
                name if *name == ORIGIN => (&mut it.origin, "there are two Origin headers"),
                _ => continue,
            };
            if field.replace(value).is_some() {
                it.twice = Some(twice);
            }
        }
        it
    }
}

fn known(method: &http::Method) -> Option<Method> {
    use http::Method as M;
    match *method {
        M::GET => Some(Method::Get),
        M::HEAD => Some(Method::Head),
        M::POST => Some(Method::Post),
        M::PUT => Some(Method::Put),
        M::PATCH => Some(Method::Patch),
        M::DELETE => Some(Method::Delete),
        M::OPTIONS => Some(Method::Options),
        _ => None,
    }
}

fn parse_length(value: &HeaderValue) -> Result<u64, Problem> {
    value
        .to_str()
        .ok()
        .filter(|text| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()))
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| Problem::malformed("Content-Length is not a number"))
}

fn check_host(uri: &http::Uri, host: Option<&HeaderValue>) -> Result<(), Problem> {
    // The form that nearly every request has, read without an allocation.
    if uri.scheme().is_none()
        && uri.authority().is_none()
        && host.is_some_and(|host| is_plain(host.as_bytes()))
    {
        return Ok(());
    }
    let host = host
        .and_then(|host| http::uri::Authority::try_from(host.as_bytes()).ok())
        .filter(|host| !host.as_str().contains('@') && !host.host().is_empty())
        .ok_or_else(|| Problem::malformed("the Host header is missing or malformed"))?;
    if uri.scheme_str().is_some_and(|scheme| !matches!(scheme, "http" | "https")) {
        return Err(Problem::malformed("the URL is no URL of HTTP"));
    }
    match uri.authority() {
        Some(authority) if *authority != host => {
            Err(Problem::malformed("the URL contradicts the Host header"))
        }
        _ => Ok(()),
    }
}

/// Tells whether this is a name or an IPv4 address, with or without a port.
fn is_plain(host: &[u8]) -> bool {
    let mut parts = host.splitn(2, |byte| *byte == b':');
    let name = parts.next().unwrap_or_default();
    let is_name = name.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.'));
    let is_port = |port: &[u8]| (1..=5).contains(&port.len()) && port.iter().all(u8::is_ascii_digit);
    !name.is_empty() && is_name && parts.next().is_none_or(is_port)
}

fn check_path(path: &str) -> Result<(), Problem> {
    let Some(segments) = path.strip_prefix('/') else {
        return Err(Problem::malformed("the path does not begin with a slash"));
    };
    // Nearly every path has nothing in it that needs a second look. Told without a branch for each byte, so that the compiler
    // looks at several at once.
    let is_special = |byte: u8| matches!(byte, b'%' | b'.' | b'\\' | 0..0x20 | 0x7f);
    let special = path.bytes().fold(false, |found, byte| found | is_special(byte));
    let doubled = path
        .bytes()
        .zip(segments.bytes())
        .fold(false, |found, (byte, next)| found | (byte == b'/' && next == b'/'));
    if !special && !doubled {
        return Ok(());
    }
    check_encoding(path)?;
    let decoded = |segment| percent_decode_str(segment).collect::<Vec<u8>>();
    // Also where nobody reads the parameter that it stands in: whether a path is taken depends on the path alone.
    if path.contains('%') && percent_decode_str(path).decode_utf8().is_err() {
        return Err(Problem::malformed("the path is not UTF-8"));
    }
    if path.contains("//") {
        return Err(Problem::malformed("the path has an empty segment"));
    }
    // Decoding is needed only for what has a `%` or a dot in it, which most paths have not.
    if path.contains(['%', '.'])
        && segments.split('/').any(|segment| matches!(&*decoded(segment), b"." | b".."))
    {
        return Err(Problem::malformed("the path has a dot segment"));
    }
    let slash = |byte| matches!(byte, b'/' | b'\\');
    if path.contains('\\')
        || path.contains('%') && segments.split('/').any(|it| decoded(it).into_iter().any(slash))
    {
        return Err(Problem::malformed("the path has an encoded slash or a backslash"));
    }
    Ok(())
}

/// Checks that percent-encoding is complete and hides no control character.
fn check_encoding(text: &str) -> Result<(), Problem> {
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        let byte = if byte == b'%' {
            let mut digit = || bytes.next().map(char::from).and_then(|it| it.to_digit(16));
            let (Some(high), Some(low)) = (digit(), digit()) else {
                return Err(Problem::malformed("the URL has incomplete percent-encoding"));
            };
            high * 16 + low
        } else {
            u32::from(byte)
        };
        if byte < 0x20 || byte == 0x7f {
            return Err(Problem::malformed("the URL has a control character"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: HeadLimits = HeadLimits { uri_bytes: 100, header_bytes: 200 };

    fn read(uri: &str, headers: &[(&str, &str)]) -> Result<(), String> {
        let mut request = http::Request::builder().uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (parts, ()) = request.body(()).expect("the http crate takes it").into_parts();
        Head::read(&parts, LIMITS).map(|_| ()).map_err(|problem| problem.code().to_owned())
    }

    const HOST: (&str, &str) = ("host", "gateway.example:7001");

    #[test]
    fn a_plain_request_is_read() {
        for uri in [
            "/",
            "/a/b.c",
            "/a/..b",
            "/a/%C3%A4?q=%20x&y",
            "/a/%25",
            "http://gateway.example:7001/a",
            "/a?x=//..%2f",
        ] {
            assert_eq!(read(uri, &[HOST]), Ok(()), "{uri}");
        }
    }

    #[test]
    fn an_ambiguous_path_is_refused() {
        for uri in [
            "//",
            "//a",
            "/a//b",
            "/a/./b",
            "/a/..",
            "/../a",
            "/a/%2e%2e/b",
            "/a/.%2E",
            "/a%2fb",
            "/a%2Fb",
            "/a%5cb",
            "/a%5Cb",
            "/a%00",
            "/a%0d%0a",
            "/a%7f",
            "/a%",
            "/a%2",
            "/a%zz",
            "/a%ff",
            "/a%c0%af",
            "/a/%e2%82/%ac",
            "/a?%",
            "/a?x=%00",
            "*",
            "http://other.example/a",
            "http://user@gateway.example:7001/a",
            "ftp://gateway.example:7001/a",
            "gateway.example:7001",
        ] {
            assert_eq!(read(uri, &[HOST]), Err("request-malformed".to_owned()), "{uri}");
        }
    }

    #[test]
    fn a_header_that_must_be_single_is_refused_twice() {
        for twice in [
            ("apikey", "x"),
            ("authorization", "x"),
            ("host", "gateway.example:7001"),
            ("content-length", "1"),
            ("origin", "x"),
            ("transfer-encoding", "chunked"),
            ("content-type", "text/plain"),
        ] {
            assert_eq!(read("/", &[HOST, twice, twice]), Err("request-malformed".to_owned()), "{twice:?}");
        }
        assert_eq!(read("/", &[]), Err("request-malformed".to_owned()), "no Host");
        assert_eq!(read("/", &[("host", "user@gateway.example")]), Err("request-malformed".to_owned()));
    }

    #[test]
    fn a_host_is_read_in_one_way_however_it_is_written() {
        for host in ["a", "a.example", "127.0.0.1:80", "a:", "[::1]:7001", "a_b", "a:99999"] {
            assert_eq!(read("/", &[("host", host)]), Ok(()), "{host}");
        }
        for host in ["", ":80", "a b", "a/b", "a:b:c", "a@b", "a:80:80"] {
            assert_eq!(read("/", &[("host", host)]), Err("request-malformed".to_owned()), "{host}");
        }
    }

    #[test]
    fn the_end_of_the_body_has_one_reading() {
        let both = [HOST, ("content-length", "5"), ("transfer-encoding", "chunked")];
        assert_eq!(read("/", &both), Err("request-malformed".to_owned()));
        assert_eq!(read("/", &[HOST, ("transfer-encoding", "Chunked")]), Ok(()));
        for coding in ["", "identity", "gzip, chunked", "chunked, chunked", "chunked;x"] {
            let read = read("/", &[HOST, ("transfer-encoding", coding)]);
            assert_eq!(read, Err("request-malformed".to_owned()), "{coding}");
        }
        for length in ["", "+5", "-1", "5,5", "0x5", " 5", "18446744073709551616"] {
            assert_eq!(
                read("/", &[HOST, ("content-length", length)]),
                Err("request-malformed".to_owned()),
                "{length}"
            );
        }
    }

    #[test]
    fn every_method_that_a_trigger_can_offer_is_known() {
        for method in Method::ALL {
            assert_eq!(known(&method.as_str().parse().expect("a method")), Some(method));
        }
        for other in ["TRACE", "CONNECT", "get", "QUERY"] {
            assert_eq!(known(&other.parse().expect("a method")), None, "{other}");
        }
    }

    #[test]
    fn an_oversized_head_is_refused_by_its_kind() {
        assert_eq!(read(&format!("/{}", "a".repeat(100)), &[HOST]), Err("uri-too-long".to_owned()));
        assert_eq!(read("/", &[HOST, ("x", &"a".repeat(200))]), Err("headers-too-large".to_owned()));
    }
}
