//! Traces and logs for a collector of OpenTelemetry, over OTLP/HTTP.
//!
//! Off unless the environment names a collector, by the variables that OpenTelemetry has for it
//! (`OTEL_EXPORTER_OTLP_ENDPOINT` and its kin). A thread of its own sends batches; what does not fit into the bounded queue
//! before it is dropped, so that no call waits for a collector, and none fails with it.
//!
//! Spans and log lines carry what the log carries. Credentials are in neither.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, bail};
use opentelemetry::trace::{SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{LogExporter, SpanExporter, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::logs::SdkLoggerProvider;
use opentelemetry_sdk::trace::{BatchSpanProcessor, SpanData, SpanProcessor as _};
use tokio::runtime::Handle;
use tollgate_gateway::{CallSpan, Sample, ScheduledSpan, SpanPlace, Spans, UpstreamSpan};
use tollgate_model::recent_calls::CutOff;

/// How long the end of the process waits for the last batches.
const LAST_BATCHES: Duration = Duration::from_secs(5);

/// Longest wait for a collector.
const COLLECTOR_TIMEOUT: Duration = Duration::from_secs(10);

/// Most that is read of a collector's answer, in bytes.
const MAX_ANSWER_BYTES: usize = 64 * 1024;

/// What is told to collectors.
pub(crate) struct Telemetry {
    spans: Option<Arc<CallSpans>>,
    logs: Option<SdkLoggerProvider>,
}

/// Sends spans.
struct CallSpans {
    processor: BatchSpanProcessor,
    sampler: Sampler,
    scope: InstrumentationScope,
}

/// Which traces are recorded.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Sampler {
    /// Whether the caller's word counts, where there is one.
    follows_callers: bool,
    of: Sample,
}

/// Sends batches by the client that the rest of the product uses, on its runtime.
#[derive(Debug)]
struct Client {
    client: reqwest::Client,
    runtime: Handle,
}

/// Reads a variable of the environment.
type Variable<'a> = &'a dyn Fn(&str) -> Option<String>;

// === impl Telemetry ===

impl Telemetry {
    /// Starts what the environment asks for.
    pub(crate) fn start() -> anyhow::Result<Self> {
        #[expect(clippy::disallowed_methods, reason = "this is the binary")]
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let (spans, logs) = (is_on("TRACES", &variable)?, is_on("LOGS", &variable)?);
        if !spans && !logs {
            return Ok(Self { spans: None, logs: None });
        }
        let client: Arc<dyn HttpClient> = Arc::new(Client {
            client: reqwest::Client::builder()
                .timeout(COLLECTOR_TIMEOUT)
                .redirect(reqwest::redirect::Policy::none())
                .build()
                .context("cannot make a client for the collector")?,
            runtime: Handle::current(),
        });
        let version = KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
        let mut resource = Resource::builder().with_attribute(version);
        if variable("OTEL_SERVICE_NAME").is_none() {
            resource = resource.with_service_name("tollgate");
        }
        let resource = resource.build();
        Ok(Self {
            spans: spans.then(|| CallSpans::start(client.clone(), &resource, &variable)).transpose()?,
            logs: logs.then(|| start_logs(client, resource)).transpose()?,
        })
    }

    /// Returns who takes the spans of calls.
    pub(crate) fn spans(&self) -> Option<Arc<dyn Spans>> {
        self.spans.clone().map(|spans| spans as Arc<dyn Spans>)
    }

    /// Returns who takes lines of the log.
    pub(crate) fn logs(&self) -> Option<&SdkLoggerProvider> {
        self.logs.as_ref()
    }

    /// Sends what is left.
    pub(crate) async fn finish(self) {
        let last = tokio::task::spawn_blocking(move || {
            let spans = self.spans.map(|spans| spans.processor.shutdown_with_timeout(LAST_BATCHES));
            let logs = self.logs.map(|logs| logs.shutdown_with_timeout(LAST_BATCHES));
            [spans, logs].into_iter().flatten().find_map(Result::err)
        });
        if let Ok(Some(error)) = last.await {
            tracing::warn!(%error, "the last traces or log lines did not reach the collector");
        }
    }
}

/// Tells whether the environment asks for a signal to be exported.
fn is_on(signal: &str, variable: Variable<'_>) -> anyhow::Result<bool> {
    if variable("OTEL_SDK_DISABLED").is_some_and(|it| it.eq_ignore_ascii_case("true")) {
        return Ok(false);
    }
    let exporter = format!("OTEL_{signal}_EXPORTER");
    match variable(&exporter).as_deref() {
        None | Some("otlp") => {}
        Some("none") => return Ok(false),
        Some(other) => bail!("{exporter} is `{other}`: there are otlp and none"),
    }
    let protocols =
        [format!("OTEL_EXPORTER_OTLP_{signal}_PROTOCOL"), "OTEL_EXPORTER_OTLP_PROTOCOL".to_owned()];
    let named = protocols.iter().find_map(|name| Some((name, variable(name)?)));
    let endpoint = variable(&format!("OTEL_EXPORTER_OTLP_{signal}_ENDPOINT"))
        .or_else(|| variable("OTEL_EXPORTER_OTLP_ENDPOINT"));
    let Some(_) = endpoint else { return Ok(false) };
    if let Some((name, other)) = named.filter(|(_, protocol)| protocol != "http/protobuf") {
        bail!("{name} is `{other}`: there is http/protobuf only");
    }
    Ok(true)
}

fn start_logs(client: Arc<dyn HttpClient>, resource: Resource) -> anyhow::Result<SdkLoggerProvider> {
    let exporter = LogExporter::builder().with_http().with_shared_http_client(client).build();
    let exporter = exporter.context("cannot export logs")?;
    Ok(SdkLoggerProvider::builder().with_batch_exporter(exporter).with_resource(resource).build())
}

// === impl Sampler ===

impl Sampler {
    fn of_environment(variable: Variable<'_>) -> anyhow::Result<Self> {
        let name = variable("OTEL_TRACES_SAMPLER").unwrap_or_else(|| "parentbased_always_on".to_owned());
        let (follows_callers, base) = match name.strip_prefix("parentbased_") {
            Some(base) => (true, base),
            None => (false, name.as_str()),
        };
        let of = match base {
            "always_on" => Sample::ALL,
            "always_off" => Sample::of(0.0),
            "traceidratio" => {
                let part = variable("OTEL_TRACES_SAMPLER_ARG").unwrap_or_else(|| "1".to_owned());
                let number = part.parse().ok().filter(|part| (0.0..=1.0).contains(part));
                Sample::of(number.with_context(|| {
                    format!("OTEL_TRACES_SAMPLER_ARG is `{part}`: write a number from 0 to 1")
                })?)
            }
            _ => bail!(
                "OTEL_TRACES_SAMPLER is `{name}`: there are always_on, always_off, traceidratio, and these with parentbased_"
            ),
        };
        Ok(Self { follows_callers, of })
    }

    fn has(self, trace_id: u128, callers: Option<bool>) -> bool {
        match callers.filter(|_| self.follows_callers) {
            Some(recorded) => recorded,
            None => self.of.has(trace_id),
        }
    }
}

// === impl CallSpans ===

impl CallSpans {
    fn start(
        client: Arc<dyn HttpClient>,
        resource: &Resource,
        variable: Variable<'_>,
    ) -> anyhow::Result<Arc<Self>> {
        let sampler = Sampler::of_environment(variable)?;
        let exporter = SpanExporter::builder().with_http().with_shared_http_client(client).build();
        let mut processor = BatchSpanProcessor::builder(exporter.context("cannot export traces")?).build();
        processor.set_resource(resource);
        let scope = InstrumentationScope::builder("tollgate").with_version(env!("CARGO_PKG_VERSION")).build();
        Ok(Arc::new(Self { processor, sampler, scope }))
    }

    fn send(
        &self,
        place: SpanPlace,
        kind: SpanKind,
        name: String,
        status: Status,
        attributes: Vec<KeyValue>,
    ) {
        let began = SystemTime::from(place.began_at);
        let context = SpanContext::new(
            TraceId::from(place.trace_id),
            SpanId::from(place.span_id),
            TraceFlags::SAMPLED,
            false,
            TraceState::default(),
        );
        self.processor.on_end(SpanData {
            span_context: context,
            parent_span_id: place.parent.map_or(SpanId::INVALID, SpanId::from),
            parent_span_is_remote: place.parent.is_some() && place.parent_is_remote,
            span_kind: kind,
            name: name.into(),
            start_time: began,
            end_time: began + place.took,
            attributes,
            dropped_attributes_count: 0,
            events: opentelemetry_sdk::trace::SpanEvents::default(),
            links: opentelemetry_sdk::trace::SpanLinks::default(),
            status,
            instrumentation_scope: self.scope.clone(),
        });
    }
}

impl Spans for CallSpans {
    fn samples(&self, trace_id: u128, callers: Option<bool>) -> bool {
        self.sampler.has(trace_id, callers)
    }

    fn call(&self, place: SpanPlace, call: &CallSpan<'_>) {
        let text = |name: &'static str, value: &str| KeyValue::new(name, value.to_owned());
        let mut attributes = vec![
            text("http.request.method", call.method),
            text("network.protocol.version", call.protocol),
            text("client.address", &call.remote.to_string()),
            text("tollgate.request_id", call.request_id),
            text("tollgate.environment", call.environment),
            text("tollgate.exposure", call.exposure),
        ];
        attributes.extend(call.route.map(|route| text("http.route", route)));
        let status = |status| KeyValue::new("http.response.status_code", i64::from(status));
        attributes.extend(call.status.map(status));
        attributes.extend(
            call.bytes.map(|bytes| {
                KeyValue::new("http.response.body.size", i64::try_from(bytes).unwrap_or(i64::MAX))
            }),
        );
        attributes.extend(call.cut_off.map(|by| text("tollgate.cut_off", by.as_str())));
        let cut_off = call.cut_off.map(|_| "cut-off");
        attributes.extend(call.code.or(cut_off).map(|code| text("error.type", code)));
        if let Some((pipeline, version)) = call.pipeline {
            attributes.extend([text("tollgate.pipeline", pipeline), text("tollgate.version", version)]);
        }
        attributes.extend(call.consumer.map(|consumer| text("tollgate.consumer", consumer)));
        let name = match call.route {
            Some(route) => format!("{} {route}", call.method),
            None => call.method.to_owned(),
        };
        // A refusal is the caller's fault, and no error of this span (semantic conventions for HTTP).
        let outcome = match call.status {
            _ if call.cut_off == Some(CutOff::Upstream) => Status::error("the upstream broke off its answer"),
            _ if call.cut_off == Some(CutOff::Caller) => Status::error("the caller hung up"),
            Some(status) if status < 500 => Status::Unset,
            Some(_) => Status::error(call.code.unwrap_or_default().to_owned()),
            None => Status::error("the caller hung up"),
        };
        self.send(place, SpanKind::Server, name, outcome, attributes);
    }

    fn upstream(&self, place: SpanPlace, call: &UpstreamSpan<'_>) {
        let text = |name: &'static str, value: &str| KeyValue::new(name, value.to_owned());
        let mut attributes = vec![
            text("http.request.method", call.method),
            text("server.address", call.host),
            text("tollgate.pipeline", call.pipeline),
        ];
        let status = |status| KeyValue::new("http.response.status_code", i64::from(status));
        attributes.extend(call.status.map(status));
        if call.resend > 0 {
            attributes.push(KeyValue::new("http.request.resend_count", i64::from(call.resend)));
        }
        attributes.extend(call.error.map(|why| text("error.type", why)));
        let outcome = match (call.error, call.status) {
            (Some(why), _) => Status::error(why),
            (None, Some(status)) if status < 400 => Status::Unset,
            (None, Some(_)) => Status::error(""),
            (None, None) => Status::error("no answer"),
        };
        self.send(place, SpanKind::Client, call.method.to_owned(), outcome, attributes);
    }

    fn scheduled(&self, place: SpanPlace, run: &ScheduledSpan<'_>) {
        let text = |name: &'static str, value: &str| KeyValue::new(name, value.to_owned());
        let mut attributes = vec![
            text("tollgate.request_id", run.request_id),
            text("tollgate.environment", run.environment),
            text("tollgate.pipeline", run.pipeline),
            text("tollgate.version", run.version),
            KeyValue::new("http.response.status_code", i64::from(run.status)),
        ];
        attributes.extend(run.code.map(|code| text("error.type", code)));
        // Of a run there is no caller whose fault it could be.
        let outcome = if run.status < 400 {
            Status::Unset
        } else {
            Status::error(run.code.unwrap_or_default().to_owned())
        };
        self.send(place, SpanKind::Internal, format!("run {}", run.pipeline), outcome, attributes);
    }
}

// === impl Client ===

impl HttpClient for Client {
    fn send_bytes<'a, 'b>(
        &'a self,
        request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'b>>
    where
        'a: 'b,
        Self: 'b,
    {
        let client = self.client.clone();
        // Batches are sent by threads of their own, which have no runtime.
        let sent = self.runtime.spawn(async move {
            let mut response = client.execute(request.try_into()?).await?;
            let mut answer = Response::builder().status(response.status());
            if let Some(headers) = answer.headers_mut() {
                *headers = std::mem::take(response.headers_mut());
            }
            let mut body = Vec::new();
            while let Some(chunk) = response.chunk().await? {
                if body.len() + chunk.len() > MAX_ANSWER_BYTES {
                    return Err("the answer of the collector is too large".into());
                }
                body.extend_from_slice(&chunk);
            }
            Ok::<_, HttpError>(answer.body(Bytes::from(body))?)
        });
        Box::pin(async move { sent.await? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables<'a>(set: &'a [(&'a str, &'a str)]) -> impl Fn(&str) -> Option<String> + 'a {
        move |name| set.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
    }

    #[test]
    fn a_signal_is_exported_only_where_the_environment_names_a_collector() {
        let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318");
        for (set, expected) in [
            (&[][..], Some(false)),
            (&[endpoint], Some(true)),
            (&[("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://127.0.0.1:4318/v1/traces")], Some(true)),
            (&[("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", "http://127.0.0.1:4318/v1/logs")], Some(false)),
            (&[endpoint, ("OTEL_SDK_DISABLED", "true")], Some(false)),
            (&[endpoint, ("OTEL_TRACES_EXPORTER", "none")], Some(false)),
            (&[endpoint, ("OTEL_TRACES_EXPORTER", "zipkin")], None),
            (&[endpoint, ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")], None),
            (&[endpoint, ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")], Some(true)),
        ] {
            assert_eq!(is_on("TRACES", &variables(set)).ok(), expected, "{set:?}");
        }
    }

    #[test]
    fn samplers_are_those_of_the_specification() {
        let of = |name: &str, part: &str| {
            Sampler::of_environment(&variables(&[
                ("OTEL_TRACES_SAMPLER", name),
                ("OTEL_TRACES_SAMPLER_ARG", part),
            ]))
        };
        let default = Sampler::of_environment(&variables(&[])).expect("the default");
        assert_eq!(default, of("parentbased_always_on", "").expect("known"));
        assert!(default.has(1, None) && default.has(1, Some(true)) && !default.has(1, Some(false)));
        let ratio = of("traceidratio", "0.5").expect("known");
        assert!(ratio.has(0, Some(false)) && !ratio.has(u128::MAX, Some(true)));
        let parent = of("parentbased_traceidratio", "0").expect("known");
        assert!(!parent.has(0, None) && parent.has(0, Some(true)));
        assert!(of("traceidratio", "2").is_err() && of("jaeger_remote", "").is_err());
    }
}
