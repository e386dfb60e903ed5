//! Resource files given with `-f`: a file, a directory with all below it, or `-` for stdin.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tollgate_model::document::{self, DocumentError, Located, Resource};

use crate::failure::{Exit, Failure};

/// A resource and the file that it stands in.
pub(crate) struct FileResource {
    pub(crate) file: String,
    pub(crate) located: Located<Resource>,
}

/// A file, and the text that stands in it.
pub(crate) struct Source {
    pub(crate) file: String,
    pub(crate) text: std::io::Result<String>,
}

/// Reads every resource of the given paths, in the order given; files of a directory and of those below by name.
///
/// # Errors
///
/// A failure that names file, line and field of the first mistake.
pub(crate) fn read(paths: &[PathBuf]) -> Result<Vec<FileResource>, Failure> {
    let mut resources = Vec::new();
    for Source { file, text } in sources(paths)? {
        let text = text.map_err(|error| unreadable(&file, &error))?;
        let located = document::parse_resources(&text).map_err(|error| invalid(&file, &error))?;
        resources.extend(located.into_iter().map(|located| FileResource { file: file.clone(), located }));
    }
    Ok(resources)
}

/// Reads the texts of the given paths; one that cannot be read is among them, with the reason.
///
/// # Errors
///
/// When there is nothing to read, or a directory cannot be listed.
pub(crate) fn sources(paths: &[PathBuf]) -> Result<Vec<Source>, Failure> {
    let mut sources = Vec::new();
    for path in paths {
        if path.as_os_str() == "-" {
            let mut text = String::new();
            let limit = document::MAX_BYTES as u64 + 1;
            let read = std::io::stdin().lock().take(limit).read_to_string(&mut text);
            sources.push(Source { file: "<stdin>".to_owned(), text: read.map(|_| text) });
        } else if path.is_dir() {
            sources.extend(files_of(path)?.iter().map(|file| source(file)));
        } else {
            sources.push(source(path));
        }
    }
    if sources.is_empty() {
        return Err(Failure::usage("there is no .yaml, .yml or .json file to read"));
    }
    Ok(sources)
}

fn source(path: &Path) -> Source {
    Source { file: path.display().to_string(), text: std::fs::read_to_string(path) }
}

/// Returns the files below a directory. What is hidden is left out, and links to directories are not followed: they
/// could lead in a circle.
fn files_of(directory: &Path) -> Result<Vec<PathBuf>, Failure> {
    let mut files = Vec::new();
    let mut directories = vec![directory.to_owned()];
    while let Some(directory) = directories.pop() {
        let failed = |error| unreadable(&directory.display().to_string(), &error);
        for entry in std::fs::read_dir(&directory).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let (path, kind) = (entry.path(), entry.file_type().map_err(failed)?);
            let known = path.extension().is_some_and(|it| it == "yaml" || it == "yml" || it == "json");
            if entry.file_name().as_encoded_bytes().starts_with(b".") {
                continue;
            } else if kind.is_dir() {
                directories.push(path);
            } else if known && path.is_file() {
                files.push(path);
            }
        }
    }
    files.sort();
    Ok(files)
}

fn unreadable(file: &str, error: &std::io::Error) -> Failure {
    Failure::new(format!("cannot read {file}: {error}"))
}

fn invalid(file: &str, error: &DocumentError) -> Failure {
    let place = error.position.map(|at| format!(":{}:{}", at.line, at.column)).unwrap_or_default();
    let body = json!({ "title": "The file is not valid", "code": "invalid", "file": file, "errors": [{
        "message": error.message, "pointer": error.pointer, "hint": error.hint,
        "line": error.position.map(|at| at.line), "column": error.position.map(|at| at.column) }] });
    Failure::Other {
        exit: Exit::Failed,
        message: format!("{file}{place}: {}", error.message),
        hints: error.hint.clone().into_iter().collect(),
        body: Some(body),
    }
}

// === impl FileResource ===

impl FileResource {
    /// Puts file, line and column of this resource into the errors of a problem, by their JSON pointers.
    pub(crate) fn locate(&self, failure: Failure) -> Failure {
        let Failure::Problem { status, mut body } = failure else { return failure };
        for list in ["errors", "violations"] {
            for error in body.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
                let Some(pointer) = error.get("pointer").and_then(Value::as_str) else { continue };
                let at = self.located.positions.find(pointer);
                if let Some(fields) = error.as_object_mut() {
                    fields.insert("line".to_owned(), at.line.into());
                    fields.insert("column".to_owned(), at.column.into());
                }
            }
        }
        if let Some(fields) = body.as_object_mut() {
            fields.insert("file".to_owned(), self.file.clone().into());
            // The server's sentence names places in what was sent, which is not the file.
            if fields.contains_key("errors") {
                fields.insert(
                    "detail".to_owned(),
                    format!("the {} is not valid", self.located.value.kind()).into(),
                );
            }
        }
        Failure::Problem { status, body }
    }

    /// Returns the resource as JSON, `kind` included.
    pub(crate) fn to_json(&self) -> Value {
        to_json(&self.located.value)
    }
}

/// Returns a resource as JSON, `kind` first.
pub(crate) fn to_json(resource: &Resource) -> Value {
    let fields = match resource {
        Resource::Pipeline(it) => json!(it),
        Resource::Policy(it) => json!(it),
        Resource::Consumer(it) => json!(it),
        Resource::Global(it) => json!(it),
        Resource::Group(it) => json!(it),
        Resource::Issuer(issuer) => json!(issuer),
        Resource::Role(it) => json!(it),
        Resource::Waiver(it) => json!(it),
    };
    with_kind(resource.kind(), fields)
}

/// Puts `kind` in front of the fields of a resource.
pub(crate) fn with_kind(kind: &str, fields: Value) -> Value {
    let mut document = serde_json::Map::from_iter([("kind".to_owned(), kind.into())]);
    if let Value::Object(fields) = fields {
        document.extend(fields);
    }
    Value::Object(document)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_read_with_all_below_it_but_nothing_hidden() {
        let directory = tempfile::tempdir().expect("a directory");
        for name in ["b.yaml", "a/deep/c.yml", "a/d.json", ".git/e.yaml", ".f.yaml", "readme.md"] {
            let path = directory.path().join(name);
            std::fs::create_dir_all(path.parent().expect("a parent")).expect("makes");
            std::fs::write(path, "").expect("writes");
        }
        std::os::unix::fs::symlink(directory.path(), directory.path().join("a/circle")).expect("links");
        let files = files_of(directory.path()).expect("reads");
        let names: Vec<_> =
            files.iter().filter_map(|file| file.strip_prefix(directory.path()).ok()?.to_str()).collect();
        assert_eq!(names, ["a/d.json", "a/deep/c.yml", "b.yaml"]);
    }
}
