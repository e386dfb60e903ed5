//! Triggers: how a pipeline starts, and the switches that say what its callers must show.

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::de::{Error as _, Unexpected};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

mod routes;
mod schedule;

pub use routes::{ParseRouteError, RoutePath, RouteSegment};
pub use schedule::{CronExpression, ParseScheduleError, SchedulerTrigger};

/// How a pipeline starts.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(tag = "type", rename_all = "camelCase")]
pub enum Trigger {
    /// An HTTP endpoint that speaks JSON.
    Rest(HttpTrigger),
    /// An HTTP endpoint for any content type.
    Http(HttpTrigger),
    /// Starts by the clock; exposes nothing.
    Scheduler(SchedulerTrigger),
}

/// The settings of a trigger that exposes an HTTP endpoint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct HttpTrigger {
    /// Methods that the endpoint offers.
    pub methods: Methods,
    /// Reachable on the environment's external listener.
    pub external_api: bool,
    /// Reachable on the environment's internal listener.
    pub internal_api: bool,
    /// Demands an API key of an associated consumer.
    pub api_key: ApiKeySwitch,
    /// Demands a token in `Authorization: Bearer`.
    pub jwt: JwtSwitch,
    /// Demands HTTP Basic credentials of an associated consumer.
    pub basic_auth: bool,
    /// Longest run of the flow, in milliseconds: 1 to 900000.
    pub timeout_ms: TimeoutMs,
    /// Longest request body, in bytes.
    pub max_request_bytes: MaxRequestBytes,
    /// Further routes under `/pipeline/{realm}/v{major}`, or at the root with `removePrefix`.
    pub routes: Vec<Route>,
    /// Puts the additional routes at the root of the listener.
    pub remove_prefix: bool,
    /// Limits how often each caller may call.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate_limit: Option<RateLimit>,
    /// Answers browsers of other origins (Fetch standard, CORS protocol).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cors: Option<Cors>,
    /// Headers that every response of the flow carries.
    pub response_headers: HeaderFields,
    /// `http` only: request content types taken, such as `text/*`; all when empty.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "media_types")]
    pub request_content_types: Vec<String>,
    /// `http` only: content type of the response when the flow sets none.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "media_type")]
    pub response_content_type: Option<String>,
}

/// HTTP methods that a trigger can offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
#[expect(missing_docs, reason = "each variant is the method of its name (RFC 9110 section 9, RFC 5789)")]
pub enum Method {
    Get,
    Head,
    Post,
    Put,
    Patch,
    Delete,
    Options,
}

/// The methods of an endpoint: at least one, none twice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(transparent)]
#[schemars(extend("minItems" = 1, "uniqueItems" = true))]
pub struct Methods(Vec<Method>);

/// Whether an API key is demanded: `true`, `false`, or `{ query: true }` for callers that can only send it in
/// the URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, JsonSchema)]
#[schemars(untagged)]
pub enum ApiKeySwitch {
    /// No key is demanded.
    #[default]
    #[schemars(with = "bool")]
    Off,
    /// A key is demanded in the `apikey` header.
    #[schemars(with = "bool")]
    On,
    /// A key is demanded, in the `apikey` header or the `apikey` query parameter.
    #[schemars(with = "ApiKeyOptions")]
    OnWithQuery,
}

/// The long form of [`ApiKeySwitch`].
#[derive(Debug, Clone, Copy, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ApiKeyOptions {
    /// Takes the key from the query parameter `apikey` too.
    query: bool,
}

/// Whether a token is demanded: `true`, `false`, or `{ scopes: [...] }`.
#[derive(Debug, Clone, PartialEq, Eq, Default, JsonSchema)]
#[schemars(untagged)]
pub enum JwtSwitch {
    /// No token is demanded.
    #[default]
    #[schemars(with = "bool")]
    Off,
    /// A token with these scopes is demanded.
    #[schemars(with = "JwtOptions")]
    On(Vec<Scope>),
}

/// The long form of [`JwtSwitch`].
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct JwtOptions {
    /// Scopes that the token must all carry.
    #[serde(default)]
    scopes: Vec<Scope>,
}

/// A scope: one or more visible ASCII characters except `"` and `\` (RFC 6749 section 3.3).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, JsonSchema)]
#[serde(transparent)]
#[schemars(extend("pattern" = "^[!#-\\[\\]-~]{1,128}$"))]
pub struct Scope(Box<str>);

/// Longest run of a flow in milliseconds: 1 to 900000.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(transparent)]
pub struct TimeoutMs(#[schemars(range(min = 1, max = 900_000))] u32);

/// Longest request body in bytes: 0 to 104857600.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(transparent)]
pub struct MaxRequestBytes(#[schemars(range(max = 104_857_600))] u64);

/// An additional route: a path, or a path with its own methods and scopes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Route {
    /// Where the route answers; segments that begin with `:` are parameters.
    pub path: RoutePath,
    /// The methods of this route; the trigger's when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub methods: Option<Methods>,
    /// Scopes that the token must carry besides the trigger's.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub scopes: Vec<Scope>,
}

/// How often each caller may call, in several intervals at once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RateLimit {
    /// Whose calls are counted together.
    #[serde(default)]
    pub by: RateLimitBy,
    /// The limits; a call must fit all of them.
    pub limits: Limits,
}

/// Whose calls a rate limit counts together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum RateLimitBy {
    /// All calls of one consumer.
    #[default]
    Consumer,
    /// All calls with one API key or Basic Auth credential.
    Credential,
}

/// One to five limits, none with the interval of another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(transparent)]
#[schemars(extend("minItems" = 1, "maxItems" = 5))]
pub struct Limits(Vec<Limit>);

/// So many calls per interval.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Limit {
    /// The interval.
    pub interval: Interval,
    /// Calls per interval, at least 1.
    pub limit: std::num::NonZeroU32,
}

/// An interval of a rate limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Interval {
    /// 1 second.
    Second,
    /// 60 seconds.
    Minute,
    /// 3600 seconds.
    Hour,
    /// 86400 seconds.
    Day,
    /// 30 days.
    Month,
}

/// What pages of other origins may do (Fetch standard, CORS protocol).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Cors {
    /// Origins such as `https://shop.example`, or `*`.
    #[serde(deserialize_with = "origins")]
    pub allow_origins: Vec<String>,
    /// Methods that pages may use; the trigger's when empty.
    #[serde(default)]
    pub allow_methods: Vec<Method>,
    /// Request headers that pages may send.
    #[serde(default, deserialize_with = "header_names")]
    pub allow_headers: Vec<String>,
    /// Response headers that pages may read.
    #[serde(default, deserialize_with = "header_names")]
    pub expose_headers: Vec<String>,
    /// How long browsers may remember the answer, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_age_seconds: Option<u32>,
}

/// Response header fields: valid names and values (RFC 9110 section 5), none that belongs to the connection.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, JsonSchema)]
#[serde(transparent)]
pub struct HeaderFields(IndexMap<String, String>);

// === impl Trigger ===

impl Trigger {
    /// Returns the type's name as written in a file.
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Rest(_) => "rest",
            Self::Http(_) => "http",
            Self::Scheduler(_) => "scheduler",
        }
    }

    /// Returns the HTTP settings, when the trigger has any.
    pub fn http(&self) -> Option<&HttpTrigger> {
        match self {
            Self::Rest(http) | Self::Http(http) => Some(http),
            Self::Scheduler(_) => None,
        }
    }

    /// Returns the HTTP settings for a change, when the trigger has any.
    pub fn http_mut(&mut self) -> Option<&mut HttpTrigger> {
        match self {
            Self::Rest(http) | Self::Http(http) => Some(http),
            Self::Scheduler(_) => None,
        }
    }

    /// Tells whether anybody can reach the pipeline by HTTP.
    pub fn is_exposed(&self) -> bool {
        self.http().is_some_and(|http| http.external_api || http.internal_api)
    }
}

/// Types of triggers, as written in files.
pub const TRIGGER_TYPES: [&str; 3] = ["rest", "http", "scheduler"];

/// Types that design and files know, but this version does not run.
const LATER_TRIGGER_TYPES: [&str; 2] = ["httpFile", "event"];

impl<'de> Deserialize<'de> for Trigger {
    /// Reads a trigger whose `type` comes first, which is how triggers are written out and how
    /// [`crate::document`] hands them in whatever their order in the file. Reading straight through, instead of
    /// by serde's buffering for tagged enums, keeps the position of errors.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Trigger;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a trigger: a map with a `type`, for example { type: rest, externalApi: true }")
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Trigger, A::Error> {
                if map.next_key::<String>()?.as_deref() != Some("type") {
                    return Err(A::Error::custom(
                        "the trigger has no `type`: write one of rest, http, scheduler",
                    ));
                }
                let name: String = map.next_value()?;
                let rest = serde::de::value::MapAccessDeserializer::new(map);
                match name.as_str() {
                    "rest" => {
                        let http = HttpTrigger::deserialize(rest)?;
                        if !http.request_content_types.is_empty() || http.response_content_type.is_some() {
                            return Err(A::Error::custom(
                                "a `rest` trigger speaks JSON: take out requestContentTypes and \
                                 responseContentType, or use type `http`",
                            ));
                        }
                        one_use_of_authorization(&http).map_err(A::Error::custom)?;
                        Ok(Trigger::Rest(http))
                    }
                    "http" => {
                        let http = HttpTrigger::deserialize(rest)?;
                        one_use_of_authorization(&http).map_err(A::Error::custom)?;
                        Ok(Trigger::Http(http))
                    }
                    "scheduler" => SchedulerTrigger::deserialize(rest).map(Trigger::Scheduler),
                    later if LATER_TRIGGER_TYPES.contains(&later) => Err(A::Error::custom(format!(
                        "trigger type `{later}` is not in this version of Tollgate: use one of {}",
                        TRIGGER_TYPES.join(", ")
                    ))),
                    other => Err(A::Error::unknown_variant(other, &TRIGGER_TYPES)),
                }
            }
        }
        deserializer.deserialize_map(Visitor)
    }
}

fn one_use_of_authorization(http: &HttpTrigger) -> Result<(), &'static str> {
    if http.basic_auth && http.jwt.is_on() {
        return Err("basicAuth and jwt both need the `Authorization` header: turn one of them off");
    }
    Ok(())
}

// === impl HttpTrigger ===

impl Default for HttpTrigger {
    fn default() -> Self {
        Self {
            methods: Methods::default(),
            external_api: false,
            internal_api: false,
            api_key: ApiKeySwitch::Off,
            jwt: JwtSwitch::Off,
            basic_auth: false,
            timeout_ms: TimeoutMs::default(),
            max_request_bytes: MaxRequestBytes::default(),
            routes: Vec::new(),
            remove_prefix: false,
            rate_limit: None,
            cors: None,
            response_headers: HeaderFields::default(),
            request_content_types: Vec::new(),
            response_content_type: None,
        }
    }
}

// === impl Method ===

impl Method {
    /// All methods, in the order in which `Allow` lists them.
    pub const ALL: [Self; 7] =
        [Self::Get, Self::Head, Self::Post, Self::Put, Self::Patch, Self::Delete, Self::Options];

    /// Returns the method as it stands in a request line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
            Self::Options => "OPTIONS",
        }
    }
}

// === impl Methods ===

impl Methods {
    /// Builds the set from a list.
    ///
    /// # Errors
    ///
    /// A sentence when the list is empty or names a method twice.
    pub fn parse(methods: Vec<Method>) -> Result<Self, &'static str> {
        let mut seen = Vec::new();
        for method in &methods {
            if seen.contains(method) {
                return Err("a method is named twice: name each once");
            }
            seen.push(*method);
        }
        if seen.is_empty() {
            Err("no method is named: name at least one, for example [GET]")
        } else {
            Ok(Self(methods))
        }
    }

    /// Returns the methods in the order written.
    pub fn as_slice(&self) -> &[Method] {
        &self.0
    }

    /// Tells whether a method is offered.
    pub fn contains(&self, method: Method) -> bool {
        self.0.contains(&method)
    }
}

impl Default for Methods {
    fn default() -> Self {
        Self(vec![Method::Get, Method::Post])
    }
}

impl<'de> Deserialize<'de> for Methods {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(Vec::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

// === impl ApiKeySwitch ===

impl ApiKeySwitch {
    /// Tells whether a key is demanded.
    pub fn is_on(self) -> bool {
        self != Self::Off
    }
}

impl Serialize for ApiKeySwitch {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Off => serializer.serialize_bool(false),
            Self::On => serializer.serialize_bool(true),
            Self::OnWithQuery => ApiKeyOptions { query: true }.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for ApiKeySwitch {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(match bool_or_map::<D, ApiKeyOptions>(deserializer, "true, false or { query: true }")? {
            BoolOr::Bool(false) => Self::Off,
            BoolOr::Bool(true) | BoolOr::Map(ApiKeyOptions { query: false }) => Self::On,
            BoolOr::Map(ApiKeyOptions { query: true }) => Self::OnWithQuery,
        })
    }
}

// === impl JwtSwitch ===

impl JwtSwitch {
    /// Tells whether a token is demanded.
    pub fn is_on(&self) -> bool {
        matches!(self, Self::On(_))
    }

    /// Returns the scopes that the token must carry; none when no token is demanded.
    pub fn scopes(&self) -> &[Scope] {
        match self {
            Self::Off => &[],
            Self::On(scopes) => scopes,
        }
    }
}

impl Serialize for JwtSwitch {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Off => serializer.serialize_bool(false),
            Self::On(scopes) if scopes.is_empty() => serializer.serialize_bool(true),
            Self::On(scopes) => JwtOptions { scopes: scopes.clone() }.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for JwtSwitch {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(match bool_or_map::<D, JwtOptions>(deserializer, "true, false or { scopes: [...] }")? {
            BoolOr::Bool(false) => Self::Off,
            BoolOr::Bool(true) => Self::On(Vec::new()),
            BoolOr::Map(JwtOptions { scopes }) => Self::On(scopes),
        })
    }
}

// === impl Scope ===

impl Scope {
    /// Parses a scope.
    ///
    /// # Errors
    ///
    /// A sentence when the input is empty, longer than 128 characters, or holds a space, `"`, `\` or a
    /// character outside visible ASCII.
    pub fn parse(input: &str) -> Result<Self, &'static str> {
        let visible = |b: u8| (0x21..=0x7e).contains(&b) && b != b'"' && b != b'\\';
        if input.is_empty() || input.len() > 128 || !input.bytes().all(visible) {
            return Err("a scope is 1 to 128 visible ASCII characters without space, `\"` and `\\`, \
                        for example `catalog:read`");
        }
        Ok(Self(input.into()))
    }

    /// Returns the scope as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<'de> Deserialize<'de> for Scope {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

// === impl TimeoutMs ===

impl TimeoutMs {
    /// The longest timeout: 15 minutes.
    pub const MAX: u32 = 900_000;

    /// The default wait for a connection: 5 seconds.
    pub const CONNECT: Self = Self(5_000);

    /// Returns the timeout in milliseconds.
    pub fn get(self) -> u32 {
        self.0
    }
}

impl Default for TimeoutMs {
    fn default() -> Self {
        Self(30_000)
    }
}

impl<'de> Deserialize<'de> for TimeoutMs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = u64::deserialize(deserializer)?;
        u32::try_from(value)
            .ok()
            .filter(|ms| (1..=Self::MAX).contains(ms))
            .map(Self)
            .ok_or_else(|| D::Error::invalid_value(Unexpected::Unsigned(value), &"1 to 900000 milliseconds"))
    }
}

// === impl MaxRequestBytes ===

impl MaxRequestBytes {
    /// The largest body that is read into memory: 100 MiB.
    pub const MAX: u64 = 100 << 20;

    /// Returns the limit in bytes.
    pub fn get(self) -> u64 {
        self.0
    }
}

impl Default for MaxRequestBytes {
    fn default() -> Self {
        Self(5 << 20)
    }
}

impl<'de> Deserialize<'de> for MaxRequestBytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = u64::deserialize(deserializer)?;
        if value > Self::MAX {
            return Err(D::Error::invalid_value(Unexpected::Unsigned(value), &"0 to 104857600 bytes"));
        }
        Ok(Self(value))
    }
}

// === impl Route ===

/// The long form of [`Route`].
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RouteOptions {
    /// Where the route answers; segments that begin with `:` are parameters.
    path: RoutePath,
    /// The methods of this route; the trigger's when absent.
    methods: Option<Methods>,
    /// Scopes that the token must carry besides the trigger's.
    #[serde(default)]
    scopes: Vec<Scope>,
}

impl<'de> Deserialize<'de> for Route {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Route;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a path, or { path, methods, scopes }")
            }

            fn visit_str<E: serde::de::Error>(self, path: &str) -> Result<Route, E> {
                let path = RoutePath::parse(path).map_err(E::custom)?;
                Ok(Route { path, methods: None, scopes: Vec::new() })
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(self, map: A) -> Result<Route, A::Error> {
                let RouteOptions { path, methods, scopes } =
                    RouteOptions::deserialize(serde::de::value::MapAccessDeserializer::new(map))?;
                Ok(Route { path, methods, scopes })
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl JsonSchema for Route {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Route".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let short = generator.subschema_for::<RoutePath>();
        let long = generator.subschema_for::<RouteOptions>();
        schemars::json_schema!({ "anyOf": [short, long] })
    }
}

// === impl Limits ===

impl Limits {
    /// Returns the limits in the order written.
    pub fn as_slice(&self) -> &[Limit] {
        &self.0
    }
}

impl<'de> Deserialize<'de> for Limits {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let limits = Vec::<Limit>::deserialize(deserializer)?;
        let mut intervals: Vec<_> = limits.iter().map(|limit| limit.interval).collect();
        intervals.sort_unstable();
        intervals.dedup();
        if limits.is_empty() {
            return Err(D::Error::custom("no limit is given: write at least one { interval, limit }"));
        }
        if intervals.len() != limits.len() {
            return Err(D::Error::custom("an interval has two limits: give each interval one"));
        }
        Ok(Self(limits))
    }
}

// === impl Interval ===

impl Interval {
    /// Returns the length in seconds.
    pub fn seconds(self) -> u64 {
        match self {
            Self::Second => 1,
            Self::Minute => 60,
            Self::Hour => 3_600,
            Self::Day => 86_400,
            Self::Month => 30 * 86_400,
        }
    }
}

// === impl HeaderFields ===

impl HeaderFields {
    /// Returns the fields in the order written, names in lower case.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Tells whether there are no fields.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Header fields that a flow or a trigger may not set: they belong to the connection or to the gateway.
pub const RESERVED_RESPONSE_HEADERS: [&str; 10] = [
    "connection",
    "content-length",
    "date",
    "keep-alive",
    "proxy-connection",
    "te",
    "tollgate-error",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

impl<'de> Deserialize<'de> for HeaderFields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut fields = IndexMap::new();
        for (name, value) in IndexMap::<String, String>::deserialize(deserializer)? {
            let name = http::HeaderName::try_from(name.as_str())
                .map_err(|_| D::Error::custom(format!("`{name}` is not a header name")))?;
            if RESERVED_RESPONSE_HEADERS.contains(&name.as_str()) {
                return Err(D::Error::custom(format!("header `{name}` is set by the gateway: leave it out")));
            }
            http::HeaderValue::try_from(value.as_str()).map_err(|_| {
                D::Error::custom(format!("the value of header `{name}` holds a forbidden character"))
            })?;
            if fields.insert(name.as_str().to_owned(), value).is_some() {
                return Err(D::Error::custom(format!("header `{name}` is named twice")));
            }
        }
        Ok(Self(fields))
    }
}

// === texts that end up in headers ===

/// Reads a list of texts that each pass a check; what is wrong is said of the list.
fn checked<'de, D: Deserializer<'de>>(
    deserializer: D,
    is_right: fn(&str) -> bool,
    what: &str,
) -> Result<Vec<String>, D::Error> {
    let texts = Vec::<String>::deserialize(deserializer)?;
    match texts.iter().find(|text| !is_right(text)) {
        Some(wrong) => Err(D::Error::custom(format!("`{}` is not {what}", wrong.escape_debug()))),
        None => Ok(texts),
    }
}

/// A media type (RFC 9110 section 8.3.1): `type/subtype`, parameters behind it.
fn is_media_type(text: &str) -> bool {
    let essence = text.split(';').next().unwrap_or_default().trim();
    let token = |part: &str| http::HeaderName::try_from(part).is_ok();
    essence.split_once('/').is_some_and(|(kind, subtype)| token(kind) && token(subtype))
        && http::HeaderValue::try_from(text).is_ok()
}

/// An origin as browsers send it (RFC 6454 section 6.2), or `*`.
fn is_origin(text: &str) -> bool {
    let host = |host: &str| {
        !host.is_empty()
            && host
                .bytes()
                .all(|b| b.is_ascii_graphic() && !b.is_ascii_uppercase() && !b"/?#@,\\".contains(&b))
    };
    matches!(text, "*" | "null")
        || text.split_once("://").is_some_and(|(scheme, rest)| host(scheme) && host(rest))
}

fn media_types<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    checked(deserializer, is_media_type, "a content type: write for example `text/plain` or `text/*`")
}

fn media_type<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    match text {
        Some(wrong) if !is_media_type(&wrong) => Err(D::Error::custom(format!(
            "`{}` is not a content type: write for example `text/xml; charset=utf-8`",
            wrong.escape_debug()
        ))),
        text => Ok(text),
    }
}

fn origins<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    checked(
        deserializer,
        is_origin,
        "an origin: write scheme, host and port as browsers send them, for example `https://shop.example`, or `*`",
    )
}

fn header_names<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    checked(deserializer, |text| http::HeaderName::try_from(text).is_ok(), "a header name")
}

// === bool or map ===

enum BoolOr<T> {
    Bool(bool),
    Map(T),
}

/// Reads a switch that is either a boolean or a map of options; keeps the position of errors inside the map.
fn bool_or_map<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
    expecting: &'static str,
) -> Result<BoolOr<T>, D::Error> {
    struct Visitor<T>(&'static str, std::marker::PhantomData<T>);
    impl<'de, T: Deserialize<'de>> serde::de::Visitor<'de> for Visitor<T> {
        type Value = BoolOr<T>;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str(self.0)
        }

        fn visit_bool<E: serde::de::Error>(self, value: bool) -> Result<Self::Value, E> {
            Ok(BoolOr::Bool(value))
        }

        fn visit_map<A: serde::de::MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
            T::deserialize(serde::de::value::MapAccessDeserializer::new(map)).map(BoolOr::Map)
        }
    }
    deserializer.deserialize_any(Visitor(expecting, std::marker::PhantomData))
}
