//! One search over pipelines and consumers, of what the actor may read.

use tollgate_model::consumers::Consumer;
use tollgate_model::environments::Environment;
use tollgate_model::pipelines::PipelineHead;

use crate::App;
use crate::access::{Op, Permission, Place};
use crate::errors::Error;
use crate::lists::ListRequest;

/// Longest text that is searched for, in bytes: no name is longer.
const MAX_TEXT: usize = 100;

/// The search over pipelines and consumers.
pub struct Search(pub(crate) App);

/// What a search found.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Found {
    /// Pipelines by name.
    pub pipelines: Vec<PipelineHead>,
    /// Consumers by environment and name.
    pub consumers: Vec<Consumer>,
    /// Whether there are more of either.
    pub more: bool,
}

// === impl Search ===

impl Search {
    /// Returns pipelines and consumers whose names hold a text, `limit` of each at most. Of what the actor may not read
    /// nothing is found; a text that is empty, or longer than any name, finds nothing.
    ///
    /// # Errors
    ///
    /// [`crate::errors::ErrorKind::Unavailable`].
    pub async fn find(&self, op: &Op, text: &str, limit: u32) -> Result<Found, Error> {
        let text = text.trim().to_lowercase();
        let mut found = Found::default();
        if text.is_empty() || text.len() > MAX_TEXT {
            return Ok(found);
        }
        let request = || ListRequest { limit: Some(limit), cursor: None };
        if op.rights().allows_anywhere(Permission::PipelineRead) {
            let page = self.0.pipelines().search(op, None, &text, request()).await?;
            found.more |= page.next.is_some();
            found.pipelines = page.items;
        }
        for environment in self.0.all::<Environment>(&op.realm, "").await? {
            let environment = environment.value.name;
            if op.may(Permission::ConsumerRead, Place::environment(&environment)) {
                let page = self.0.consumers().search(op, &environment, &text, request()).await?;
                found.more |= page.next.is_some();
                found.consumers.extend(page.items);
            }
        }
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        found.more |= found.consumers.len() > limit;
        found.consumers.truncate(limit);
        Ok(found)
    }
}
