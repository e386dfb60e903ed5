//! Triggers: how a pipeline starts, and the switches that say what its callers must show.

use schemars::JsonSchema;
use serde::de::{Error as _, Unexpected};
use serde::{Deserialize, Deserializer, Serialize};

mod concurrency;
mod headers;
mod rate_limits;
mod routes;
mod schedule;
mod switches;

pub use concurrency::Concurrency;
pub use headers::{Cors, HeaderFields, RESERVED_RESPONSE_HEADERS};
pub use rate_limits::{Interval, Limit, Limits, RateLimit, RateLimitBy};
pub use routes::{ParseRouteError, RoutePath, RouteSegment};
pub use schedule::{CronExpression, ParseScheduleError, SchedulerTrigger};
pub use switches::{ApiKeySwitch, JwtSwitch};

use headers::{media_type, media_types};

/// How a pipeline starts.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(tag = "type", rename_all = "camelCase")]
pub enum Trigger {
    /// An HTTP endpoint that speaks JSON.
    Rest(HttpTrigger),
    /// An HTTP endpoint for any content type.
    Http(HttpTrigger),
    /// An HTTP endpoint for large uploads and downloads: bodies go through without being held, so that its flow ends in
    /// `proxy`.
    HttpFile(HttpTrigger),
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
    /// Demands a client certificate of an associated consumer, at a listener that asks for one. It counts as the consumer's
    /// API key; with `apiKey` on, too, both are demanded and must be of one consumer.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub mtls: bool,
    /// Demands a token in `Authorization: Bearer`.
    pub jwt: JwtSwitch,
    /// Demands HTTP Basic credentials of an associated consumer.
    pub basic_auth: bool,
    /// Longest run of the flow, in milliseconds: 1 to 900000.
    pub timeout_ms: TimeoutMs,
    /// Longest request body, in bytes.
    pub max_request_bytes: MaxRequestBytes,
    /// `httpFile` only, in place of `maxRequestBytes`: longest request body, in bytes; 10737418240 (10 GiB) when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_file_bytes: Option<MaxFileBytes>,
    /// Further routes under `/pipeline/{realm}/v{major}`, or at the root with `removePrefix`.
    pub routes: Vec<Route>,
    /// Puts the additional routes at the root of the listener.
    pub remove_prefix: bool,
    /// Limits how often each caller may call.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate_limit: Option<RateLimit>,
    /// Bounds how many calls run at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<Concurrency>,
    /// Answers browsers of other origins (Fetch standard, CORS protocol).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cors: Option<Cors>,
    /// Whether responses are compressed for callers that take that. When absent they are where no credentials are
    /// demanded: a response that holds a secret next to something that a caller chooses gives it away by its length (BREACH).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compress: Option<bool>,
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

/// A scope: one or more visible ASCII characters except `"` and `\` (RFC 6749 section 3.3).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, JsonSchema)]
#[serde(transparent)]
#[schemars(extend("pattern" = "^[!#-\\[\\]-~]{1,128}$"))]
pub struct Scope(Box<str>);

/// Longest run of a flow in milliseconds: 1 to 900000.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, JsonSchema)]
#[serde(transparent)]
pub struct TimeoutMs(#[schemars(range(min = 1, max = 900_000))] u32);

/// Longest request body in bytes: 0 to 104857600.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(transparent)]
pub struct MaxRequestBytes(#[schemars(range(max = 104_857_600))] u64);

/// Longest body of a file in bytes: 0 to 1099511627776 (1 TiB).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(transparent)]
pub struct MaxFileBytes(#[schemars(range(max = 1_099_511_627_776_u64))] u64);

/// An additional route: a path, or a path with its own methods and scopes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Route {
    /// Where the route answers; segments that begin with `:` are parameters, and a last one that begins with `*` is all
    /// that is left of the path.
    pub path: RoutePath,
    /// The methods of this route; the trigger's when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub methods: Option<Methods>,
    /// Scopes that the token must carry besides the trigger's.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub scopes: Vec<Scope>,
}

// === impl Trigger ===

impl Trigger {
    /// Returns the type's name as written in a file.
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Rest(_) => "rest",
            Self::Http(_) => "http",
            Self::HttpFile(_) => "httpFile",
            Self::Scheduler(_) => "scheduler",
        }
    }

    /// Returns the HTTP settings, when the trigger has any.
    pub fn http(&self) -> Option<&HttpTrigger> {
        match self {
            Self::Rest(http) | Self::Http(http) | Self::HttpFile(http) => Some(http),
            Self::Scheduler(_) => None,
        }
    }

    /// Returns the HTTP settings for a change, when the trigger has any.
    pub fn http_mut(&mut self) -> Option<&mut HttpTrigger> {
        match self {
            Self::Rest(http) | Self::Http(http) | Self::HttpFile(http) => Some(http),
            Self::Scheduler(_) => None,
        }
    }

    /// Tells whether anybody can reach the pipeline by HTTP.
    pub fn is_exposed(&self) -> bool {
        self.http().is_some_and(|http| http.external_api || http.internal_api)
    }
}

/// Types of triggers, as written in files.
pub const TRIGGER_TYPES: [&str; 4] = ["rest", "http", "httpFile", "scheduler"];

/// Types that design and files know, but this version does not run.
const LATER_TRIGGER_TYPES: [&str; 1] = ["event"];

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
                        "the trigger has no `type`: write one of rest, http, httpFile, scheduler",
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
                        no_file(&http)
                            .and_then(|()| one_use_of_authorization(&http))
                            .map_err(A::Error::custom)?;
                        Ok(Trigger::Rest(http))
                    }
                    "http" => {
                        let http = HttpTrigger::deserialize(rest)?;
                        no_file(&http)
                            .and_then(|()| one_use_of_authorization(&http))
                            .map_err(A::Error::custom)?;
                        Ok(Trigger::Http(http))
                    }
                    "httpFile" => {
                        let mut http = HttpTrigger::deserialize(rest)?;
                        if http.max_request_bytes != MaxRequestBytes::default()
                            || http.response_content_type.is_some()
                        {
                            return Err(A::Error::custom(
                                "an `httpFile` trigger holds no body: take out maxRequestBytes and \
                                 responseContentType, and write maxFileBytes",
                            ));
                        }
                        http.max_file_bytes.get_or_insert_default();
                        one_use_of_authorization(&http).map_err(A::Error::custom)?;
                        Ok(Trigger::HttpFile(http))
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

fn no_file(http: &HttpTrigger) -> Result<(), &'static str> {
    if http.max_file_bytes.is_some() {
        return Err("maxFileBytes is for type `httpFile`: write maxRequestBytes, or use type `httpFile`");
    }
    Ok(())
}

fn one_use_of_authorization(http: &HttpTrigger) -> Result<(), &'static str> {
    if http.basic_auth && http.jwt.is_on() {
        return Err("basicAuth and jwt both need the `Authorization` header: turn one of them off");
    }
    Ok(())
}

// === impl HttpTrigger ===

impl HttpTrigger {
    /// Tells whether every caller must show an API key or what counts as one, a client certificate.
    pub fn demands_key(&self) -> bool {
        self.api_key.is_on() || self.mtls
    }

    /// Returns the longest request body, in bytes.
    pub fn longest_body(&self) -> u64 {
        self.max_file_bytes.map_or(self.max_request_bytes.get(), MaxFileBytes::get)
    }

    /// Tells whether callers must show credentials.
    pub fn demands_credentials(&self) -> bool {
        self.demands_key() || self.jwt.is_on() || self.basic_auth
    }
}

impl Default for HttpTrigger {
    fn default() -> Self {
        Self {
            methods: Methods::default(),
            external_api: false,
            internal_api: false,
            api_key: ApiKeySwitch::Off,
            mtls: false,
            jwt: JwtSwitch::Off,
            basic_auth: false,
            timeout_ms: TimeoutMs::default(),
            max_request_bytes: MaxRequestBytes::default(),
            max_file_bytes: None,
            routes: Vec::new(),
            remove_prefix: false,
            rate_limit: None,
            concurrency: None,
            cors: None,
            compress: None,
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

    /// Returns one second.
    pub(crate) fn one_second() -> Self {
        Self(1_000)
    }

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

// === impl MaxFileBytes ===

impl MaxFileBytes {
    /// The largest limit: 1 TiB.
    pub const MAX: u64 = 1 << 40;

    /// Returns the limit in bytes.
    pub fn get(self) -> u64 {
        self.0
    }
}

impl Default for MaxFileBytes {
    fn default() -> Self {
        Self(10 << 30)
    }
}

impl<'de> Deserialize<'de> for MaxFileBytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = u64::deserialize(deserializer)?;
        if value > Self::MAX {
            return Err(D::Error::invalid_value(Unexpected::Unsigned(value), &"0 to 1099511627776 bytes"));
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
