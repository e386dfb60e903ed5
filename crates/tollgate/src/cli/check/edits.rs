//! What to change in a file's text so that a violation is mended.
//!
//! An edit is proposed from where the setting stands, made on a copy, and the copy is read again: only an edit that
//! gives exactly the pipeline that the fix gives, and leaves every other resource as it was, is shown to anybody.

use serde_json::Value;
use tollgate_model::document::{Position, Positions, Resource, Slot, parse_resources};
use tollgate_model::pipelines::Pipeline;
use tollgate_model::verdicts::Violation;
use tollgate_policy::apply_fix;

use super::report::FileReport;

/// A part of one line that is written anew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Edit {
    pub(super) at: Position,
    /// Column behind the last character that goes; that of `at` when none does.
    pub(super) end_column: usize,
    pub(super) text: String,
}

/// Returns the edits that mend a violation; empty where no edit is sure to.
pub(super) fn edits(file: &FileReport, resource: usize, violation: &Violation) -> Vec<Edit> {
    propose(file, resource, violation).unwrap_or_default()
}

fn propose(file: &FileReport, resource: usize, violation: &Violation) -> Option<Vec<Edit>> {
    let located = &file.resources.get(resource)?.located;
    let Resource::Pipeline(pipeline) = &located.value else { return None };
    let mended = apply_fix(pipeline, violation).ok()?;
    let mut edits = vec![edit(&file.text, &located.positions, &violation.pointer, &violation.fix)?];
    if pipeline.trigger.http()?.basic_auth && !mended.trigger.http()?.basic_auth {
        edits.push(edit(&file.text, &located.positions, "/trigger/basicAuth", &Value::Bool(false))?);
    }
    mends(file, resource, &edits, mended).then_some(edits)
}

fn edit(text: &str, positions: &Positions, pointer: &str, value: &Value) -> Option<Edit> {
    match positions.slot(pointer)? {
        Slot::Scalar(at) => {
            let end_column = at.column + scalar_length(rest_of_line(text, at)?);
            Some(Edit { at, end_column, text: value.to_string() })
        }
        Slot::Absent(at) => {
            let key = pointer.rsplit('/').next()?.replace("~1", "/").replace("~0", "~");
            let rest = rest_of_line(text, at)?;
            let (at, text) = match rest.strip_prefix('{') {
                // A flow map, as in JSON: in front of what it holds.
                Some(inside) => {
                    let behind = text_behind(text, at)?.trim_start();
                    let key = if behind.starts_with('"') { Value::from(key).to_string() } else { plain(key) };
                    let space = if inside.starts_with(' ') { " " } else { "" };
                    let at = Position { column: at.column + 1, ..at };
                    (at, format!("{space}{key}: {value},"))
                }
                // A block map: a line of its own, indented like the first.
                None => (at, format!("{}: {value}\n{}", plain(key), " ".repeat(at.column - 1))),
            };
            Some(Edit { at, end_column: at.column, text })
        }
    }
}

/// Writes a key without quotes where YAML takes it for a text without.
fn plain(key: String) -> String {
    let is_word = key.starts_with(|c: char| c.is_ascii_alphabetic())
        && key.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
        && !matches!(key.to_ascii_lowercase().as_str(), "true" | "false" | "null");
    if is_word { key } else { Value::from(key).to_string() }
}

fn rest_of_line(text: &str, at: Position) -> Option<&str> {
    let line = text.split('\n').nth(at.line.checked_sub(1)?)?;
    let line = line.strip_suffix('\r').unwrap_or(line);
    line.get(byte_of(line, at.column)?..)
}

/// Returns what stands behind the character at a position.
fn text_behind(text: &str, at: Position) -> Option<&str> {
    text.get(offset(text, Position { column: at.column + 1, ..at })?..)
}

/// Returns how many characters a scalar on one line has.
fn scalar_length(rest: &str) -> usize {
    match rest.chars().next() {
        Some(quote @ ('"' | '\'')) => {
            let mut escaped = false;
            let closing = rest.chars().skip(1).position(|c| {
                let closes = c == quote && !escaped;
                escaped = c == '\\' && quote == '"' && !escaped;
                closes
            });
            closing.map_or(rest.chars().count(), |index| index + 2)
        }
        _ => {
            let end = rest.find([',', '}', ']', '#']).unwrap_or(rest.len());
            rest.get(..end).unwrap_or_default().trim_end().chars().count()
        }
    }
}

/// Returns the byte of a column, counted in characters from 1.
fn byte_of(line: &str, column: usize) -> Option<usize> {
    let ends = line.char_indices().map(|(byte, _)| byte).chain([line.len()]);
    ends.clone().nth(column.checked_sub(1)?)
}

fn offset(text: &str, at: Position) -> Option<usize> {
    let mut begin = 0;
    for (index, line) in text.split('\n').enumerate() {
        if index + 1 == at.line {
            return Some(begin + byte_of(line, at.column)?);
        }
        begin += line.len() + 1;
    }
    None
}

/// Makes edits on a copy of the text; `None` when they do not fit it.
fn made(text: &str, edits: &[Edit]) -> Option<String> {
    let mut edits: Vec<&Edit> = edits.iter().collect();
    edits.sort_by_key(|edit| std::cmp::Reverse(edit.at));
    let mut out = text.to_owned();
    for Edit { at, end_column, text: new } in edits {
        let (begin, end) = (offset(text, *at)?, offset(text, Position { column: *end_column, ..*at })?);
        out.get(begin..end)?;
        out.replace_range(begin..end, new);
    }
    Some(out)
}

fn mends(file: &FileReport, resource: usize, edits: &[Edit], mended: Pipeline) -> bool {
    let Some(read) = made(&file.text, edits).and_then(|text| parse_resources(&text).ok()) else {
        return false;
    };
    let mended = Resource::Pipeline(mended);
    read.len() == file.resources.len()
        && read.iter().zip(&file.resources).enumerate().all(|(index, (after, before))| {
            after.value == if index == resource { mended.clone() } else { before.located.value.clone() }
        })
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tollgate_model::verdicts::ViolationCode;

    use super::*;
    use crate::cli::check::open;
    use crate::cli::files::Source;

    fn file(text: &str) -> FileReport {
        open(Source { file: "f.yaml".to_owned(), text: Ok(text.to_owned()) })
    }

    fn violation(pointer: &str, fix: Value) -> Violation {
        Violation {
            policy: "external-api-access".parse().expect("a name"),
            environment: tollgate_model::names::EnvironmentName::prod(),
            code: ViolationCode::MissingApiKey,
            message: "no".to_owned(),
            pointer: pointer.to_owned(),
            fix,
            remedy: String::new(),
        }
    }

    fn mended(text: &str, pointer: &str, fix: Value) -> Option<String> {
        let file = file(text);
        assert!(file.problems.is_empty(), "{text}");
        let edits = edits(&file, 0, &violation(pointer, fix));
        (!edits.is_empty()).then(|| made(text, &edits).expect("fits"))
    }

    const HEAD: &str = "kind: Pipeline\nname: a\nproject: p\n";

    #[test]
    fn a_setting_is_changed_where_it_stands_and_added_where_it_is_not() {
        for (before, after) in [
            ("trigger: { type: rest, apiKey: false } # ü", "trigger: { type: rest, apiKey: true } # ü"),
            ("trigger: {type: rest}", "trigger: {apiKey: true,type: rest}"),
            ("trigger: { type: rest }", "trigger: { apiKey: true, type: rest }"),
            ("trigger:\n  # why\n  type: rest", "trigger:\n  # why\n  apiKey: true\n  type: rest"),
            ("trigger:\r\n  type: rest\r\n  apiKey: false\r", "trigger:\r\n  type: rest\r\n  apiKey: true\r"),
            ("trigger: { type: rest, apiKey: { query: true } }", ""),
        ] {
            let text = |trigger: &str| format!("{HEAD}{trigger}\nsteps: [{{ json: 1 }}]\n");
            let expected = (!after.is_empty()).then(|| text(after));
            assert_eq!(mended(&text(before), "/trigger/apiKey", json!(true)), expected, "{before}");
        }
    }

    #[test]
    fn a_json_file_stays_json() {
        let text = "{\"kind\": \"Pipeline\", \"name\": \"a\", \"project\": \"p\",\n \"trigger\": {\"type\": \"rest\"},\n\
                    \"steps\": [{\"json\": 1}]}";
        let after = mended(text, "/trigger/apiKey", json!(true)).expect("mended");
        assert!(after.contains("{\"apiKey\": true,\"type\": \"rest\"}"), "{after}");
        assert!(serde_json::from_str::<Value>(&after).is_ok(), "{after}");
    }

    #[test]
    fn a_token_takes_the_place_of_basic_auth() {
        let text = format!(
            "{HEAD}trigger:\n  type: rest\n  basicAuth: true\n  jwt: false\nsteps: [{{ json: 1 }}]\n"
        );
        let after = mended(&text, "/trigger/jwt", json!(true)).expect("mended");
        assert!(after.contains("basicAuth: false\n  jwt: true\n"), "{after}");
    }

    #[test]
    fn other_documents_of_the_file_stay_as_they_are() {
        let one = format!("{HEAD}trigger: {{ type: rest }}\nsteps: [{{ json: 1 }}]\n");
        let text = format!("{one}---\n{}", one.replace("name: a", "name: b"));
        let file = file(&text);
        let edits = edits(&file, 1, &violation("/trigger/apiKey", json!(true)));
        let after = made(&text, &edits).expect("fits");
        assert_eq!((after.matches("apiKey").count(), after.starts_with(&one)), (1, true), "{after}");
    }

    #[test]
    fn an_edit_that_would_break_the_file_is_not_shown() {
        let text = |description: &str| {
            format!("{HEAD}description: {description}\ntrigger: {{ type: rest }}\nsteps: [{{ json: 1 }}]\n")
        };
        assert!(mended(&text("old"), "/description", json!("new")).is_some());
        for block in ["|\n  old\n  text", "old\n  text", "\"old\n  text\""] {
            assert_eq!(mended(&text(block), "/description", json!("new")), None, "{block}");
        }
    }

    #[test]
    fn a_whole_map_can_be_added() {
        let text = format!("{HEAD}trigger:\n  type: rest\nsteps: [{{ json: 1 }}]\n");
        let limit = json!({ "limits": [{ "interval": "minute", "limit": 600 }] });
        assert!(mended(&text, "/trigger/rateLimit", limit).is_some());
        assert_eq!(mended(&text, "/trigger/cors/maxAge", json!(1)), None, "there is no cors to add it to");
        assert_eq!(mended(&text, "/trigger/nonsense", json!(1)), None);
    }
}
