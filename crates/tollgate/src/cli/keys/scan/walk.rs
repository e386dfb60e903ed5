//! Reads files, and finds the git repositories among them.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use super::findings::{Part, Place, shown};
use super::git::{self, Repository};
use super::intake::Intake;
use crate::failure::Failure;

/// A directory to read.
struct Directory {
    path: PathBuf,
    /// Whether it is, or is in, the directory that git keeps for itself.
    of_git: bool,
}

/// Reads a path and all below it; returns the repositories that were found.
///
/// Links are not followed, other than the path itself: what they lead to is read where it is, and no circle can be made
/// of directories alone. What is no regular file, such as a pipe that nobody writes to, is left out.
///
/// # Errors
///
/// When the path itself is not there.
pub(super) fn walk(path: &Path, skip_ignored: bool, intake: &mut Intake) -> Result<Vec<Repository>, Failure> {
    if path.as_os_str() == "-" {
        scan(io::stdin().lock(), "<stdin>", intake);
        return Ok(Vec::new());
    }
    let missing = |error| Failure::usage(format!("cannot read {}: {error}", shown(&path.to_string_lossy())));
    if !fs::metadata(path).map_err(missing)?.is_dir() {
        file(path, intake);
        return Ok(Vec::new());
    }
    let mut repositories = Vec::new();
    let mut ignored = HashSet::new();
    if skip_ignored && !path.join(".git").exists() {
        // Below the top of a repository, or in none.
        ignored.extend(git::ignored_below(path));
    }
    let mut left = vec![Directory { path: path.to_owned(), of_git: false }];
    while let Some(directory) = left.pop() {
        let mut entries = match entries(&directory.path) {
            Ok(entries) => entries,
            Err(error) => {
                intake.findings().failed(&directory.path.to_string_lossy(), &error.to_string());
                continue;
            }
        };
        let has = |name: &str| entries.iter().any(|(path, _)| path.ends_with(name));
        let is_bare = has("HEAD") && has("objects") && has("refs");
        if has(".git") {
            let repository = Repository::with_work_tree(&directory.path);
            if skip_ignored {
                match repository.ignored() {
                    Ok(paths) => ignored.extend(paths),
                    Err(error) => intake.findings().failed(&repository.label(), &error),
                }
            }
            repositories.push(repository);
        } else if is_bare && !directory.of_git {
            repositories.push(Repository::bare(&directory.path));
        }
        entries.sort_by(|one, other| one.0.cmp(&other.0));
        let mut below = Vec::new();
        for (path, kind) in entries {
            let of_git = directory.of_git || is_bare || path.ends_with(".git");
            if ignored.contains(&path) || (kind.is_dir() && of_git && is_packed(&path)) {
                continue;
            }
            names(&path, intake);
            if kind.is_dir() {
                below.push(Directory { path, of_git });
            } else if kind.is_file() {
                file(&path, intake);
            }
        }
        // The last one is read first.
        left.extend(below.into_iter().rev());
    }
    Ok(repositories)
}

fn entries(directory: &Path) -> io::Result<Vec<(PathBuf, fs::FileType)>> {
    fs::read_dir(directory)?
        .map(|entry| entry.and_then(|entry| Ok((entry.path(), entry.file_type()?))))
        .collect()
}

/// Tells whether a directory of git holds compressed objects, which the history reads; those of large file storage
/// are as they were.
fn is_packed(path: &Path) -> bool {
    path.ends_with("objects") && !path.ends_with("lfs/objects")
}

/// Returns what to call a path: without a `./` in front that nobody wrote.
fn called(path: &Path) -> String {
    path.strip_prefix(".").unwrap_or(path).to_string_lossy().into_owned()
}

fn names(path: &Path, intake: &mut Intake) {
    let Some(name) = path.file_name() else { return };
    for leak in intake.name(name.as_encoded_bytes()) {
        let path = shown(&called(path));
        intake.add(Place { repository: None, commit: None, path, part: Part::Name }, leak);
    }
}

fn file(path: &Path, intake: &mut Intake) {
    let name = called(path);
    match File::open(path) {
        Ok(file) => scan(file, &name, intake),
        Err(error) => intake.findings().failed(&name, &error.to_string()),
    }
}

fn scan(reader: impl io::Read, name: &str, intake: &mut Intake) {
    let (found, end) = intake.content(reader);
    for (part, leak) in found {
        intake.add(Place { repository: None, commit: None, path: shown(name), part }, leak);
    }
    match end {
        Ok(()) => intake.findings().files += 1,
        Err(error) => intake.findings().failed(name, &error.to_string()),
    }
}
