//! Where pipelines lie. A pipeline is in the project of its latest version, whatever earlier versions said: whoever moved
//! it moved all of it, so nobody reaches it any more by deploying, or rolling back to, a version from before.

use std::collections::BTreeMap;

use tollgate_model::names::{EnvironmentName, PipelineName, ProjectName, RealmName};
use tollgate_model::objects::{Kind, keys};
use tollgate_model::pipelines::PipelineHead;
use tollgate_store::{Expect, Stored};

use crate::App;
use crate::access::{Op, Permission, Place};
use crate::changes::Draft;
use crate::errors::Error;
use crate::pipelines::no_pipeline;

/// The project of each pipeline.
#[derive(Debug, Clone, Default)]
pub(crate) struct Owners(BTreeMap<PipelineName, ProjectName>);

// === impl Owners ===

impl Owners {
    /// Notes in which project a pipeline lies by now; `None` when it is gone.
    pub(crate) fn note(&mut self, pipeline: PipelineName, project: Option<ProjectName>) {
        match project {
            Some(project) => self.0.insert(pipeline, project),
            None => self.0.remove(&pipeline),
        };
    }

    /// Returns the project of a pipeline; `None` when there is no such pipeline.
    pub(crate) fn project(&self, pipeline: &PipelineName) -> Option<&ProjectName> {
        self.0.get(pipeline)
    }

    /// Returns every pipeline with its project, by name.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&PipelineName, &ProjectName)> {
        self.0.iter()
    }

    /// Tells whether an actor may do one of these things to what a pipeline does, or did, in an environment.
    ///
    /// What a pipeline did that is gone lies in no project: it takes the right over all of them.
    pub(crate) fn may(
        &self,
        op: &Op,
        permissions: &[Permission],
        environment: &EnvironmentName,
        pipeline: &PipelineName,
    ) -> bool {
        let place = Place { environment: Some(environment), project: self.0.get(pipeline) };
        permissions.iter().any(|permission| op.may(*permission, place))
    }
}

// === impl App ===

impl App {
    /// Returns a pipeline's head when the actor may do this to it in an environment.
    ///
    /// One that the actor may neither read nor do this to is answered as one that is not there, and an environment in
    /// which they may do it to nothing likewise, whether it exists or not.
    pub(crate) async fn demand_at(
        &self,
        op: &Op,
        permission: Permission,
        environment: &EnvironmentName,
        pipeline: &PipelineName,
    ) -> Result<Stored<PipelineHead>, Error> {
        op.demand_somewhere_in(permission, environment)?;
        self.environment(&op.realm, environment).await?;
        let head = self.store().get::<PipelineHead>(&op.realm, &keys::pipeline(pipeline)).await?;
        let head = head.ok_or_else(|| no_pipeline(pipeline))?;
        let project = &head.value.project;
        let place = Place::both(environment, project);
        let is_known = op.may(Permission::PipelineRead, Place::project(project))
            || op.may(Permission::DeploymentRead, place)
            || op.may(Permission::WaiverRead, place);
        op.demand_of(permission, place, is_known, || no_pipeline(pipeline))?;
        Ok(head)
    }

    /// Refuses a list of what is in one environment, or in all, to whoever may see nothing of it; refuses an environment
    /// that does not exist.
    pub(crate) async fn demand_list(
        &self,
        op: &Op,
        permission: Permission,
        environment: Option<&EnvironmentName>,
    ) -> Result<(), Error> {
        let Some(environment) = environment else { return op.demand_anywhere(permission) };
        op.demand_somewhere_in(permission, environment)?;
        self.environment(&op.realm, environment).await?;
        Ok(())
    }

    /// Makes a change fail when a pipeline is moved to another project meanwhile, where its project decided that the
    /// actor may make it. For others it makes no difference, and they are not overtaken by whoever saves the pipeline.
    pub(crate) fn guard_owner(
        &self,
        op: &Op,
        permission: Permission,
        environment: &EnvironmentName,
        head: &Stored<PipelineHead>,
        draft: &mut Draft,
    ) {
        if !op.may(permission, Place::environment(environment)) {
            let key = keys::pipeline(&head.value.name);
            draft.guard(Kind::Pipeline, key, Expect::Revision(head.revision));
        }
    }

    /// Reads where every pipeline lies.
    pub(crate) async fn owners(&self, realm: &RealmName) -> Result<Owners, Error> {
        let heads = self.all::<PipelineHead>(realm, "").await?.into_iter().map(|stored| stored.value);
        Ok(Owners(heads.map(|head| (head.name, head.project)).collect()))
    }
}
