//! Traffic: what became of calls, how long they took, and why they were refused, over a span of time.
//!
//! Gateways count every call when it ends, and hand the counts over every few seconds, outside the call path. They are kept
//! as finely as a range tells them: by minute for seven hours, by quarter of an hour for two days and by hour for thirty. A
//! report reads all that was kept of its range, so what nobody is told apart is not kept apart.

mod sums;

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use tollgate_model::ids::RequestId;
use tollgate_model::names::{ConsumerName, EnvironmentName, PipelineName};
use tollgate_model::traffic::{
    AnswerClass, CountedTraffic, DURATION_BOUNDS_US, DURATION_CLASSES, Measure, TrafficCaller,
};
use tollgate_store::{TrafficBatch, TrafficGrouping, TrafficSum};

use crate::App;
use crate::access::{Op, Permission, Place};
use crate::calls::{MINUTE_SECONDS, minute_of};
use crate::errors::Error;
use crate::places::Owners;
pub(crate) use sums::Kept;
use sums::{Asked, Soon, Sums};

/// How long minutes are told apart: longer than a range that tells less than quarters of an hour.
const MINUTES_KEPT: SignedDuration = SignedDuration::from_hours(7);

/// How long quarters of an hour are.
const QUARTERS_KEPT: SignedDuration = SignedDuration::from_hours(48);

/// How long anything is kept.
const KEPT: SignedDuration = SignedDuration::from_hours(30 * 24);

/// How many rows are handed over at once.
const BATCH: usize = 1_000;

/// Use cases of traffic.
pub struct Traffic(pub(crate) App);

/// How far back to look, and in which steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TrafficRange {
    /// An hour by minutes.
    #[default]
    Hour,
    /// Six hours by five minutes.
    SixHours,
    /// A day by quarters of an hour.
    Day,
    /// A week by two hours.
    Week,
    /// Thirty days by half days.
    Month,
}

/// Which traffic to show.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TrafficQuery {
    /// Only in this environment.
    pub environment: Option<EnvironmentName>,
    /// Only to this pipeline.
    pub pipeline: Option<PipelineName>,
    /// Only of this consumer.
    pub consumer: Option<ConsumerName>,
    /// How far back.
    pub range: TrafficRange,
}

/// What became of calls.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TrafficReport {
    /// From when on.
    pub since: Timestamp,
    /// Until when: the end of the step that runs.
    pub until: Timestamp,
    /// How long a step is, in minutes.
    pub step_minutes: u32,
    /// All together.
    pub total: Tally,
    /// Step by step, the oldest first; those without a call, too.
    pub points: Vec<TrafficPoint>,
    /// By deployment, the busiest first.
    pub pipelines: Vec<PipelineTraffic>,
    /// By consumer, the busiest first.
    pub consumers: Vec<ConsumerTraffic>,
}

/// The calls of a step.
#[derive(Debug, Clone, PartialEq)]
pub struct TrafficPoint {
    /// When it begins.
    pub at: Timestamp,
    /// The calls.
    pub tally: Tally,
}

/// The calls to a deployment.
#[derive(Debug, Clone, PartialEq)]
pub struct PipelineTraffic {
    /// Where.
    pub environment: EnvironmentName,
    /// What, and in which major; `None` for calls that came to no pipeline.
    pub pipeline: Option<(PipelineName, u32)>,
    /// The calls.
    pub tally: Tally,
}

/// The calls of a consumer.
#[derive(Debug, Clone, PartialEq)]
pub struct ConsumerTraffic {
    /// Where.
    pub environment: EnvironmentName,
    /// Who.
    pub caller: TrafficCaller,
    /// The calls.
    pub tally: Tally,
}

/// Calls, by what became of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    answers: BTreeMap<AnswerClass, u64>,
    codes: BTreeMap<(AnswerClass, String), u64>,
    took: [u64; DURATION_CLASSES],
}

/// What of the traffic somebody may see.
struct Visible<'a> {
    op: &'a Op,
    /// Absent for somebody who may see everything.
    owners: Option<Owners>,
}

// === impl TrafficRange ===

impl TrafficRange {
    /// Every range, the shortest first.
    pub const ALL: [Self; 5] = [Self::Hour, Self::SixHours, Self::Day, Self::Week, Self::Month];

    /// Returns how it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hour => "1h",
            Self::SixHours => "6h",
            Self::Day => "24h",
            Self::Week => "7d",
            Self::Month => "30d",
        }
    }

    /// Takes a range; an hour when there is none.
    ///
    /// # Errors
    ///
    /// [`crate::errors::ErrorKind::Invalid`] naming those that there are.
    pub fn parse(text: Option<&str>) -> Result<Self, Error> {
        let Some(text) = text else { return Ok(Self::default()) };
        Self::ALL.into_iter().find(|range| range.as_str() == text).ok_or_else(|| {
            let shown: String = text.chars().take(20).collect();
            Error::invalid(format!("`{shown}` is no range of time that is told"))
                .hint(format!("write one of {}", Self::ALL.map(Self::as_str).join(", ")))
        })
    }

    /// Returns how long it is and how long its steps are, in minutes.
    fn minutes(self) -> (i64, u32) {
        match self {
            Self::Hour => (60, 1),
            Self::SixHours => (6 * 60, 5),
            Self::Day => (24 * 60, 15),
            Self::Week => (7 * 24 * 60, 120),
            Self::Month => (30 * 24 * 60, 720),
        }
    }
}

// === impl Traffic ===

impl Traffic {
    /// Returns what became of calls, as far as the actor may read that.
    ///
    /// # Errors
    ///
    /// [`crate::errors::ErrorKind::NotFound`] when there is no such environment, or no such pipeline and no call to it.
    pub async fn report(&self, op: &Op, query: &TrafficQuery) -> Result<TrafficReport, Error> {
        self.0.demand_list(op, Permission::UsageRead, query.environment.as_ref()).await?;
        let visible = Visible::new(&self.0, op).await?;
        let asked = Asked::new(op, query, visible.owners.is_some());
        let sums = asked.sums(&self.0).await?;
        self.tell(op, query, &visible, &sums).await
    }

    /// Returns the same of several questions, each when it is known within a moment that they share; `None` while it is still
    /// added up, which goes on: whoever asks again gets it once it is done. What took longer than the moment is kept for
    /// half a minute, and its report says until when it counts.
    ///
    /// # Errors
    ///
    /// [`crate::errors::ErrorKind::Forbidden`] to whom no traffic is told at all; of each question as [`Traffic::report`].
    pub async fn reports_soon(
        &self,
        op: &Op,
        queries: &[TrafficQuery],
    ) -> Result<Vec<Result<Option<TrafficReport>, Error>>, Error> {
        op.demand_anywhere(Permission::UsageRead)?;
        let visible = Visible::new(&self.0, op).await?;
        let mut begun = Vec::with_capacity(queries.len());
        for query in queries {
            let may = self.0.demand_list(op, Permission::UsageRead, query.environment.as_ref()).await;
            begun.push(may.map(|()| {
                let asked = Asked::new(op, query, visible.owners.is_some());
                (self.0.begin_traffic(&asked, op.now), asked)
            }));
        }
        let deadline = Soon::deadline();
        let mut reports = Vec::with_capacity(queries.len());
        for (query, begun) in queries.iter().zip(begun) {
            let sums = match begun {
                Ok((soon, asked)) => soon.wait(&self.0, &asked, deadline).await,
                Err(error) => Err(error),
            };
            reports.push(match sums {
                Ok(Some(sums)) => self.tell(op, query, &visible, &sums).await.map(Some),
                Ok(None) => Ok(None),
                Err(error) => Err(error),
            });
        }
        Ok(reports)
    }

    /// Returns the traffic of some pipelines in an environment, by deployment, as far as the actor may read that.
    ///
    /// # Errors
    ///
    /// [`crate::errors::ErrorKind::NotFound`] when there is no such environment.
    pub async fn of_pipelines(
        &self,
        op: &Op,
        environment: &EnvironmentName,
        pipelines: &[PipelineName],
        range: TrafficRange,
    ) -> Result<Vec<PipelineTraffic>, Error> {
        self.0.demand_list(op, Permission::UsageRead, Some(environment)).await?;
        if pipelines.is_empty() {
            return Ok(Vec::new());
        }
        let visible = Visible::new(&self.0, op).await?;
        let query = TrafficQuery { environment: Some(environment.clone()), range, ..TrafficQuery::default() };
        let asked = Asked::new(op, &query, false).only(pipelines);
        let sums =
            asked.sum(&self.0, TrafficGrouping { pipelines: true, ..TrafficGrouping::default() }).await?;
        Ok(by_pipeline(visible.of(&sums)))
    }

    /// Puts a report together of what was added up, as far as the actor may read it.
    async fn tell(
        &self,
        op: &Op,
        query: &TrafficQuery,
        visible: &Visible<'_>,
        sums: &Sums,
    ) -> Result<TrafficReport, Error> {
        let asked = &sums.asked;
        let pipelines = by_pipeline(visible.of(&sums.by_pipeline));
        if let Some(pipeline) = query.pipeline.as_ref().filter(|_| pipelines.is_empty()) {
            self.0.demand_called(op, pipeline).await?;
        }

        let (first, end, step) = (asked.first, asked.end, i64::from(asked.step_minutes));
        let at = |minute: i64| Timestamp::from_second(minute * MINUTE_SECONDS).map_err(Error::internal);
        let mut steps: BTreeMap<i64, Tally> = BTreeMap::new();
        let mut minute = first;
        while minute < end {
            steps.insert(minute, Tally::default());
            minute += step;
        }
        let mut total = Tally::default();
        for sum in visible.of(&sums.by_step) {
            total.add(sum);
            steps.entry(sum.of.minute).or_default().add(sum);
        }
        let points = steps.into_iter().map(|(minute, tally)| Ok(TrafficPoint { at: at(minute)?, tally }));
        let consumers =
            tallies(visible.of(&sums.by_caller), |of| (of.environment.clone(), of.caller.clone()));
        Ok(TrafficReport {
            since: at(first)?,
            until: at(end)?,
            step_minutes: asked.step_minutes,
            total,
            points: points.collect::<Result<_, Error>>()?,
            pipelines,
            consumers: consumers
                .into_iter()
                .map(|((environment, caller), tally)| ConsumerTraffic { environment, caller, tally })
                .collect(),
        })
    }

    /// Puts counts that a gateway gathered together for [`Traffic::add`]: some of them, which it takes away.
    ///
    /// # Errors
    ///
    /// [`crate::errors::ErrorKind::Unavailable`] when the system gives no randomness.
    pub fn batch(&self, counts: &mut BTreeMap<CountedTraffic, u64>) -> Result<TrafficBatch, Error> {
        let at = self.0.0.clock.now();
        let id = RequestId::new(at, self.0.id_bytes()?).to_string();
        let mut rows = Vec::new();
        while rows.len() < BATCH
            && let Some(row) = counts.pop_first()
        {
            rows.push(row);
        }
        Ok(TrafficBatch { id, at, rows })
    }

    /// Adds a batch to what was counted; a batch that was added already is not added again.
    ///
    /// # Errors
    ///
    /// [`crate::errors::ErrorKind::Unavailable`]; the batch can be handed over again.
    pub async fn add(&self, batch: &TrafficBatch) -> Result<(), Error> {
        self.0.store().add_traffic(batch).await.map_err(Error::unavailable)
    }

    /// Puts minutes older than seven hours together by quarters of an hour, those older than two days by hours, and forgets
    /// what is older than thirty days.
    ///
    /// # Errors
    ///
    /// [`crate::errors::ErrorKind::Unavailable`].
    pub async fn forget_old(&self) -> Result<(), Error> {
        let now = self.0.0.clock.now();
        let store = self.0.store();
        store.delete_traffic_before(minute_of(now - KEPT)).await.map_err(Error::unavailable)?;
        store.fold_traffic_before(minute_of(now - QUARTERS_KEPT), 60).await.map_err(Error::unavailable)?;
        store.fold_traffic_before(minute_of(now - MINUTES_KEPT), 15).await.map_err(Error::unavailable)
    }
}

/// Adds sums up by deployment, the most calls first.
fn by_pipeline<'a>(sums: impl Iterator<Item = &'a TrafficSum>) -> Vec<PipelineTraffic> {
    let tallies = tallies(sums, |of| (of.environment.clone(), of.pipeline.clone()));
    let traffic = |((environment, pipeline), tally)| PipelineTraffic { environment, pipeline, tally };
    tallies.into_iter().map(traffic).collect()
}

/// Adds sums up by what they are of, the most calls first.
fn tallies<'a, K: Ord + Clone>(
    sums: impl Iterator<Item = &'a TrafficSum>,
    key: impl Fn(&CountedTraffic) -> K,
) -> Vec<(K, Tally)> {
    let mut all: BTreeMap<K, Tally> = BTreeMap::new();
    for sum in sums {
        all.entry(key(&sum.of)).or_default().add(sum);
    }
    let mut all: Vec<_> = all.into_iter().collect();
    all.sort_by_key(|(_, tally)| std::cmp::Reverse(tally.calls()));
    all
}

// === impl Visible ===

impl<'a> Visible<'a> {
    async fn new(app: &App, op: &'a Op) -> Result<Self, Error> {
        let owners = match op.may(Permission::UsageRead, Place::REALM) {
            true => None,
            false => Some(app.owners(&op.realm).await?),
        };
        Ok(Self { op, owners })
    }

    /// Takes what may be seen of sums.
    fn of<'s>(&'s self, sums: &'s [TrafficSum]) -> impl Iterator<Item = &'s TrafficSum> {
        sums.iter().filter(|sum| self.shows(&sum.of))
    }

    fn shows(&self, of: &CountedTraffic) -> bool {
        let Some(owners) = &self.owners else { return true };
        match &of.pipeline {
            Some((pipeline, _)) => owners.may(self.op, &[Permission::UsageRead], &of.environment, pipeline),
            None => self.op.may(Permission::UsageRead, Place::environment(&of.environment)),
        }
    }
}

// === impl Tally ===

impl Tally {
    fn add(&mut self, sum: &TrafficSum) {
        match &sum.of.measure {
            Measure::Answer(class) => *self.answers.entry(*class).or_default() += sum.calls,
            Measure::Code(class, code) => *self.codes.entry((*class, code.clone())).or_default() += sum.calls,
            Measure::Took(class) => {
                if let Some(took) = self.took.get_mut(usize::from(*class)) {
                    *took += sum.calls;
                }
            }
        }
    }

    /// Returns how many calls there were.
    pub fn calls(&self) -> u64 {
        self.answers.values().sum()
    }

    /// Returns how many were answered with a status of a class.
    pub fn answered(&self, class: AnswerClass) -> u64 {
        self.answers.get(&class).copied().unwrap_or_default()
    }

    /// Returns how many were refused: answered 4xx by the gateway, or by an error that the flow raised.
    pub fn refused(&self) -> u64 {
        self.of_class(AnswerClass::ClientError)
    }

    /// Returns how many failed: answered 5xx.
    pub fn failed(&self) -> u64 {
        self.answered(AnswerClass::ServerError)
    }

    /// Returns the problems that calls were answered with, and how many of each, the most first.
    pub fn codes(&self) -> Vec<(AnswerClass, &str, u64)> {
        let mut codes: Vec<_> =
            self.codes.iter().map(|((class, code), calls)| (*class, code.as_str(), *calls)).collect();
        codes.sort_by_key(|(.., calls)| std::cmp::Reverse(*calls));
        codes
    }

    /// Returns the duration below which a share of the calls stayed, in microseconds, as well as the classes of durations
    /// tell: it is spread evenly within one. `None` without a call.
    pub fn percentile_us(&self, percent: u64) -> Option<u64> {
        let all: u64 = self.took.iter().sum();
        // The rank of the call that is looked for, from 1 on.
        let rank = (all * percent).div_ceil(100).max(1);
        let (mut before, mut low) = (0, 0);
        for (class, calls) in self.took.iter().enumerate() {
            let high = DURATION_BOUNDS_US.get(class).copied();
            if *calls > 0 && before + calls >= rank {
                // Of those beyond the last bound it is only known that they are.
                let Some(high) = high else { return Some(low) };
                return Some(low + (high - low) * (rank - before) / calls);
            }
            before += calls;
            low = high.unwrap_or(low);
        }
        None
    }

    fn of_class(&self, wanted: AnswerClass) -> u64 {
        self.codes.iter().filter(|((class, _), _)| *class == wanted).map(|(_, calls)| calls).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_lie_in_the_class_of_the_call_that_they_are_of() {
        let of = |took: &[(usize, u64)]| {
            let mut tally = Tally::default();
            for (class, calls) in took {
                tally.took[*class] = *calls;
            }
            [50, 95, 99].map(|percent| tally.percentile_us(percent))
        };
        assert_eq!(of(&[]), [None; 3]);
        assert_eq!(of(&[(0, 1)]), [Some(1_000); 3], "one call: no more is known than its class");
        assert_eq!(of(&[(0, 100)]), [Some(500), Some(950), Some(990)]);
        assert_eq!(of(&[(0, 90), (7, 10)]), [Some(555), Some(175_000), Some(235_000)]);
        assert_eq!(of(&[(14, 3)]), [Some(30_000_000); 3], "at least");
    }

    #[test]
    fn ranges_are_whole_steps_that_are_kept_as_finely() {
        for range in TrafficRange::ALL {
            let (length, step) = range.minutes();
            assert_eq!(length % i64::from(step), 0);
            assert_eq!(TrafficRange::parse(Some(range.as_str())).ok(), Some(range));
            let kept = match (step % 15, step % 60) {
                (0, 0) => KEPT,
                (0, _) => QUARTERS_KEPT,
                _ => MINUTES_KEPT,
            };
            assert!(SignedDuration::from_mins(length) <= kept, "{range:?}");
        }
        assert!(TrafficRange::parse(Some("2h")).is_err());
    }
}
