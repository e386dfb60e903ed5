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

// === impl Head ===

impl<'a> Head<'a> {
    /// Reads a head.
    pub(crate) fn read(parts: &'a http::request::Parts, limits: HeadLimits) -> Result<Self, Problem> {
        let (uri, headers) = (&parts.uri, &parts.headers);
        if uri.path_and_query().is_some_and(|it| it.as_str().len() > limits.uri_bytes) {
            return Err(Problem::new(Code::UriTooLong).close());
        }
        if headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum::<usize>()
            > limits.header_bytes
        {
            return Err(Problem::new(Code::HeadersTooLarge).close());
        }
        check_path(uri.path())?;
        check_encoding(uri.query().unwrap_or_default())?;
        check_host(uri, headers)?;
        let content_length = single(headers, &CONTENT_LENGTH, "there are two Content-Length headers")?;
        let coding = single(headers, &TRANSFER_ENCODING, "there are two Transfer-Encoding headers")?;
        if content_length.is_some() && coding.is_some() {
            return Err(Problem::malformed("Content-Length and Transfer-Encoding contradict each other"));
        }
        // hyper reads any list that ends in `chunked`; what is before it is not decoded, or is chunked twice.
        if coding.is_some_and(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"chunked")) {
            return Err(Problem::malformed("the only Transfer-Encoding is `chunked`"));
        }
        single(headers, &CONTENT_TYPE, "there are two Content-Type headers")?;
        Ok(Self {
            path: uri.path(),
            query: uri.query().unwrap_or_default(),
            method: Method::ALL.into_iter().find(|method| method.as_str() == parts.method.as_str()),
            api_key: single(headers, &API_KEY, "there are two apikey headers")?.filter(|key| !key.is_empty()),
            authorization: single(headers, &AUTHORIZATION, "there are two Authorization headers")?,
            origin: single(headers, &ORIGIN, "there are two Origin headers")?,
            content_length: content_length.map(parse_length).transpose()?,
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

fn single<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
    twice: &'static str,
) -> Result<Option<&'a HeaderValue>, Problem> {
    let mut values = headers.get_all(name).iter();
    let first = values.next();
    if values.next().is_some() { Err(Problem::malformed(twice)) } else { Ok(first) }
}

fn parse_length(value: &HeaderValue) -> Result<u64, Problem> {
    value
        .to_str()
        .ok()
        .filter(|text| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()))
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| Problem::malformed("Content-Length is not a number"))
}

fn check_host(uri: &http::Uri, headers: &HeaderMap) -> Result<(), Problem> {
    let host = single(headers, &HOST, "there are two Host headers")?
        .and_then(|host| http::uri::Authority::try_from(host.as_bytes()).ok())
        .filter(|host| !host.as_str().contains('@'))
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

fn check_path(path: &str) -> Result<(), Problem> {
    let Some(segments) = path.strip_prefix('/') else {
        return Err(Problem::malformed("the path does not begin with a slash"));
    };
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
    fn an_oversized_head_is_refused_by_its_kind() {
        assert_eq!(read(&format!("/{}", "a".repeat(100)), &[HOST]), Err("uri-too-long".to_owned()));
        assert_eq!(read("/", &[HOST, ("x", &"a".repeat(200))]), Err("headers-too-large".to_owned()));
    }
}
