//! Who is associated with a pipeline, found without reading every consumer.

use tollgate_model::consumers::Consumer;
use tollgate_model::names::{EnvironmentName, PipelineName, RealmName};
use tollgate_model::objects::Object as _;
use tollgate_store::{Page, Stored};

use crate::App;
use crate::errors::Error;

/// Consumers read at once.
const PAGE: u32 = 500;

// === impl App ===

impl App {
    /// Returns the next consumers that may be associated with a pipeline, by their keys: all that are, and perhaps some in
    /// which its name stands elsewhere. Empty when there are no more.
    pub(crate) async fn callers_after(
        &self,
        realm: &RealmName,
        prefix: &str,
        pipeline: &PipelineName,
        after: Option<String>,
    ) -> Result<Vec<Stored<Consumer>>, Error> {
        let page = Page { prefix: prefix.to_owned(), after, limit: PAGE };
        Ok(self.store().mentioning::<Consumer>(realm, &page, pipeline.as_str()).await?)
    }

    /// Tells whether a consumer of an environment is associated with a pipeline.
    pub(crate) async fn is_called(
        &self,
        realm: &RealmName,
        environment: &EnvironmentName,
        pipeline: &PipelineName,
    ) -> Result<bool, Error> {
        let prefix = format!("{environment}/");
        let mut page = Page { prefix, after: None, limit: 1 };
        loop {
            let found = self.store().mentioning::<Consumer>(realm, &page, pipeline.as_str()).await?;
            let Some(consumer) = found.first() else { return Ok(false) };
            if consumer.value.pipelines.contains(pipeline) {
                return Ok(true);
            }
            page.after = Some(consumer.value.key());
        }
    }
}
