//! Reads what git keeps: every object that a branch, a tag, the stash, `HEAD` or the index leads to, once.
//!
//! `git rev-list --objects` names the objects and `git cat-file --batch` gives them, one piped into the other, so that
//! memory stays bounded however long the history is. Objects do not know their commits: for what was found, and only
//! then, the commits are gone through once more, from the oldest on, for the first that brought it.

use std::collections::{HashMap, HashSet};
use std::io::{self, BufRead as _, BufReader, Read, Write as _};
use std::path::Path;
use std::process::{ChildStdout, Stdio};

use tollgate_credential::leaks::Leak;

use super::findings::{MAX_TOLD, Part, Place, shown};
use super::git::{self, Git, Header, Repository};
use super::intake::Intake;
use crate::failure::Failure;

/// How many digits of a commit are shown, as git shows them in large repositories.
const SHORT_ID: usize = 12;

/// A key in an object.
struct Hit {
    object: String,
    /// A path that led to it.
    path: Vec<u8>,
    part: Part,
    leak: Leak,
}

/// The first commit that brought an object, and under which name.
struct Origin {
    /// Its place in the history, oldest first.
    number: u64,
    commit: String,
    path: Vec<u8>,
}

/// Reads the whole history of a repository.
pub(super) fn history(repository: &Repository, intake: &mut Intake) {
    if let Err(error) = read_history(repository, intake) {
        intake.findings().failed(&format!("the history of {}", repository.label()), &error);
    }
}

fn read_history(repository: &Repository, intake: &mut Intake) -> Result<(), String> {
    note_if_shallow(repository, intake);
    let mut list = repository.git();
    list.args(["rev-list", "--objects", "--all", "--indexed-objects"]);
    let (list, names) = Git::start(&mut list)?;
    let mut batch = repository.git();
    batch.args(["cat-file", "--buffer", Header::FORMAT]).stdin(Stdio::from(names));
    let (batch, objects) = Git::start(&mut batch)?;
    let mut hits = Vec::new();
    let mut names = false;
    read_objects(objects, &repository.label(), intake, |object, kind, path, found| match kind {
        "tree" => names |= !found.is_empty(),
        _ => hits.extend(found.into_iter().map(|(part, leak)| {
            // A message has no file, and what leads to it is the name of a tag.
            let (part, path) = if kind == "blob" { (part, path) } else { (Part::Message, &b""[..]) };
            Hit { object: object.to_owned(), path: path.to_vec(), part, leak }
        })),
    })?;
    list.end().and(batch.end())?;
    if hits.is_empty() && !names {
        return Ok(());
    }
    let wanted: HashSet<&str> =
        hits.iter().filter(|hit| hit.part != Part::Message).map(|hit| &*hit.object).collect();
    let origins = origins(repository, &wanted, names, intake)?;
    tell(repository, hits, &origins, intake);
    Ok(())
}

fn note_if_shallow(repository: &Repository, intake: &mut Intake) {
    let output = repository.git().args(["rev-parse", "--is-shallow-repository"]).output();
    if output.is_ok_and(|output| output.stdout.trim_ascii() == b"true") {
        let note = format!(
            "{} is a shallow clone: older commits are not here, and were not read (`git fetch --unshallow`; \
             `fetch-depth: 0` of actions/checkout)",
            repository.label()
        );
        intake.findings().notes.push(note);
    }
}

/// Reads objects as `git cat-file --batch` writes them, and gives each one's id, kind, path and the keys in it.
fn read_objects(
    from: ChildStdout,
    label: &str,
    intake: &mut Intake,
    mut found: impl FnMut(&str, &str, &[u8], Vec<(Part, Leak)>),
) -> Result<(), String> {
    let broken = |error: io::Error| format!("cannot read what git writes: {error}");
    let mut from = BufReader::with_capacity(64 * 1024, from);
    let mut told = 0;
    while let Some(header) = Header::read(&mut from).map_err(broken)? {
        let (id, kind, size_bytes, path) = match header {
            Header::Object { id, kind, size_bytes, path } => (id, kind, size_bytes, path),
            Header::Missing(id) => {
                let what = format!("object {id} of {label}");
                intake.findings().failed(&what, "it is not in this repository; a partial clone lacks some");
                continue;
            }
        };
        let mut content = from.by_ref().take(size_bytes);
        let (keys, end) = intake.content(&mut content);
        end.map_err(broken)?;
        if content.limit() > 0 {
            return Err(broken(io::ErrorKind::UnexpectedEof.into()));
        }
        let mut newline = [0];
        from.read_exact(&mut newline).map_err(broken)?;
        intake.findings().objects += 1;
        let room = MAX_TOLD - told;
        intake.findings().untold += keys.len().saturating_sub(room) as u64;
        told += keys.len().min(room);
        found(&id, &kind, &path, keys.into_iter().take(room).collect());
    }
    Ok(())
}

/// Goes through all commits from the oldest on, and returns the first that brought each object. Where names are
/// wanted, adds each name that holds a key.
fn origins(
    repository: &Repository,
    wanted: &HashSet<&str>,
    names: bool,
    intake: &mut Intake,
) -> Result<HashMap<String, Origin>, String> {
    let mut list = repository.git();
    list.args(["rev-list", "--all", "--topo-order", "--reverse"]);
    let (list, commits) = Git::start(&mut list)?;
    let mut trees = repository.git();
    trees
        .args(["diff-tree", "--stdin", "-r", "-m", "--root", "--raw", "--no-abbrev", "--no-renames", "-z"])
        .stdin(Stdio::from(commits));
    let (trees, changes) = Git::start(&mut trees)?;
    let mut changes = BufReader::with_capacity(64 * 1024, changes).split(0);
    let mut next =
        || changes.next().transpose().map_err(|error| format!("cannot read what git writes: {error}"));
    let mut origins = HashMap::new();
    let mut named = HashSet::new();
    let (mut number, mut commit) = (0, String::new());
    while let Some(token) = next()? {
        let Some(change) = token.strip_prefix(b":") else {
            commit = String::from_utf8_lossy(&token).into_owned();
            number += 1;
            continue;
        };
        let path = next()?.ok_or("cannot read what git writes: a path is missing")?;
        // `:MODE MODE BEFORE AFTER STATUS`
        let after = change.split(|byte| *byte == b' ').nth(3).unwrap_or_default();
        let after = String::from_utf8_lossy(after);
        if names && !named.contains(&path) {
            for leak in intake.name(&path) {
                intake.add(place(repository, Some(&commit), &path, Part::Name), leak);
                named.insert(path.clone());
            }
        }
        if wanted.contains(&*after) && !origins.contains_key(&*after) {
            origins.insert(after.into_owned(), Origin { number, commit: commit.clone(), path });
            if !names && origins.len() == wanted.len() {
                // Nobody reads on; both end when they are dropped.
                return Ok(origins);
            }
        }
    }
    list.end().and(trees.end())?;
    Ok(origins)
}

/// Adds what was found: of each key in each file the oldest place only, whatever number of versions hold it.
fn tell(repository: &Repository, hits: Vec<Hit>, origins: &HashMap<String, Origin>, intake: &mut Intake) {
    let mut oldest: HashMap<_, (u64, usize)> = HashMap::new();
    for (index, hit) in hits.iter().enumerate() {
        let origin = origins.get(&hit.object);
        let message = (hit.part == Part::Message).then_some(&hit.object);
        let path = origin.map_or(&hit.path, |origin| &origin.path);
        let number = origin.map_or(u64::MAX, |origin| origin.number);
        let known = oldest.entry((hit.leak.digest, path, message)).or_insert((number, index));
        if number < known.0 {
            *known = (number, index);
        }
    }
    let mut kept: Vec<usize> = oldest.into_values().map(|(_, index)| index).collect();
    kept.sort_unstable();
    let kept: HashSet<usize> = kept.into_iter().collect();
    for (index, Hit { object, path, part, leak }) in hits.into_iter().enumerate() {
        if !kept.contains(&index) {
            continue;
        }
        let origin = origins.get(&object);
        let commit = match (origin, part) {
            (Some(origin), _) => Some(&origin.commit),
            (None, Part::Message) => Some(&object),
            // Of the index, if it has a name; else something that a tag points to.
            (None, _) => path.is_empty().then_some(&object),
        };
        let path = origin.map_or(&path, |origin| &origin.path);
        intake.add(place(repository, commit, path, part), leak);
    }
}

fn place(repository: &Repository, commit: Option<&String>, path: &[u8], part: Part) -> Place {
    let commit = commit.map(|id| id.chars().take(SHORT_ID).collect());
    let path = shown(&String::from_utf8_lossy(path));
    Place { repository: Some(repository.label()), commit, path, part }
}

/// Reads what is staged in the repository around a directory: the whole of each file that the next commit changes.
///
/// # Errors
///
/// When there is no repository.
pub(super) fn staged(directory: &Path, intake: &mut Intake) -> Result<(), Failure> {
    let told = |error: String| Failure::new(format!("cannot read what is staged: {error}"));
    let mut list = git::at(directory);
    list.args(["diff", "--cached", "--raw", "-z", "--no-abbrev", "--no-renames", "--diff-filter=d"]);
    list.args(["--no-ext-diff", "--no-textconv", "--no-relative", "--no-color", "--ignore-submodules=all"]);
    let (list, mut changes) = Git::start(&mut list).map_err(told)?;
    let mut bytes = Vec::new();
    changes.read_to_end(&mut bytes).map_err(|error| told(error.to_string()))?;
    list.end().map_err(|error| {
        let hint = "run it in a git repository, or name one: `tollgate key scan --staged PATH`";
        told(error).hint(hint)
    })?;
    let repository = Repository::with_work_tree(directory);
    let tokens: Vec<&[u8]> = bytes.split(|byte| *byte == 0).collect();
    let mut objects = String::new();
    let mut paths = Vec::new();
    for [change, path] in tokens.as_chunks::<2>().0 {
        let after = change.split(|byte| *byte == b' ').nth(3).unwrap_or_default();
        objects.push_str(&format!("{}\n", String::from_utf8_lossy(after)));
        paths.push(*path);
        for leak in intake.name(path) {
            intake.add(place(&repository, None, path, Part::Name), leak);
        }
    }
    let mut batch = git::at(directory);
    batch.args(["cat-file", Header::FORMAT]).stdin(Stdio::piped());
    let (mut batch, contents) = Git::start(&mut batch).map_err(told)?;
    let writer = batch.take_stdin().map(|mut stdin| {
        // Ends when git ends: it then reads no more.
        std::thread::spawn(move || stdin.write_all(objects.as_bytes()))
    });
    let mut paths = paths.into_iter();
    let mut all = Vec::new();
    read_objects(contents, &repository.label(), intake, |_, _, _, found| {
        let path = paths.next().unwrap_or_default();
        all.extend(found.into_iter().map(|(part, leak)| (path, part, leak)));
    })
    .map_err(told)?;
    for (path, part, leak) in all {
        intake.add(place(&repository, None, path, part), leak);
    }
    if let Some(writer) = writer {
        let _ = writer.join();
    }
    batch.end().map_err(told)
}
