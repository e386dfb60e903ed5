//! Starts scheduled pipelines when their time has come.
//!
//! Every process looks at the clock; the store lets one of them claim each run. Runs that were due while no process
//! ran are not made up for.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tollgate_app::App;
use tollgate_app::schedule::{Run, RunOutcome};
use tollgate_gateway::Gateway;
use tollgate_model::ids::DeploymentId;
use tollgate_model::sources::Clock;
use tollgate_model::versions::Version;
use tollgate_snapshot::{Schedule, SharedSnapshot, Snapshot};

/// How often the clock is looked at; schedules have minutes.
const TICK: Duration = Duration::from_secs(1);

/// Runs until it is told to stop; runs in progress end first.
pub(crate) async fn run(
    app: App,
    gateway: Arc<Gateway>,
    shared: Arc<SharedSnapshot>,
    clock: Arc<dyn Clock>,
    mut shutdown: watch::Receiver<bool>,
) {
    let mut due = Due { next: HashMap::new(), looked_at: clock.now() };
    let mut running = JoinSet::new();
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = shutdown.wait_for(|stop| *stop) => break,
            _ = tick.tick() => {}
        }
        while running.try_join_next().is_some() {}
        let Some(snapshot) = shared.load() else { continue };
        for (schedule, at) in due.take(&snapshot, clock.now()) {
            running.spawn(start(app.clone(), gateway.clone(), snapshot.clone(), schedule, at));
        }
    }
    while running.join_next().await.is_some() {}
}

async fn start(
    app: App,
    gateway: Arc<Gateway>,
    snapshot: Arc<Snapshot>,
    schedule: Arc<Schedule>,
    due: Timestamp,
) {
    let mut run = Run { due, version: schedule.version, ended_at: None, outcome: None };
    match app.schedule().claim(&schedule.realm, schedule.deployment, &run).await {
        Ok(true) => {}
        Ok(false) => return,
        Err(error) => {
            tracing::error!(%error, pipeline = %schedule.pipeline, "a scheduled run could not be claimed and was left out");
            return;
        }
    }
    let outcome = gateway.run_scheduled(&snapshot, &schedule).await;
    run.ended_at = Some(outcome.ended_at);
    run.outcome = Some(RunOutcome { status: outcome.status.as_u16(), failure: outcome.error });
    if let Err(error) = app.schedule().finish(&schedule.realm, schedule.deployment, &run).await {
        tracing::error!(%error, pipeline = %schedule.pipeline, "the end of a scheduled run could not be recorded");
    }
}

/// When each schedule is due next.
struct Due {
    next: HashMap<(DeploymentId, Version), Option<Timestamp>>,
    looked_at: Timestamp,
}

// === impl Due ===

impl Due {
    /// Returns the schedules that became due since the last look, once each.
    fn take(&mut self, snapshot: &Snapshot, now: Timestamp) -> Vec<(Arc<Schedule>, Timestamp)> {
        self.of(snapshot.schedules(), now)
    }

    fn of(&mut self, schedules: &[Arc<Schedule>], now: Timestamp) -> Vec<(Arc<Schedule>, Timestamp)> {
        let looked_at = std::mem::replace(&mut self.looked_at, now);
        self.next.retain(|(id, version), _| {
            schedules.iter().any(|schedule| schedule.deployment == *id && schedule.version == *version)
        });
        let mut due = Vec::new();
        for schedule in schedules {
            let next = self
                .next
                .entry((schedule.deployment, schedule.version))
                .or_insert_with(|| schedule.trigger.next_after(looked_at));
            if let Some(at) = *next
                && at <= now
            {
                due.push((schedule.clone(), at));
                *next = schedule.trigger.next_after(now);
            }
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tollgate_model::names::{EnvironmentName, PipelineName, RealmName};

    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().expect("a time")
    }

    fn schedule(cron: &str) -> Arc<Schedule> {
        Arc::new(Schedule {
            deployment: DeploymentId::new(Timestamp::UNIX_EPOCH, [0; 10]),
            realm: RealmName::default(),
            environment: EnvironmentName::test(),
            pipeline: PipelineName::parse("nightly").expect("a slug"),
            version: Version::FIRST,
            trigger: serde_json::from_value(json!({ "cron": cron })).expect("a schedule"),
            flow: Err(tollgate_snapshot::Broken("not run here".to_owned())),
        })
    }

    #[test]
    fn a_schedule_is_due_once_a_time_and_the_past_is_not_made_up_for() {
        let schedules = [schedule("*/5 * * * *")];
        let mut due = Due { next: HashMap::new(), looked_at: at("2026-01-01T00:04:00Z") };
        assert!(due.of(&schedules, at("2026-01-01T00:04:59Z")).is_empty());
        let times: Vec<_> =
            due.of(&schedules, at("2026-01-01T00:05:00Z")).iter().map(|(_, at)| *at).collect();
        assert_eq!(times, [at("2026-01-01T00:05:00Z")]);
        assert!(due.of(&schedules, at("2026-01-01T00:05:01Z")).is_empty());
        assert_eq!(due.of(&schedules, at("2026-01-01T03:01:00Z")).len(), 1, "an hour asleep is one run");
        assert!(due.of(&schedules, at("2026-01-01T03:04:00Z")).is_empty());
        assert!(due.of(&[], at("2026-01-01T03:06:00Z")).is_empty());
    }
}
