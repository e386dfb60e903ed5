//! Adding traffic up, and keeping what took long.
//!
//! Thousands of pipelines that are called in every minute make millions of rows a day, and to add those up takes seconds. A page
//! does not wait for it: it waits for a moment, and else says that it is on its way and asks again. The work goes on meanwhile,
//! once for all who ask the same, one at a time in a process; what it found is kept for half a minute, and shown for some
//! minutes more while it is done anew. What is added up within the moment is never kept, so that where there is little, what
//! was just counted is always there.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, timeout_at};
use tollgate_model::names::{ConsumerName, EnvironmentName, PipelineName, RealmName};
use tollgate_store::{TrafficFilter, TrafficGrouping, TrafficSum};

use super::TrafficQuery;
use crate::App;
use crate::access::Op;
use crate::calls::minute_of;
use crate::errors::Error;

/// How long somebody waits for what is not there yet.
const A_MOMENT: Duration = Duration::from_millis(50);

/// How long what took longer is as good as new.
const FRESH: SignedDuration = SignedDuration::from_secs(30);

/// How long it is shown while it is done anew.
const SHOWN: SignedDuration = SignedDuration::from_mins(5);

/// How many answers are kept: a realm's environments by ranges, and some filters.
const KEPT_AT_ONCE: usize = 64;

/// What is added up: the same for everybody who may see everything, and told apart further for the others.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Asked {
    realm: RealmName,
    environment: Option<EnvironmentName>,
    pipelines: Vec<PipelineName>,
    consumer: Option<ConsumerName>,
    /// From this minute since 1970 on.
    pub(super) first: i64,
    /// Before this one.
    pub(super) end: i64,
    pub(super) step_minutes: u32,
    /// Whether everything is told apart by pipeline, which decides about who sees it.
    apart: bool,
}

/// Traffic, added up in the ways in which it is told.
#[derive(Debug)]
pub(super) struct Sums {
    pub(super) by_pipeline: Vec<TrafficSum>,
    pub(super) by_caller: Vec<TrafficSum>,
    pub(super) by_step: Vec<TrafficSum>,
    /// What they are of.
    pub(super) asked: Asked,
}

/// What took long, by what was asked.
pub(crate) struct Kept {
    answers: Mutex<HashMap<Asked, Answer>>,
    /// Held by what is added up: it reads much, and pages need the store meanwhile.
    turns: Semaphore,
}

/// What is being added up: there once it is done; its sender is gone when it failed.
type Running = watch::Receiver<Option<Arc<Sums>>>;

/// What is known, and what will be.
pub(super) struct Soon {
    found: Option<Arc<Sums>>,
    running: Option<Running>,
}

#[derive(Default)]
struct Answer {
    /// What was found, and when it was asked for.
    found: Option<(Timestamp, Arc<Sums>)>,
    /// What is under way.
    running: Option<Running>,
}

// === impl Asked ===

impl Asked {
    pub(super) fn new(op: &Op, query: &TrafficQuery, apart: bool) -> Self {
        let (length, step_minutes) = query.range.minutes();
        let step = i64::from(step_minutes);
        let last = minute_of(op.now) - minute_of(op.now).rem_euclid(step);
        Self {
            realm: op.realm.clone(),
            environment: query.environment.clone(),
            pipelines: query.pipeline.iter().cloned().collect(),
            consumer: query.consumer.clone(),
            first: last - length + step,
            end: last + step,
            step_minutes,
            apart,
        }
    }

    /// Asks for some pipelines alone.
    pub(super) fn only(self, pipelines: &[PipelineName]) -> Self {
        Self { pipelines: pipelines.to_vec(), ..self }
    }

    /// Returns by what it is kept: the minutes go on.
    fn key(&self) -> Self {
        Self { first: self.first - self.end, end: 0, ..self.clone() }
    }

    /// Adds it up in one way.
    pub(super) async fn sum(&self, app: &App, grouping: TrafficGrouping) -> Result<Vec<TrafficSum>, Error> {
        let filter = TrafficFilter {
            since_minute: self.first,
            until_minute: self.end,
            environment: self.environment.as_ref(),
            pipelines: &self.pipelines,
            consumer: self.consumer.as_ref(),
        };
        // What somebody sees in part is told apart by what decides about it.
        let grouping = TrafficGrouping { pipelines: grouping.pipelines || self.apart, ..grouping };
        Ok(app.store().sum_traffic(&self.realm, &filter, grouping).await?)
    }

    /// Adds it up in every way.
    pub(super) async fn sums(&self, app: &App) -> Result<Sums, Error> {
        let together = TrafficGrouping::default();
        let (by_pipeline, by_caller, by_step) = tokio::try_join!(
            self.sum(app, TrafficGrouping { pipelines: true, ..together }),
            self.sum(app, TrafficGrouping { callers: true, ..together }),
            self.sum(app, TrafficGrouping { step_minutes: Some(self.step_minutes), ..together }),
        )?;
        Ok(Sums { by_pipeline, by_caller, by_step, asked: self.clone() })
    }
}

// === impl Kept ===

impl Default for Kept {
    fn default() -> Self {
        Self { answers: Mutex::default(), turns: Semaphore::new(1) }
    }
}

impl Kept {
    /// Returns what was found and may be shown, whether it is as good as new, and what is under way.
    fn look(&self, key: &Asked, now: Timestamp) -> (Option<Arc<Sums>>, bool, Option<Running>) {
        let answers = self.answers();
        let Some(Answer { found, running }) = answers.get(key) else { return (None, false, None) };
        let age = found.as_ref().map(|(at, _)| now.duration_since(*at));
        let shown = found.as_ref().filter(|_| age.is_some_and(|age| age <= SHOWN));
        (shown.map(|(_, sums)| Arc::clone(sums)), age.is_some_and(|age| age <= FRESH), running.clone())
    }

    fn begin(&self, key: Asked, running: Running) {
        let mut answers = self.answers();
        if answers.len() >= KEPT_AT_ONCE && !answers.contains_key(&key) {
            answers.retain(|_, answer| answer.running.is_some());
        }
        answers.entry(key).or_default().running = Some(running);
    }

    /// Keeps what took long, and forgets that something was under way.
    fn end(&self, key: &Asked, found: Option<(Timestamp, Arc<Sums>)>) {
        let mut answers = self.answers();
        match (found, answers.get_mut(key)) {
            (Some(found), Some(answer)) => *answer = Answer { found: Some(found), running: None },
            _ => drop(answers.remove(key)),
        }
    }

    fn answers(&self) -> MutexGuard<'_, HashMap<Asked, Answer>> {
        // Nobody panics with the lock.
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl App ===

impl App {
    /// Begins to add traffic up, unless what was found is as good as new, or it is under way.
    pub(super) fn begin_traffic(&self, asked: &Asked, now: Timestamp) -> Soon {
        let key = asked.key();
        let (found, is_fresh, running) = self.0.traffic.look(&key, now);
        if is_fresh {
            return Soon { found, running: None };
        }
        let running = running.unwrap_or_else(|| {
            let (done, running) = watch::channel(None);
            self.0.traffic.begin(key.clone(), running.clone());
            let (app, asked) = (self.clone(), asked.clone());
            tokio::spawn(async move { app.add_up(&key, &asked, now, done).await });
            running
        });
        Soon { found, running: Some(running) }
    }

    /// Adds traffic up, tells whoever waits, and keeps what took longer than they do.
    async fn add_up(
        &self,
        key: &Asked,
        asked: &Asked,
        now: Timestamp,
        done: watch::Sender<Option<Arc<Sums>>>,
    ) {
        let began = Instant::now();
        // The calls to some pipelines are found by the key of the table: they wait for nobody.
        let turn = match asked.pipelines.is_empty() {
            true => Some(self.0.traffic.turns.acquire().await),
            false => None,
        };
        let sums = asked.sums(self).await;
        drop(turn);
        let sums = match sums {
            Ok(sums) => Some(Arc::new(sums)),
            Err(error) => {
                // Whoever waits sees that it ended, and asks the store itself.
                tracing::warn!(%error, "traffic could not be added up");
                None
            }
        };
        let took_long = began.elapsed() > A_MOMENT;
        self.0.traffic.end(key, sums.clone().filter(|_| took_long).map(|sums| (now, sums)));
        if let Some(sums) = sums {
            done.send_replace(Some(sums));
        }
    }
}

// === impl Soon ===

impl Soon {
    /// Returns until when to wait for what is begun now.
    pub(super) fn deadline() -> Instant {
        Instant::now() + A_MOMENT
    }

    /// Waits until a moment for what is under way; what was found before is told in its place.
    ///
    /// # Errors
    ///
    /// Those of adding it up, which is tried once more when it failed.
    pub(super) async fn wait(
        self,
        app: &App,
        asked: &Asked,
        deadline: Instant,
    ) -> Result<Option<Arc<Sums>>, Error> {
        let Some(mut running) = self.running else { return Ok(self.found) };
        let waited = timeout_at(deadline, running.wait_for(Option::is_some)).await;
        match waited.map(|done| done.map(|sums| sums.clone())) {
            Ok(Ok(sums)) => Ok(sums),
            // It failed: whoever asked is told why.
            Ok(Err(_)) => asked.sums(app).await.map(|sums| Some(Arc::new(sums))),
            Err(_) => Ok(self.found),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(end: i64, apart: bool) -> Asked {
        Asked {
            realm: RealmName::default(),
            environment: None,
            pipelines: Vec::new(),
            consumer: None,
            first: end - 60,
            end,
            step_minutes: 1,
            apart,
        }
    }

    fn sums(end: i64) -> Arc<Sums> {
        let nothing = Vec::new;
        Arc::new(Sums {
            by_pipeline: nothing(),
            by_caller: nothing(),
            by_step: nothing(),
            asked: asked(end, false),
        })
    }

    #[test]
    fn what_took_long_is_as_good_as_new_then_shown_then_gone() {
        let kept = Kept::default();
        let key = asked(100, false).key();
        assert_eq!(key, asked(101, false).key(), "the minutes go on");
        assert_ne!(key, asked(100, true).key(), "what is told apart is for others");
        let (_done, running) = watch::channel(None);
        kept.begin(key.clone(), running);
        assert!(matches!(kept.look(&key, Timestamp::UNIX_EPOCH), (None, false, Some(_))));
        kept.end(&key, Some((Timestamp::UNIX_EPOCH, sums(100))));
        let look = |seconds: i64| {
            let (found, is_fresh, running) =
                kept.look(&key, Timestamp::UNIX_EPOCH + SignedDuration::from_secs(seconds));
            (found.is_some(), is_fresh, running.is_some())
        };
        assert_eq!(look(30), (true, true, false));
        assert_eq!(look(31), (true, false, false), "shown, and done anew");
        assert_eq!(look(301), (false, false, false));
        kept.end(&key, None);
        assert_eq!(look(0), (false, false, false), "what took a moment is not kept");
    }

    #[test]
    fn only_so_much_is_kept_and_what_is_under_way_stays() {
        let kept = Kept::default();
        let (_done, running) = watch::channel(None);
        kept.begin(asked(0, true), running.clone());
        for n in 0..200 {
            kept.begin(asked(n, false), running.clone());
            kept.end(&asked(n, false), Some((Timestamp::UNIX_EPOCH, sums(n))));
            assert!(kept.answers().len() <= KEPT_AT_ONCE);
        }
        assert!(kept.answers().contains_key(&asked(0, true)));
    }
}
