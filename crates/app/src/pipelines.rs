//! Pipelines: read from a document, checked as a whole, kept as immutable versions.

mod check;
mod mend;

use tollgate_model::document::{self, Located, Positions};
use tollgate_model::environments::{Environment, Project};
use tollgate_model::names::{PipelineName, ProjectName};
use tollgate_model::next_steps::NextStep;
use tollgate_model::objects::{Kind, Object as _, keys};
use tollgate_model::pipelines::{Pipeline, PipelineHead, PipelineVersion};
use tollgate_model::verdicts::Verdict;
use tollgate_model::versions::Version;
use tollgate_policy::Judge;
use tollgate_store::{CommitError, Expect, Stored};

use crate::App;
use crate::access::{Op, Permission, Place};
use crate::changes::{Draft, overtaken};
use crate::errors::{Error, ErrorKind, Place as ErrorPlace};
use crate::lists::{ListPage, ListRequest};
use crate::waivers;

pub(crate) use check::check;
pub use check::faults;

/// Use cases of pipelines.
pub struct Pipelines(pub(crate) App);

/// A pipeline to save.
#[derive(Debug, Clone, Default)]
pub struct SavePipeline {
    /// The file: YAML or JSON.
    pub document: String,
    /// Whether a change becomes the next major rather than the next minor.
    pub new_major: bool,
    /// Whether to check only.
    pub dry_run: bool,
    /// The revision of the pipeline that the caller read.
    pub if_match: Option<u64>,
    /// Whether it must be one that there is not yet.
    pub is_new: bool,
}

/// What saving did, or would do.
#[derive(Debug, Clone, PartialEq)]
pub struct SavedPipeline {
    /// The pipeline.
    pub name: PipelineName,
    /// The version that has this content.
    pub version: Version,
    /// The latest version before.
    pub previous_version: Option<Version>,
    /// What became of it.
    pub change: SaveChange,
    /// Whether it is a login flow.
    pub login_flow: bool,
    /// What today's policies say of it, per environment.
    pub verdicts: Vec<Verdict>,
    /// What would pass by waivers only, and what the policies allow but advise against, in sentences.
    pub reminders: Vec<String>,
    /// Its revision; `None` for a dry run.
    pub revision: Option<u64>,
}

/// What became of a saved pipeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SaveChange {
    /// It is new.
    Created,
    /// It has a new version.
    Updated,
    /// Its latest version says the same.
    Unchanged,
}

/// One version with what today's policies say of it.
#[derive(Debug, Clone, PartialEq)]
pub struct JudgedVersion {
    /// The version.
    pub version: PipelineVersion,
    /// What the policies say, per environment.
    pub verdicts: Vec<Verdict>,
}

// === impl Pipelines ===

impl Pipelines {
    /// Saves a pipeline as its next version, unless its latest says the same.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Forbidden`] without the permission in the pipeline's project, and in the one that it is in by now;
    /// [`ErrorKind::Invalid`] with the places at fault; [`ErrorKind::PreconditionFailed`] when somebody saved it since
    /// `if_match` or at the same moment; [`ErrorKind::Conflict`] when it must be new, and there is one of its name. Nothing is
    /// stored then.
    pub async fn save(&self, op: &Op, input: SavePipeline) -> Result<SavedPipeline, Error> {
        op.demand_anywhere(Permission::PipelineUpdate)?;
        let Located { value: pipeline, positions } = document::parse_pipeline(&input.document)?;
        op.demand_in(Permission::PipelineUpdate, Place::project(&pipeline.project))?;
        check(&op.realm, &pipeline, &positions)?;
        let verdicts = self.verdicts(op, &pipeline).await?;
        let head = self.0.store().get::<PipelineHead>(&op.realm, &keys::pipeline(&pipeline.name)).await?;
        if let Some(head) = &head {
            demand_not_taken(op, &head.value, &pipeline.project)?;
            if input.is_new {
                return Err(taken(&pipeline.name, &positions));
            }
        }
        check_if_match(input.if_match, head.as_ref())?;
        let (version, change) = match &head {
            None => (Version::FIRST, SaveChange::Created),
            Some(head) => {
                let latest = self.0.pipeline_version(op, &pipeline.name, head.value.latest).await?;
                if latest.pipeline == pipeline {
                    (head.value.latest, SaveChange::Unchanged)
                } else if input.new_major {
                    (head.value.latest.next_major(), SaveChange::Updated)
                } else {
                    (head.value.latest.next_minor(), SaveChange::Updated)
                }
            }
        };
        let mut saved = SavedPipeline {
            name: pipeline.name.clone(),
            version,
            previous_version: head.as_ref().map(|head| head.value.latest),
            change,
            login_flow: tollgate_policy::is_login_flow(&pipeline),
            reminders: reminders(&verdicts),
            verdicts,
            revision: head.as_ref().map(|head| head.revision),
        };
        if input.dry_run {
            saved.revision = None;
        } else if change != SaveChange::Unchanged {
            saved.revision = Some(match self.store(op, pipeline, head, &saved).await {
                // Somebody saved the first one of this name at the same moment.
                Err(error) if input.is_new && error.kind == ErrorKind::PreconditionFailed => {
                    return Err(taken(&saved.name, &positions));
                }
                stored => stored?,
            });
        }
        Ok(saved)
    }

    async fn store(
        &self,
        op: &Op,
        pipeline: Pipeline,
        head: Option<Stored<PipelineHead>>,
        saved: &SavedPipeline,
    ) -> Result<u64, Error> {
        let mut draft = Draft::new(op, "pipeline.save");
        let expected = head.as_ref().map_or(Expect::Absent, |head| Expect::Revision(head.revision));
        let mut versions = head.map(|head| head.value.versions).unwrap_or_default();
        versions.push(saved.version);
        let next = PipelineHead {
            name: saved.name.clone(),
            project: pipeline.project.clone(),
            latest: saved.version,
            versions,
        };
        draft.put(&next, expected)?;
        let project = Project { name: pipeline.project.clone(), created_at: op.now };
        if self.0.store().get::<Project>(&op.realm, &keys::project(&project.name)).await?.is_none() {
            draft.put(&project, Expect::Any)?;
        }
        let version = PipelineVersion {
            version: saved.version,
            pipeline,
            login_flow: saved.login_flow,
            created_at: op.now,
            created_by: op.actor.name.clone(),
        };
        draft.put(&version, Expect::Absent)?;
        Ok(self.0.commit(op, draft).await?)
    }

    /// Returns a pipeline's head with its revision.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`].
    pub async fn get(&self, op: &Op, name: &PipelineName) -> Result<Stored<PipelineHead>, Error> {
        self.0.pipeline_for(op, name, Permission::PipelineRead).await
    }

    /// Returns a page of the pipelines by name: of those that the actor may read.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Forbidden`], [`ErrorKind::Unavailable`].
    pub async fn list(&self, op: &Op, request: ListRequest) -> Result<ListPage<PipelineHead>, Error> {
        if op.may(Permission::PipelineRead, Place::REALM) {
            let page = self.0.page::<PipelineHead>(&op.realm, String::new(), request).await?;
            return Ok(page.map(|stored| stored.value));
        }
        self.search(op, None, "", request).await
    }

    /// Returns a page of the pipelines whose names hold a text, of one project or of all that the actor may read, by name.
    ///
    /// # Errors
    ///
    /// As [`Pipelines::list`]. A project without pipelines, or that does not exist, has an empty page.
    pub async fn search(
        &self,
        op: &Op,
        project: Option<&ProjectName>,
        text: &str,
        request: ListRequest,
    ) -> Result<ListPage<PipelineHead>, Error> {
        match project {
            Some(project) => op.demand_in(Permission::PipelineRead, Place::project(project))?,
            None => op.demand_anywhere(Permission::PipelineRead)?,
        }
        // Which projects' pipelines there are is known without reading them all; those of the page are read.
        let standings = self.0.standings(op).await?;
        let visible = standings.owners().iter().filter(|(name, of)| {
            project.is_none_or(|project| project == *of)
                && name.as_str().contains(text)
                && op.may(Permission::PipelineRead, Place::project(of))
        });
        let ListPage { items, next } = ListPage::of(visible, request, |(name, _)| name.to_string());
        let names: Vec<String> = items.into_iter().map(|(name, _)| keys::pipeline(name)).collect();
        let heads = self.0.store().get_many::<PipelineHead>(&op.realm, &names).await?;
        let mut heads: Vec<PipelineHead> = heads.into_iter().map(|stored| stored.value).collect();
        // One that was moved since is where the actor may not read, perhaps.
        heads.retain(|head| op.may(Permission::PipelineRead, Place::project(&head.project)));
        heads.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(ListPage { items: heads, next })
    }

    /// Returns a page of one project's pipelines by name.
    ///
    /// # Errors
    ///
    /// As [`Pipelines::list`]. A project without pipelines, or that does not exist, has an empty page.
    pub async fn list_of_project(
        &self,
        op: &Op,
        project: &ProjectName,
        request: ListRequest,
    ) -> Result<ListPage<PipelineHead>, Error> {
        self.search(op, Some(project), "", request).await
    }

    /// Returns every version, judged, oldest first.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`].
    pub async fn versions(&self, op: &Op, name: &PipelineName) -> Result<Vec<JudgedVersion>, Error> {
        self.0.pipeline_for(op, name, Permission::PipelineRead).await?;
        let versions = self.0.all::<PipelineVersion>(&op.realm, &format!("{name}/")).await?;
        let ruling = self.0.ruling(&op.realm).await?;
        let judge = ruling.judge(op.now);
        let judged = |version: PipelineVersion| {
            let verdicts = everywhere(&judge, &version.pipeline)?;
            Ok(JudgedVersion { version, verdicts })
        };
        versions.into_iter().map(|stored| judged(stored.value)).collect()
    }

    /// Returns one version, judged.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`].
    pub async fn version(
        &self,
        op: &Op,
        name: &PipelineName,
        version: Version,
    ) -> Result<JudgedVersion, Error> {
        self.0.pipeline_for(op, name, Permission::PipelineRead).await?;
        let version = self.0.pipeline_version(op, name, version).await?;
        let verdicts = self.verdicts(op, &version.pipeline).await?;
        Ok(JudgedVersion { version, verdicts })
    }

    /// Deletes a pipeline with all its versions and waivers, and takes it away from the consumers that could call it:
    /// whoever saves another one under this name says anew who may call that.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Conflict`] while a version of it runs somewhere; [`ErrorKind::PreconditionFailed`].
    pub async fn delete(&self, op: &Op, name: &PipelineName, if_match: Option<u64>) -> Result<(), Error> {
        op.demand_anywhere(Permission::PipelineDelete)?;
        let mut attempts = self.0.attempts();
        while attempts.next().await {
            let head = self.0.pipeline_for(op, name, Permission::PipelineDelete).await?;
            check_if_match(if_match, Some(&head))?;
            let draft = self.deletion(op, name, head).await?;
            match self.0.commit(op, draft).await {
                Ok(_) => {
                    drop(attempts);
                    if let Err(error) = self.forget(op, name).await {
                        tracing::warn!(%error, pipeline = %name, "a consumer may still be associated with a deleted pipeline");
                    }
                    return Ok(());
                }
                Err(CommitError::Conflict { kind: Kind::Deployment, .. }) => {
                    return Err(Error::conflict(
                        "pipeline-deployed",
                        format!("pipeline `{name}` is deployed"),
                    )
                    .hint("see where it runs, and undeploy it there first")
                    .next(NextStep::ListDeployments { pipeline: name.clone() }));
                }
                Err(CommitError::Conflict { kind: Kind::Consumer | Kind::Waiver, .. }) => {}
                // A waiver was made for it meanwhile.
                Err(CommitError::Conflict { kind: Kind::Pipeline, .. }) if if_match.is_none() => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(overtaken())
    }

    async fn deletion(
        &self,
        op: &Op,
        name: &PipelineName,
        head: Stored<PipelineHead>,
    ) -> Result<Draft, Error> {
        let mut draft = Draft::new(op, "pipeline.delete");
        draft.delete::<PipelineHead>(keys::pipeline(name), Expect::Revision(head.revision));
        for version in &head.value.versions {
            draft.delete::<PipelineVersion>(keys::pipeline_version(name, *version), Expect::Exists);
        }
        let mut majors: Vec<u32> = head.value.versions.iter().map(|version| version.major).collect();
        majors.dedup();
        for environment in self.0.all::<Environment>(&op.realm, "").await? {
            for major in &majors {
                let key = keys::deployment(&environment.value.name, name, *major);
                draft.guard(Kind::Deployment, key, Expect::Absent);
            }
        }
        self.dissociate(op, name, &mut draft).await?;
        self.0.end_waivers_of(op, name, &mut draft).await?;
        Ok(draft)
    }

    /// Takes a deleted pipeline away from consumers that got it while it was being deleted. No further one can: whoever
    /// associates a consumer guards that the pipeline is there.
    async fn forget(&self, op: &Op, name: &PipelineName) -> Result<(), Error> {
        let mut attempts = self.0.attempts();
        while attempts.next().await {
            let mut draft = Draft::new(op, "pipeline.delete");
            draft.guard(Kind::Pipeline, keys::pipeline(name), Expect::Absent);
            if !self.dissociate(op, name, &mut draft).await? {
                return Ok(());
            }
            match self.0.commit(op, draft).await {
                Ok(_) => return Ok(()),
                // Somebody saves it anew already, for the consumers that it has.
                Err(CommitError::Conflict { kind: Kind::Pipeline, .. }) => return Ok(()),
                Err(CommitError::Conflict { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(overtaken())
    }

    /// Takes a pipeline away from every consumer; tells whether one had it.
    async fn dissociate(&self, op: &Op, name: &PipelineName, draft: &mut Draft) -> Result<bool, Error> {
        let mut found = false;
        let mut after = None;
        loop {
            let callers = self.0.callers_after(&op.realm, "", name, after).await?;
            let Some(last) = callers.last() else { return Ok(found) };
            after = Some(last.value.key());
            for Stored { value: mut consumer, revision } in callers {
                if consumer.pipelines.remove(name) {
                    draft.put(&consumer, Expect::Revision(revision))?;
                    found = true;
                }
            }
        }
    }

    async fn verdicts(&self, op: &Op, pipeline: &Pipeline) -> Result<Vec<Verdict>, Error> {
        let ruling = self.0.ruling(&op.realm).await?;
        everywhere(&ruling.judge(op.now), pipeline)
    }
}

/// Returns what the policies say of a pipeline in every environment.
fn everywhere(judge: &Judge<'_>, pipeline: &Pipeline) -> Result<Vec<Verdict>, Error> {
    let environments = judge.policies().environments();
    environments.map(|environment| Ok(judge.verdict(pipeline, environment)?)).collect()
}

/// Returns what would pass by waivers only, and what the policies advise against.
fn reminders(verdicts: &[Verdict]) -> Vec<String> {
    let of = |verdict: &Verdict| {
        let waived = verdict.waived.iter().map(|it| format!("passes by {}", waivers::passes(it)));
        waived.chain(verdict.advice.iter().cloned()).collect::<Vec<_>>()
    };
    verdicts.iter().flat_map(of).collect()
}

// === impl App ===

impl App {
    pub(crate) async fn pipeline_head(
        &self,
        op: &Op,
        name: &PipelineName,
    ) -> Result<Stored<PipelineHead>, Error> {
        let stored = self.store().get::<PipelineHead>(&op.realm, &keys::pipeline(name)).await?;
        stored.ok_or_else(|| no_pipeline(name))
    }

    /// Returns a pipeline's head when the actor may do this in its project. One in a project where they may not read is
    /// answered as one that is not there.
    pub(crate) async fn pipeline_for(
        &self,
        op: &Op,
        name: &PipelineName,
        permission: Permission,
    ) -> Result<Stored<PipelineHead>, Error> {
        op.demand_anywhere(permission)?;
        let head = self.pipeline_head(op, name).await?;
        let place = Place::project(&head.value.project);
        op.demand_of(permission, place, op.may(Permission::PipelineRead, place), || no_pipeline(name))?;
        Ok(head)
    }

    pub(crate) async fn pipeline_version(
        &self,
        op: &Op,
        name: &PipelineName,
        version: Version,
    ) -> Result<PipelineVersion, Error> {
        let key = keys::pipeline_version(name, version);
        let stored = self.store().get::<PipelineVersion>(&op.realm, &key).await?;
        stored.map(|stored| stored.value).ok_or_else(|| {
            Error::not_found(format!("pipeline `{name}` has no version {version}"))
                .hint("see its versions")
                .next(NextStep::ListPipelineVersions { pipeline: name.clone() })
        })
    }
}

/// Says that there is no such pipeline, or none that the actor may know of.
pub(crate) fn no_pipeline(name: &PipelineName) -> Error {
    Error::not_found(format!("there is no pipeline `{name}`"))
        .hint("you see those of the projects that you may read; if it is not there yet, save it first")
        .next(NextStep::SavePipeline)
}

/// Refuses to save a pipeline whose name one has in a project where the actor may not save: it would take that one over.
///
/// Names are unique in a realm, so it can't be helped that the refusal tells that the name is taken; of what by, it tells
/// only whoever may read that.
pub(crate) fn demand_not_taken(op: &Op, head: &PipelineHead, project: &ProjectName) -> Result<(), Error> {
    let held = Place::project(&head.project);
    if head.project == *project || op.may(Permission::PipelineUpdate, held) {
        return Ok(());
    }
    if op.may(Permission::PipelineRead, held) {
        return op.demand_in(Permission::PipelineUpdate, held);
    }
    Err(Error::new(
        ErrorKind::Forbidden,
        "forbidden",
        format!("you may not save a pipeline `{}` in project `{project}`", head.name),
    )
    .hint("choose another name"))
}

fn taken(name: &PipelineName, positions: &Positions) -> Error {
    let pointer = "/name".to_owned();
    let position = positions.find(&pointer);
    let message = format!("there is a pipeline `{name}` already");
    let hint = "change that one, or choose another name";
    let place = ErrorPlace {
        pointer,
        line: Some(position.line),
        column: Some(position.column),
        message: message.clone(),
        hint: Some(hint.to_owned()),
    };
    let error = Error { places: Box::new([place]), ..Error::conflict("already-exists", message) };
    error.hint(hint).next(NextStep::SeePipeline { pipeline: name.clone() })
}

fn check_if_match<T>(if_match: Option<u64>, stored: Option<&Stored<T>>) -> Result<(), Error> {
    match if_match {
        Some(expected) if stored.is_none_or(|stored| stored.revision != expected) => Err(Error::new(
            ErrorKind::PreconditionFailed,
            "precondition-failed",
            "the pipeline was changed by somebody else",
        )
        .hint("read it again, then repeat the change")),
        _ => Ok(()),
    }
}
