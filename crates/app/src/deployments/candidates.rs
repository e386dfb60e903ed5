//! What a rollback can go back to, judged before anybody tries.

use std::collections::BTreeMap;

use jiff::Timestamp;
use tollgate_model::deployments::Deployment;
use tollgate_model::names::{EnvironmentName, PipelineName};
use tollgate_model::objects::{Object, keys};
use tollgate_model::pipelines::PipelineVersion;
use tollgate_model::verdicts::Verdict;
use tollgate_model::versions::Version;

use super::Deployments;
use crate::access::{Op, Permission};
use crate::errors::Error;

/// A version that a rollback can go back to.
#[derive(Debug, Clone, PartialEq)]
pub struct RollbackCandidate {
    /// The version.
    pub version: Version,
    /// When it was last deployed here.
    pub deployed_at: Timestamp,
    /// What today's policies say of it here.
    pub verdict: Verdict,
}

// === impl Deployments ===

impl Deployments {
    /// Returns the versions below the running one that ran here, highest first: a rollback that names none goes to the
    /// first of them.
    ///
    /// # Errors
    ///
    /// [`crate::errors::ErrorKind::NotFound`] when nothing runs; [`crate::errors::ErrorKind::Invalid`] when several majors
    /// run and none is named.
    pub async fn rollback_candidates(
        &self,
        op: &Op,
        environment: &EnvironmentName,
        pipeline: &PipelineName,
        major: Option<u32>,
    ) -> Result<Vec<RollbackCandidate>, Error> {
        self.0.demand_at(op, Permission::DeploymentRead, environment, pipeline).await?;
        let running = self.find(op, environment, pipeline, major).await?.value;
        let ruling = self.0.ruling(&op.realm).await?;
        let judge = ruling.judge(op.now);
        let mut candidates = Vec::new();
        for (version, (seq, deployed_at)) in self.ran(op, &running).await?.range(..running.version).rev() {
            if let Some(saved) = self.saved_before(op, &running, *version, *seq).await? {
                let verdict = judge.verdict(&saved.pipeline, environment)?;
                candidates.push(RollbackCandidate { version: *version, deployed_at: *deployed_at, verdict });
            }
        }
        Ok(candidates)
    }

    /// Returns the highest version below `running` that ever ran where it runs.
    pub(super) async fn ran_before(&self, op: &Op, running: &Deployment) -> Result<Option<Version>, Error> {
        for (version, (seq, _)) in self.ran(op, running).await?.range(..running.version).rev() {
            if self.saved_before(op, running, *version, *seq).await?.is_some() {
                return Ok(Some(*version));
            }
        }
        Ok(None)
    }

    /// Returns the versions that ran where this one runs, each with its latest journal entry.
    async fn ran(&self, op: &Op, running: &Deployment) -> Result<BTreeMap<Version, (u64, Timestamp)>, Error> {
        let mut ran: BTreeMap<Version, (u64, Timestamp)> = BTreeMap::new();
        for item in self.history_of(op, &running.key()).await? {
            let Some(version) = item.version else { continue };
            let latest = ran.entry(version).or_insert((item.seq, item.at));
            if item.seq > latest.0 {
                *latest = (item.seq, item.at);
            }
        }
        Ok(ran)
    }

    /// Returns a version that was there before a journal entry.
    ///
    /// A pipeline that was deleted left its history behind, and one that was saved under its name since counts its
    /// versions from the start: only what ran after a version was saved can have been that version.
    async fn saved_before(
        &self,
        op: &Op,
        running: &Deployment,
        version: Version,
        seq: u64,
    ) -> Result<Option<PipelineVersion>, Error> {
        let key = keys::pipeline_version(&running.pipeline, version);
        let saved = self.0.store().get::<PipelineVersion>(&op.realm, &key).await?;
        Ok(saved.filter(|saved| saved.revision < seq).map(|saved| saved.value))
    }
}
