//! A collector of OpenTelemetry that remembers what it was sent.

use std::io;

use http::StatusCode;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use prost::Message as _;
use tollgate_model::hex::hex;

use crate::upstream::{Answer, Upstream};

/// Answers in store; a test sends fewer batches.
const ANSWERS: usize = 10_000;

/// A server that takes OTLP/HTTP in protobuf.
#[derive(Debug)]
pub struct Collector(Upstream);

/// A span, as it was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SentSpan {
    /// Its name.
    pub name: String,
    /// Its trace, in hexadecimal digits.
    pub trace_id: String,
    /// Its id.
    pub span_id: String,
    /// The id of the span above it; empty when there is none.
    pub parent: String,
    /// Its attributes, as texts.
    pub attributes: Vec<(String, String)>,
    /// How long it took, in nanoseconds.
    pub nanos: u64,
}

/// A line of a log, as it was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SentLine {
    /// Its text.
    pub text: String,
    /// Its attributes, as texts.
    pub attributes: Vec<(String, String)>,
}

// === impl Collector ===

impl Collector {
    /// Starts a collector.
    ///
    /// # Errors
    ///
    /// When no port can be bound.
    pub async fn start() -> io::Result<Self> {
        let upstream = Upstream::start().await?;
        (0..ANSWERS).for_each(|_| upstream.answer(Answer::new(StatusCode::OK, "")));
        Ok(Self(upstream))
    }

    /// Returns the value of `OTEL_EXPORTER_OTLP_ENDPOINT`.
    pub fn endpoint(&self) -> String {
        self.0.url("")
    }

    /// Returns everything that it was sent, as it came.
    pub fn bytes(&self) -> Vec<u8> {
        self.0.requests().iter().flat_map(|request| request.body.to_vec()).collect()
    }

    /// Returns the spans that it was sent.
    ///
    /// # Panics
    ///
    /// When a batch is no OTLP.
    pub fn spans(&self) -> Vec<SentSpan> {
        let batches = self.0.requests().into_iter().filter(|request| request.target == "/v1/traces");
        let batches = batches.map(|it| ExportTraceServiceRequest::decode(it.body).expect("OTLP"));
        let scopes = batches.flat_map(|batch| batch.resource_spans).flat_map(|it| it.scope_spans);
        scopes
            .flat_map(|scope| scope.spans)
            .map(|span| SentSpan {
                name: span.name,
                trace_id: hex(&span.trace_id),
                span_id: hex(&span.span_id),
                parent: hex(&span.parent_span_id),
                attributes: texts(span.attributes),
                nanos: span.end_time_unix_nano - span.start_time_unix_nano,
            })
            .collect()
    }

    /// Returns the lines of logs that it was sent.
    ///
    /// # Panics
    ///
    /// When a batch is no OTLP.
    pub fn lines(&self) -> Vec<SentLine> {
        let batches = self.0.requests().into_iter().filter(|request| request.target == "/v1/logs");
        let batches = batches.map(|it| ExportLogsServiceRequest::decode(it.body).expect("OTLP"));
        let scopes = batches.flat_map(|batch| batch.resource_logs).flat_map(|it| it.scope_logs);
        scopes
            .flat_map(|scope| scope.log_records)
            .map(|line| SentLine {
                text: line.body.and_then(|body| body.value).map(text).unwrap_or_default(),
                attributes: texts(line.attributes),
            })
            .collect()
    }
}

fn texts(attributes: Vec<KeyValue>) -> Vec<(String, String)> {
    let value = |it: KeyValue| (it.key, it.value.and_then(|value| value.value).map(text).unwrap_or_default());
    attributes.into_iter().map(value).collect()
}

fn text(value: Value) -> String {
    match value {
        Value::StringValue(text) => text,
        Value::IntValue(number) => number.to_string(),
        Value::BoolValue(is) => is.to_string(),
        Value::DoubleValue(number) => number.to_string(),
        other => format!("{other:?}"),
    }
}

// === impl SentSpan ===

impl SentSpan {
    /// Returns an attribute; empty when there is none.
    pub fn attribute(&self, name: &str) -> &str {
        attribute(&self.attributes, name)
    }
}

// === impl SentLine ===

impl SentLine {
    /// Returns an attribute; empty when there is none.
    pub fn attribute(&self, name: &str) -> &str {
        attribute(&self.attributes, name)
    }
}

fn attribute<'a>(attributes: &'a [(String, String)], name: &str) -> &'a str {
    attributes.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value)
}
