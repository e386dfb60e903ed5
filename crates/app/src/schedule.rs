//! Runs of scheduled pipelines: of many processes one runs each; the last ones are kept.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use tollgate_model::ids::DeploymentId;
use tollgate_model::names::{EnvironmentName, PipelineName, RealmName};
use tollgate_model::versions::Version;
use tollgate_store::{Record, RecordTable};

use crate::App;
use crate::access::{Op, Permission};
use crate::errors::Error;

/// How many runs of a deployment are shown, and kept.
const SHOWN: u32 = 50;
/// How many runs too many one call removes; more than one only after processes that were stopped amid a run.
const TRIMMED: u32 = 20;
/// How long runs are kept at most.
const KEPT: SignedDuration = SignedDuration::from_hours(90 * 24);

/// The runs of scheduled pipelines.
pub struct Schedule(pub(crate) App);

/// One run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Run {
    /// When it was due.
    pub due: Timestamp,
    /// What ran.
    pub version: Version,
    /// When it ended; `None` while it runs, or when its process was stopped.
    pub ended_at: Option<Timestamp>,
    /// How it ended.
    pub outcome: Option<RunOutcome>,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunOutcome {
    /// The status that the flow answered.
    pub status: u16,
    /// The problem's code, when it failed.
    pub failure: Option<String>,
}

// === impl Schedule ===

impl Schedule {
    /// Claims a due run; `false` when another process has it, or when it is older than the runs that are kept.
    ///
    /// # Errors
    ///
    /// [`crate::errors::ErrorKind::Unavailable`]; the run must not be done then.
    pub async fn claim(&self, realm: &RealmName, deployment: DeploymentId, run: &Run) -> Result<bool, Error> {
        let body = serde_json::to_string(run).map_err(Error::internal)?;
        let until = run.due.checked_add(KEPT).map_err(Error::internal)?;
        let key = key(deployment, run.due);
        // Its record may have been trimmed: a process that slept for long must not run it once more.
        if self.kept(realm, deployment, SHOWN).await?.get(SHOWN as usize - 1).is_some_and(|it| it.key > key) {
            return Ok(false);
        }
        self.0
            .store()
            .insert_record_if_absent(RecordTable::SchedulerRuns, realm, &key, &body, Some(until))
            .await
            .map_err(Error::unavailable)
    }

    /// Records how a claimed run ended, and removes runs that are no longer shown.
    ///
    /// # Errors
    ///
    /// [`crate::errors::ErrorKind::Unavailable`].
    pub async fn finish(&self, realm: &RealmName, deployment: DeploymentId, run: &Run) -> Result<(), Error> {
        let body = serde_json::to_string(run).map_err(Error::internal)?;
        let until = run.due.checked_add(KEPT).map_err(Error::internal)?;
        self.0
            .store()
            .put_record(RecordTable::SchedulerRuns, realm, &key(deployment, run.due), &body, Some(until))
            .await
            .map_err(Error::unavailable)?;
        self.trim(realm, deployment).await
    }

    /// Returns the last 50 runs of a deployment, newest first.
    ///
    /// # Errors
    ///
    /// [`crate::errors::ErrorKind::NotFound`] when it is not deployed.
    pub async fn runs(
        &self,
        op: &Op,
        environment: &EnvironmentName,
        pipeline: &PipelineName,
        major: Option<u32>,
    ) -> Result<Vec<Run>, Error> {
        self.0.demand_at(op, Permission::DeploymentRead, environment, pipeline).await?;
        let deployment = self.0.deployments().find(op, environment, pipeline, major).await?.value.id;
        let records = self.kept(&op.realm, deployment, SHOWN).await?;
        records.iter().map(|record| serde_json::from_str(&record.body).map_err(Error::internal)).collect()
    }

    /// Returns the newest records of a deployment, newest first.
    async fn kept(
        &self,
        realm: &RealmName,
        deployment: DeploymentId,
        limit: u32,
    ) -> Result<Vec<Record>, Error> {
        self.0
            .store()
            .list_records(RecordTable::SchedulerRuns, realm, &format!("{deployment}/"), limit)
            .await
            .map_err(Error::unavailable)
    }

    async fn trim(&self, realm: &RealmName, deployment: DeploymentId) -> Result<(), Error> {
        let store = self.0.store();
        let kept = self.kept(realm, deployment, SHOWN + TRIMMED).await?;
        let Some(old) = kept.get(SHOWN as usize..).filter(|old| !old.is_empty()) else { return Ok(()) };
        let expired = Timestamp::UNIX_EPOCH;
        for Record { key, body } in old {
            let table = RecordTable::SchedulerRuns;
            store.put_record(table, realm, key, body, Some(expired)).await.map_err(Error::unavailable)?;
        }
        store.delete_expired_records(expired).await.map_err(Error::unavailable)?;
        Ok(())
    }
}

/// Seconds since 1970 with leading zeros, so that keys sort by time.
fn key(deployment: DeploymentId, due: Timestamp) -> String {
    format!("{deployment}/{:012}", due.as_second())
}
