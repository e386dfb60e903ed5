//! Whom a step calls: what of a URL a caller can never choose.
//!
//! Who is called stands in the pipeline or in the environment's globals and accounts. What comes from a message is
//! percent-encoded where it stands in the URL, so that it stays one segment of the path or one value of the query; a
//! value that is `.` or `..` is refused.

use std::sync::Arc;
use std::time::Duration;

use http::Uri;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use tollgate_model::steps::UpstreamSettings;
use tollgate_model::triggers::TimeoutMs;

use crate::expressions::Scope;
use crate::health::Upstream;
use crate::host::UpstreamCall;
use crate::templates::{Part, TemplateError, TextTemplate, write_value};
use crate::upstreams::MakeRequestError;

/// All but the unreserved characters of RFC 3986 section 2.3.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Whom a step calls, compiled.
#[derive(Debug)]
pub(crate) struct Targets {
    urls: Vec<TextTemplate>,
    ca_certificates: Option<TextTemplate>,
    connect_timeout: Duration,
    http2: bool,
    upstream: Arc<Upstream>,
    /// The call, where it is always the same.
    constant: Option<UpstreamCall>,
}

// === impl Targets ===

impl Targets {
    /// Compiles the URLs of a step.
    pub(crate) fn compile(
        urls: Result<Vec<(&str, u32)>, &'static str>,
        connect_timeout: TimeoutMs,
        settings: &UpstreamSettings,
    ) -> Result<Self, TemplateError> {
        let urls = urls.map_err(|message| ("/url".to_owned(), message.to_owned()))?;
        let weights: Vec<u32> = urls.iter().map(|(_, weight)| *weight).collect();
        let is_one = urls.len() == 1;
        let urls = urls
            .into_iter()
            .enumerate()
            .map(|(index, (url, _))| {
                let at = if is_one { "/url".to_owned() } else { format!("/targets/{index}/url") };
                let url = TextTemplate::parse(url).map_err(|message| (at.clone(), message))?;
                check_url(&url).map_err(|message| (at, message))?;
                Ok(url)
            })
            .collect::<Result<Vec<_>, TemplateError>>()?;
        let at = |message| ("/upstream/caCertificates".to_owned(), message);
        let ca_certificates = match &settings.ca_certificates {
            None => None,
            Some(text) => Some(TextTemplate::parse(text).and_then(trusted).map_err(at)?),
        };
        let mut targets = Self {
            urls,
            ca_certificates,
            connect_timeout: Duration::from_millis(connect_timeout.get().into()),
            http2: settings.http2,
            upstream: Upstream::new(&weights, settings),
            constant: None,
        };
        let certificates = targets.ca_certificates.as_ref().map(TextTemplate::literal);
        let urls: Option<Vec<Uri>> =
            targets.urls.iter().map(|url| url.literal().and_then(|url| parse(&url).ok())).collect();
        if let Some(urls) = urls
            && let Some(certificates) = certificates.map_or(Some(None), |it| it.map(Some))
        {
            targets.constant = Some(targets.call(urls, certificates));
        }
        Ok(targets)
    }

    /// Returns the call, where it is always the same.
    pub(crate) fn constant(&self) -> Option<&UpstreamCall> {
        self.constant.as_ref()
    }

    /// Tells whether some URL has a query of its own.
    pub(crate) fn have_query(&self) -> bool {
        let has_query = |part: &Part| matches!(part, Part::Literal(text) if text.contains('?'));
        self.urls.iter().any(|url| url.parts.iter().any(has_query))
    }

    /// Makes the call of a message; `query` is put behind each URL.
    pub(crate) fn make(&self, scope: &Scope<'_>, query: &str) -> Result<UpstreamCall, MakeRequestError> {
        if let Some(constant) = self.constant.as_ref().filter(|_| query.is_empty()) {
            return Ok(constant.clone());
        }
        let urls = self.urls.iter().map(|url| {
            let mut url = make_url(url, scope)?;
            if !query.is_empty() {
                url.push(if url.contains('?') { '&' } else { '?' });
                url.push_str(query);
            }
            parse(&url)
        });
        let urls = urls.collect::<Result<Vec<_>, _>>()?;
        let certificates = self.ca_certificates.as_ref().map(|it| it.text(scope)).transpose()?;
        Ok(self.call(urls, certificates))
    }

    fn call(&self, urls: Vec<Uri>, certificates: Option<String>) -> UpstreamCall {
        UpstreamCall {
            urls: urls.into(),
            upstream: self.upstream.clone(),
            connect_timeout: self.connect_timeout,
            http2: self.http2,
            ca_certificates: certificates.map(Arc::from),
        }
    }
}

/// Reads a URL that can be called: `http` or `https`, a host, and no credentials, which would go into a log.
fn parse(url: &str) -> Result<Uri, MakeRequestError> {
    let uri = url.parse::<Uri>().map_err(|_| MakeRequestError::Url)?;
    let is_http = matches!(uri.scheme_str(), Some("http" | "https"));
    let has_host = uri.authority().is_some_and(|it| !it.host().is_empty() && !it.as_str().contains('@'));
    if is_http && has_host { Ok(uri) } else { Err(MakeRequestError::Url) }
}

fn trusted(template: TextTemplate) -> Result<TextTemplate, String> {
    let is_trusted = |part: &Part| match part {
        Part::Literal(_) => true,
        Part::Expression(expression) => expression.is_trusted(),
    };
    if template.parts.iter().all(is_trusted) {
        Ok(template)
    } else {
        Err("a caller could choose who is trusted: write the certificates, or a value of globals or accounts"
            .to_owned())
    }
}

fn make_url(template: &TextTemplate, scope: &Scope<'_>) -> Result<String, MakeRequestError> {
    let mut url = String::new();
    for (i, part) in template.parts.iter().enumerate() {
        match part {
            Part::Literal(text) => url.push_str(text),
            Part::Expression(expression) => {
                let mut text = String::new();
                match expression.evaluate(scope)? {
                    value @ (Value::String(_) | Value::Number(_) | Value::Bool(_)) => {
                        write_value(&mut text, &value)
                    }
                    _ => return Err(MakeRequestError::UrlValue),
                }
                if i == 0 {
                    url.push_str(text.trim_end_matches('/'));
                } else if matches!(text.as_str(), "" | "." | "..") {
                    return Err(MakeRequestError::UrlValue);
                } else {
                    url.extend(utf8_percent_encode(&text, ENCODED));
                }
            }
        }
    }
    Ok(url)
}

/// Checks that no caller can choose who is called.
fn check_url(url: &TextTemplate) -> Result<(), String> {
    const SAY: &str =
        "write `http://` or `https://` and the host, or begin with a value of globals or accounts";
    match url.parts.as_slice() {
        [Part::Literal(first), rest @ ..] => {
            let authority = first
                .strip_prefix("https://")
                .or_else(|| first.strip_prefix("http://"))
                .ok_or_else(|| format!("the URL does not begin with a scheme: {SAY}"))?;
            let end = authority.find(['/', '?', '#']);
            let host = authority.get(..end.unwrap_or(authority.len())).unwrap_or_default();
            if host.is_empty() || host.contains('@') || host.contains(char::is_whitespace) {
                return Err(format!("the URL names no host: {SAY}"));
            }
            if end.is_none() && !rest.is_empty() {
                return Err(format!(
                    "an expression stands in the host of the URL: {SAY}, and end the host with `/`"
                ));
            }
            // Every value is percent-encoded when it is put in, so any such text shows whether the rest is a URL.
            let sample: String = url
                .parts
                .iter()
                .map(|part| if let Part::Literal(text) = part { text.as_str() } else { "x" })
                .collect();
            let uri = sample.parse::<http::Uri>().ok();
            let authority = uri.as_ref().and_then(http::Uri::authority);
            if !authority.is_some_and(|it| {
                !it.host().is_empty() && (it.port_u16().is_some() || it.as_str() == it.host())
            }) {
                return Err("the URL is none that can be called: write ASCII without spaces, others percent-encoded, \
                            and a port from 0 to 65535, if any"
                    .to_owned());
            }
            Ok(())
        }
        [Part::Expression(first), rest @ ..] if first.is_trusted() => match rest.first() {
            None => Ok(()),
            Some(Part::Literal(text)) if text.starts_with(['/', '?']) => Ok(()),
            Some(_) => Err("put a `/` after the value that the URL begins with".to_owned()),
        },
        [Part::Expression(_), ..] => Err(format!("a caller could choose the host of the URL: {SAY}")),
        [] => Err(format!("the URL is empty: {SAY}")),
    }
}
