//! What a command prints: tables for people, one JSON or YAML document for programs.

use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::Value;

use crate::answers::items;

/// Whether something could not be written to stdout.
static LOST: AtomicBool = AtomicBool::new(false);

/// Tells people something on stderr. Unlike `eprintln!` it does not panic when nobody reads there any more.
macro_rules! say {
    ($($words:tt)*) => {
        $crate::output::print_err(&format!($($words)*))
    };
}
pub(crate) use say;

/// How to print.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub(crate) enum Format {
    /// Columns for people.
    #[default]
    Table,
    /// Exactly one JSON document.
    Json,
    /// The same document as YAML.
    Yaml,
}

/// Where a command prints: data to stdout, words for people to stderr.
#[derive(Debug)]
pub(crate) struct Output {
    format: Format,
}

/// A column of a table: its heading, and the JSON pointer of its cell in each row.
pub(crate) type Column = (&'static str, &'static str);

// === impl Format ===

impl Format {
    /// Finds `--output` (or `-o`) in arguments that as a whole cannot be read; the last one counts.
    pub(crate) fn asked_in(arguments: impl IntoIterator<Item = std::ffi::OsString>) -> Self {
        let words = arguments.into_iter().map(|word| word.to_string_lossy().into_owned());
        let words: Vec<String> = words.take_while(|word| word != "--").collect();
        let after = words.iter().skip(1).map(Some).chain([None]);
        let asked = words.iter().zip(after).filter_map(|(word, next)| match word.as_str() {
            "--output" | "-o" => next.map(String::as_str),
            word => word
                .strip_prefix("--output=")
                .or_else(|| word.strip_prefix("-o").map(|value| value.strip_prefix('=').unwrap_or(value))),
        });
        let format = asked.last().and_then(|value| clap::ValueEnum::from_str(value, false).ok());
        format.unwrap_or_default()
    }
}

// === impl Output ===

impl Output {
    /// Prints in this format.
    pub(crate) fn new(format: Format) -> Self {
        Self { format }
    }

    /// Returns the format.
    pub(crate) fn format(&self) -> Format {
        self.format
    }

    /// Prints a document in full, whatever the format (a table format prints YAML).
    pub(crate) fn document(&self, value: &Value) {
        match self.format {
            Format::Json => print_out(&format!("{value:#}\n")),
            Format::Yaml | Format::Table => print_out(&yaml(value)),
        }
    }

    /// Prints the `items` of a list: a table for people, the whole document for programs.
    pub(crate) fn list(&self, document: &Value, columns: &[Column]) {
        if self.format != Format::Table {
            return self.document(document);
        }
        print_out(&table(items(document, "items"), columns));
    }

    /// Prints the result of a change: a sentence for people, the document for programs.
    pub(crate) fn done(&self, document: &Value, sentence: &str) {
        if self.format == Format::Table {
            print_out(&format!("{sentence}\n"));
        } else {
            self.document(document);
        }
        for reminder in items(document, "reminders") {
            if let Some(text) = reminder.as_str().or_else(|| reminder.get("message").and_then(Value::as_str))
            {
                say!("reminder: {text}");
            }
        }
    }
}

/// Writes to stdout; a closed pipe (`| head`) is no error, and everything else makes [`lost`] true: a key that was
/// shown once, or half of an export, must not be lost with exit code 0.
pub(crate) fn print_out(text: &str) {
    use std::io::Write as _;

    let mut out = std::io::stdout().lock();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    if let Err(error) = written
        && error.kind() != std::io::ErrorKind::BrokenPipe
    {
        LOST.store(true, Ordering::Relaxed);
        say!("error: cannot write to stdout: {error}");
    }
}

/// Tells whether something could not be written to stdout.
pub(crate) fn lost() -> bool {
    LOST.load(Ordering::Relaxed)
}

/// Writes a line to stderr; there is nowhere left to tell of a failure.
pub(crate) fn print_err(line: &str) {
    use std::io::Write as _;

    let _ = std::io::stderr().lock().write_all(format!("{line}\n").as_bytes());
}

/// Returns a document as YAML.
pub(crate) fn yaml(value: &Value) -> String {
    let mut text = serde_saphyr::to_string(value).unwrap_or_else(|_| format!("{value:#}"));
    if !text.ends_with('\n') {
        text.push('\n');
    }
    text
}

/// Lays rows out in columns, as wide as their widest cell, without anything a plain terminal can't show.
pub(crate) fn table(rows: &[Value], columns: &[Column]) -> String {
    let mut lines: Vec<Vec<String>> =
        vec![columns.iter().map(|(heading, _)| (*heading).to_owned()).collect()];
    for row in rows {
        lines.push(columns.iter().map(|(_, pointer)| cell(row.pointer(pointer))).collect());
    }
    let widths: Vec<usize> = (0..columns.len())
        .map(|i| {
            lines.iter().filter_map(|line| line.get(i)).map(|cell| cell.chars().count()).max().unwrap_or(0)
        })
        .collect();
    let mut out = String::new();
    for line in &lines {
        let padded: Vec<String> =
            line.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        out.push_str(padded.join("  ").trim_end());
        out.push('\n');
    }
    if rows.is_empty() {
        out.push_str("(none)\n");
    }
    out
}

/// Cuts the fraction of a second off a timestamp (RFC 3339), which nobody reads in a table.
fn without_fraction(text: &str) -> &str {
    let fraction =
        text.get(19..).and_then(|rest| rest.strip_prefix('.')).and_then(|rest| rest.strip_suffix('Z'));
    let is_time = fraction.is_some_and(|fraction| fraction.bytes().all(|byte| byte.is_ascii_digit()))
        && text.get(10..11) == Some("T");
    if is_time { text.get(..19).unwrap_or(text) } else { text }
}

/// Writes one cell; control characters (a terminal's escape sequences) are made visible instead of obeyed.
fn cell(value: Option<&Value>) -> String {
    let text = match value {
        None | Some(Value::Null) => "-".to_owned(),
        Some(Value::String(text)) => without_fraction(text).to_owned(),
        Some(Value::Bool(true)) => "yes".to_owned(),
        Some(Value::Bool(false)) => "no".to_owned(),
        Some(Value::Array(items)) if items.is_empty() => "-".to_owned(),
        Some(Value::Array(items)) => {
            items.iter().map(|item| cell(item.get("message").or(Some(item)))).collect::<Vec<_>>().join(", ")
        }
        Some(other) => other.to_string(),
    };
    printable(&text)
}

/// Makes control characters (a terminal's escape sequences) visible instead of obeyed.
pub(crate) fn printable(text: &str) -> String {
    text.chars()
        .flat_map(|c| if c.is_control() { c.escape_default().collect::<Vec<_>>() } else { vec![c] })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_table_lines_up_and_shows_absent_cells() {
        let rows = [json!({ "name": "a", "pipelines": ["x", "y"] }), json!({ "name": "longer", "on": true })];
        let text = table(&rows, &[("NAME", "/name"), ("PIPELINES", "/pipelines"), ("ON", "/on")]);
        assert_eq!(text, "NAME    PIPELINES  ON\na       x, y       -\nlonger  -          yes\n");
    }

    #[test]
    fn the_format_is_found_in_arguments_that_cannot_be_read() {
        let asked = |words: &str| Format::asked_in(words.split(' ').map(Into::into));
        for json in ["deplyo -o json", "--output=json deploy", "-ojson x", "-o=json", "-o yaml --output json"]
        {
            assert_eq!(asked(json), Format::Json, "{json}");
        }
        for table in ["deploy", "-o", "--output xml", "-- -o json", "json"] {
            assert_eq!(asked(table), Format::Table, "{table}");
        }
        assert_eq!(asked("-o yaml"), Format::Yaml);
    }

    #[test]
    fn a_time_is_shown_to_the_second() {
        assert_eq!(without_fraction("2026-11-24T02:37:29.954537193Z"), "2026-11-24T02:37:29");
        for text in ["2026-11-24T02:37:29Z", "product-list", "2026-11-24T02:37:29.x5Z", ""] {
            assert_eq!(without_fraction(text), text);
        }
    }

    #[test]
    fn a_name_cannot_drive_the_terminal() {
        let text = table(&[json!({ "name": "\u{1b}[2Jgone" })], &[("NAME", "/name")]);
        assert!(!text.contains('\u{1b}'), "{text:?}");
    }
}
