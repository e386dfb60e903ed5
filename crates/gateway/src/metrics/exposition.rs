//! The text format of Prometheus, version 0.0.4.

use std::fmt::{Display, Write as _};

/// Metrics as text; families one after the other, each with its samples.
#[derive(Debug, Default)]
pub struct Exposition(String);

/// What a family of metrics is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only grows; begins anew when the process does.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts by size.
    Histogram,
}

// === impl Exposition ===

impl Exposition {
    /// The media type.
    pub const CONTENT_TYPE: &'static str = "text/plain; version=0.0.4; charset=utf-8";

    /// Begins a family.
    pub fn family(&mut self, name: &str, kind: Kind, help: &str) {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        // Writing to a text cannot fail.
        let _ = writeln!(self.0, "# HELP {name} {}\n# TYPE {name} {kind}", escaped(help, false));
    }

    /// Writes a sample. Labels that are empty are left out, which is the same to Prometheus.
    pub fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        self.0.push_str(name);
        let mut mark = '{';
        for (label, text) in labels.iter().filter(|(_, text)| !text.is_empty()) {
            let _ = write!(self.0, "{mark}{label}=\"{}\"", escaped(text, true));
            mark = ',';
        }
        let end = if mark == ',' { "}" } else { "" };
        let _ = writeln!(self.0, "{end} {value}");
    }

    /// Writes a family of one sample without labels.
    pub fn single(&mut self, name: &str, kind: Kind, help: &str, value: impl Display) {
        self.family(name, kind, help);
        self.sample(name, &[], value);
    }

    /// Returns the text.
    pub fn into_text(self) -> String {
        self.0
    }
}

fn escaped(text: &str, quoted: bool) -> String {
    let text = text.replace('\\', "\\\\").replace('\n', "\\n");
    if quoted { text.replace('"', "\\\"") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_written_under_their_family_and_escaped() {
        let mut out = Exposition::default();
        out.family("a_total", Kind::Counter, "Things \"so\"\nfar\\");
        out.sample("a_total", &[("x", "1"), ("empty", ""), ("y", "\"\\\n")], 3);
        out.sample("a_total", &[("empty", "")], 0.5);
        out.single("b", Kind::Gauge, "B.", 1_f64);
        assert_eq!(
            out.into_text(),
            "# HELP a_total Things \"so\"\\nfar\\\\\n# TYPE a_total counter\n\
             a_total{x=\"1\",y=\"\\\"\\\\\\n\"} 3\na_total 0.5\n# HELP b B.\n# TYPE b gauge\nb 1\n"
        );
    }
}
