//! Why a use case did not do what it was asked; knows no HTTP.

use std::error::Error as StdError;
use std::fmt;

use tollgate_model::document::DocumentError;
use tollgate_model::next_steps::NextStep;
use tollgate_model::objects::Kind;
use tollgate_model::verdicts::Violation;
use tollgate_store::{CommitError, Expect, ReadError};

/// Which way a use case failed; each maps to one status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// What was named does not exist.
    NotFound,
    /// It clashes with what exists.
    Conflict,
    /// It was changed since the caller read it.
    PreconditionFailed,
    /// The input is wrong.
    Invalid,
    /// A policy refuses it; `violations` say why.
    Refused,
    /// The actor may not do it.
    Forbidden,
    /// Nobody, or not who they say.
    Unauthenticated,
    /// Too many attempts.
    TooMany,
    /// The store or a check is out of reach. Nothing was changed, unless the code is `outcome-unknown`.
    Unavailable,
    /// A fault of ours.
    Internal,
}

/// Why a use case failed. `Display` is for the caller; `source` is for the log.
#[derive(Debug)]
pub struct Error {
    /// Which way.
    pub kind: ErrorKind,
    /// The stable code of the problem.
    pub code: &'static str,
    /// What happened, for the caller.
    pub message: String,
    /// What to do next, in words that fit wherever they are read.
    pub hint: Option<Box<str>>,
    /// The step that the hint speaks of, for whoever shows it to say how it is done there.
    pub next: Option<Box<NextStep>>,
    /// After how many seconds it makes sense to try again, when that can be told.
    pub retry_after_seconds: Option<u16>,
    /// The switches to change, when a policy refused.
    pub violations: Box<[Violation]>,
    /// The places at fault, when the input is a document.
    pub places: Box<[Place]>,
    /// Kind and key of what it is about, where the caller did not name it.
    pub(crate) about: Option<Box<(Kind, String)>>,
    /// Whether the journal has been told of it, or need not be.
    pub(crate) journaled: bool,
    /// Whether it stands for a refusal that the caller must not know of; the journal tells.
    pub(crate) concealing: bool,
    pub(crate) source: Option<Box<Source>>,
}

/// What made a use case fail, in a box of one word: errors are returned by value everywhere.
#[derive(Debug)]
pub(crate) struct Source(Box<dyn StdError + Send + Sync>);

/// One place at fault in a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// JSON pointer (RFC 6901); empty for the whole document.
    pub pointer: String,
    /// Line, counted from 1.
    pub line: Option<usize>,
    /// Column in characters, counted from 1.
    pub column: Option<usize>,
    /// What is wrong there.
    pub message: String,
    /// What to write instead.
    pub hint: Option<String>,
}

// === impl Error ===

impl Error {
    /// Makes an error.
    pub(crate) fn new(kind: ErrorKind, code: &'static str, message: impl Into<String>) -> Self {
        Self {
            kind,
            code,
            message: message.into(),
            hint: None,
            next: None,
            retry_after_seconds: None,
            violations: Box::default(),
            places: Box::default(),
            about: None,
            journaled: false,
            concealing: false,
            source: None,
        }
    }

    /// Returns what happened with all that caused it, when the log is to be told: something of ours failed. Not for the
    /// caller.
    #[must_use]
    pub fn fault(&self) -> Option<String> {
        if !matches!(self.kind, ErrorKind::Internal | ErrorKind::Unavailable) {
            return None;
        }
        let mut words = self.to_string();
        let mut source = self.source();
        while let Some(inner) = source {
            words.push_str(&format!(": {inner}"));
            source = inner.source();
        }
        Some(words)
    }

    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::NotFound, "not-found", message)
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Invalid, "invalid", message)
    }

    pub(crate) fn conflict(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Conflict, code, message)
    }

    pub(crate) fn internal(source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self {
            source: Some(Box::new(Source(source.into()))),
            ..Self::new(ErrorKind::Internal, "internal-error", "something went wrong on our side")
        }
        .hint("the log of the server says what, under the id of this request")
    }

    pub(crate) fn unavailable(source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self {
            source: Some(Box::new(Source(source.into()))),
            ..Self::new(
                ErrorKind::Unavailable,
                "unavailable",
                "the store is out of reach; nothing was changed",
            )
        }
        .hint("try again in a moment")
    }

    /// Says what it is about, for the journal.
    #[must_use]
    pub(crate) fn about(mut self, kind: Kind, key: impl Into<String>) -> Self {
        self.about = Some(Box::new((kind, key.into())));
        self
    }

    /// Says that it stands for a refusal that the caller must not know of.
    #[must_use]
    pub(crate) fn concealing(mut self) -> Self {
        self.concealing = true;
        self
    }

    #[must_use]
    pub(crate) fn retry_after(mut self, seconds: u16) -> Self {
        self.retry_after_seconds = Some(seconds);
        self
    }

    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into().into_boxed_str());
        self
    }

    /// Says which step the hint speaks of.
    #[must_use]
    pub(crate) fn next(mut self, step: NextStep) -> Self {
        self.next = Some(Box::new(step));
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| &*source.0 as _)
    }
}

impl From<ReadError> for Error {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Unavailable(error) => Self::unavailable(error),
            // The store answers, and will say the same in a moment.
            error @ ReadError::Row(_) => Self::internal(error),
        }
    }
}

impl From<CommitError> for Error {
    fn from(error: CommitError) -> Self {
        match error {
            CommitError::Conflict { kind: Kind::Environment, ref key, expected: Expect::Exists, .. } => {
                Self::not_found(format!("environment `{key}` was deleted meanwhile"))
                    .hint("see the environments")
                    .next(NextStep::ListEnvironments)
            }
            CommitError::Conflict { kind, ref key, .. } => {
                let message = match kind {
                    Kind::Policies => "the policies were changed by somebody else".to_owned(),
                    Kind::ShadowPolicies => "the shadow policies were changed by somebody else".to_owned(),
                    _ => format!("{kind} `{key}` was changed by somebody else"),
                };
                Self::new(ErrorKind::PreconditionFailed, "precondition-failed", message)
                    .hint("read it again, then repeat the change")
            }
            CommitError::Nul { field } => Self::invalid(format!("{field} contains the character U+0000"))
                .hint("leave that character out"),
            error @ CommitError::Unknown(_) => Self {
                source: Some(Box::new(Source(error.into()))),
                ..Self::new(
                    ErrorKind::Unavailable,
                    "outcome-unknown",
                    "the store was lost while it saved: the change may or may not have been saved",
                )
            }
            .hint("look before you try again"),
            CommitError::Unavailable(error) => Self::unavailable(error),
            error @ (CommitError::Damaged | CommitError::Past) => Self::internal(error),
        }
    }
}

impl From<tollgate_model::sources::RandomError> for Error {
    fn from(error: tollgate_model::sources::RandomError) -> Self {
        Self::unavailable(error)
    }
}

impl From<tollgate_policy::UnknownEnvironment> for Error {
    fn from(error: tollgate_policy::UnknownEnvironment) -> Self {
        Self::not_found(error.to_string()).hint("see the environments").next(NextStep::ListEnvironments)
    }
}

impl From<DocumentError> for Error {
    fn from(error: DocumentError) -> Self {
        let place = Place {
            pointer: error.pointer.clone(),
            line: error.position.map(|position| position.line),
            column: error.position.map(|position| position.column),
            message: error.message.clone(),
            hint: error.hint.clone(),
        };
        let hint = error.hint.clone().unwrap_or_else(|| "correct the document at that place".to_owned());
        Self {
            hint: Some(hint.into_boxed_str()),
            places: Box::new([place]),
            ..Self::new(ErrorKind::Invalid, "document-invalid", error.to_string())
        }
    }
}
