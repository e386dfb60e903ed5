//! Calls: how many there were, of whom, with which credentials; and which of them a policy change would concern.
//!
//! Gateways count calls by minute and hand the counts over every few seconds, outside the call path. They are kept for 90
//! days. Keys are named by id, name and hint, never more; user names are told to whom they are to see.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use tollgate_model::calls::{CountedCaller, CountedCalls, ShownCredentials};
use tollgate_model::certificates::Certificate;
use tollgate_model::consumers::{ApiKey, BasicAuth};
use tollgate_model::ids::{CredentialId, KeyId, RequestId};
use tollgate_model::names::{ConsumerName, EnvironmentName, PipelineName, RealmName};
use tollgate_model::next_steps::NextStep;
use tollgate_model::objects::keys;
use tollgate_model::pipelines::PipelineHead;
use tollgate_model::verdicts::{Violation, ViolationCode};
use tollgate_model::versions::Version;
use tollgate_policy::{ConformanceItem, Impact};
use tollgate_store::{CallBatch, CallFilter, CallSum};

use crate::App;
use crate::access::{Op, Permission, Place};
use crate::errors::Error;

/// How long counts are kept, in days.
pub const MAX_DAYS: u16 = 90;

/// How far back is looked when nobody says, in days.
pub const DEFAULT_DAYS: u16 = 7;

/// How many counts are handed over at once.
const BATCH: usize = 500;

pub(crate) const MINUTE_SECONDS: i64 = 60;

/// Use cases of calls.
pub struct Calls(pub(crate) App);

/// How many days back to look: 1 to 90.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Days(u16);

/// Which calls to show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallQuery {
    /// Only in this environment.
    pub environment: Option<EnvironmentName>,
    /// Only to this pipeline.
    pub pipeline: Option<PipelineName>,
    /// How far back.
    pub days: Days,
}

/// Calls that were counted.
#[derive(Debug, Clone, PartialEq)]
pub struct CallReport {
    /// From when on; the minute in which it lies counts whole.
    pub since: Timestamp,
    /// How many in all.
    pub calls: u64,
    /// By deployment, caller and credentials.
    pub items: Vec<CallItem>,
}

/// Calls to one deployment, of one caller with the same credentials.
#[derive(Debug, Clone, PartialEq)]
pub struct CallItem {
    /// Where.
    pub environment: EnvironmentName,
    /// What was called.
    pub pipeline: PipelineName,
    /// In which major.
    pub major: u32,
    /// Who called.
    pub caller: CallerView,
    /// What the calls showed.
    pub credentials: ShownCredentials,
    /// How many.
    pub calls: u64,
    /// The minute of the last.
    pub last: Timestamp,
}

/// Who called.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CallerView {
    /// The consumer; `None` where nobody knows.
    pub consumer: Option<ConsumerName>,
    /// Its API key, where one was demanded.
    pub key: Option<CallKeyView>,
    /// Its client certificate, or else its Basic Auth credential, where one was demanded and no API key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credential: Option<CallCredentialView>,
    /// Whether these are the calls of callers who were too many to be told apart.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub others: bool,
}

/// An API key, as far as it is named.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct CallKeyView {
    /// Its id.
    pub id: String,
    /// Its name; `None` when the key is gone.
    pub name: Option<String>,
    /// The end of it, to recognise it by.
    pub hint: Option<String>,
}

/// A client certificate or a Basic Auth credential, as far as it is named.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct CallCredentialView {
    /// `certificate` or `basic-auth`.
    pub kind: &'static str,
    /// Its id.
    pub id: String,
    /// Its name, or its user name; `None` when it is gone, or not to see.
    pub name: Option<String>,
}

/// What a change of the policies means for those who call.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CallerImpact {
    /// From when on calls were looked at; the minute in which it lies counts whole.
    pub since: Timestamp,
    /// How many calls there were to the deployments that would not be admitted.
    pub calls: u64,
    /// How many of them lacked something that would be demanded.
    pub lacking: u64,
    /// These deployments, also those that nobody called.
    pub deployments: Vec<CalledDeployment>,
}

/// Who calls a deployment that would not be admitted.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CalledDeployment {
    /// Where.
    pub environment: EnvironmentName,
    /// What runs.
    pub pipeline: PipelineName,
    /// Which version runs.
    pub version: Version,
    /// How many calls there were to its major.
    pub calls: u64,
    /// How many of them lacked something that would be demanded.
    pub lacking: u64,
    /// For each credential that would be demanded, how many calls lacked it.
    pub demands: Vec<Demand>,
    /// Who called, the most lacking first.
    pub callers: Vec<CallerCalls>,
}

/// A credential that would be demanded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Demand {
    /// The violation that demanding it mends.
    pub code: ViolationCode,
    /// How many calls lacked it.
    pub lacking: u64,
}

/// The calls of one caller.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CallerCalls {
    /// Who.
    #[serde(flatten)]
    pub caller: CallerView,
    /// How many.
    pub calls: u64,
    /// How many of them lacked something that would be demanded.
    pub lacking: u64,
}

/// A running deployment that would not be admitted.
pub(crate) struct NotAdmitted<'a> {
    pub(crate) environment: &'a EnvironmentName,
    pub(crate) pipeline: &'a PipelineName,
    pub(crate) version: Version,
    pub(crate) violations: &'a [Violation],
}

/// Names keys.
#[derive(Default)]
pub(crate) struct KeyNames(BTreeMap<(EnvironmentName, KeyId), CallKeyView>);

/// Names credentials for somebody.
struct Names<'a> {
    app: &'a App,
    op: &'a Op,
    keys: KeyNames,
    others: BTreeMap<(EnvironmentName, CredentialId), CallCredentialView>,
}

// === impl NotAdmitted ===

impl<'a> NotAdmitted<'a> {
    pub(crate) fn new(environment: &'a EnvironmentName, item: &'a ConformanceItem) -> Self {
        Self { environment, pipeline: &item.pipeline, version: item.version, violations: &item.violations }
    }
}

// === impl Days ===

impl Days {
    /// Takes a number of days; 7 when there is none.
    ///
    /// # Errors
    ///
    /// [`crate::errors::ErrorKind::Invalid`] unless it is 1 to 90.
    pub fn parse(days: Option<u16>) -> Result<Self, Error> {
        match days.unwrap_or(DEFAULT_DAYS) {
            days @ 1..=MAX_DAYS => Ok(Self(days)),
            other => {
                Err(Error::invalid(format!("`days` is {other}, and calls are kept for {MAX_DAYS} days"))
                    .hint(format!("write a number from 1 to {MAX_DAYS}")))
            }
        }
    }

    pub(crate) fn before(self, now: Timestamp) -> Timestamp {
        now - SignedDuration::from_hours(24 * i64::from(self.0))
    }
}

// === impl Calls ===

impl Calls {
    /// Returns how many calls there were, by deployment, caller and credentials, as far as the actor may read that.
    ///
    /// # Errors
    ///
    /// [`crate::errors::ErrorKind::NotFound`] when there is no such environment, or no such pipeline and no call to it.
    pub async fn report(&self, op: &Op, query: &CallQuery) -> Result<CallReport, Error> {
        self.0.demand_list(op, Permission::UsageRead, query.environment.as_ref()).await?;
        self.0.current_policies(&op.realm).await?;
        let since = query.days.before(op.now);
        let (environment, pipeline) = (query.environment.as_ref(), query.pipeline.as_ref());
        let mut sums = self.sums(&op.realm, since, environment, pipeline).await?;
        let read = [Permission::UsageRead];
        if !op.may(Permission::UsageRead, Place::REALM) {
            let owners = self.0.owners(&op.realm).await?;
            sums.retain(|sum| owners.may(op, &read, &sum.of.environment, &sum.of.pipeline));
        }
        if let Some(pipeline) = pipeline.filter(|_| sums.is_empty()) {
            self.0.demand_called(op, pipeline).await?;
        }
        let mut names = Names::of(&self.0, op);
        let mut items = Vec::with_capacity(sums.len());
        for CallSum { of, calls } in sums {
            let caller = names.caller(&of).await?;
            let last = Timestamp::from_second(of.minute * MINUTE_SECONDS).map_err(Error::internal)?;
            let CountedCalls { environment, pipeline, major, credentials, .. } = of;
            items.push(CallItem { environment, pipeline, major, caller, credentials, calls, last });
        }
        Ok(CallReport { since, calls: items.iter().map(|item| item.calls).sum(), items })
    }

    /// Returns who called the deployments that would fall out, where the actor may read that, and how many of these calls
    /// lacked what would be demanded.
    ///
    /// # Errors
    ///
    /// [`crate::errors::ErrorKind::Forbidden`], [`crate::errors::ErrorKind::Unavailable`].
    pub async fn of_impact(&self, op: &Op, impact: &[Impact], days: Days) -> Result<CallerImpact, Error> {
        op.demand_anywhere(Permission::UsageRead)?;
        let fall_out = impact.iter().flat_map(|impact| {
            impact.falls_out.iter().map(|item| NotAdmitted::new(&impact.environment, item))
        });
        let mut fall_out: Vec<_> = fall_out.collect();
        if !op.may(Permission::UsageRead, Place::REALM) {
            let owners = self.0.owners(&op.realm).await?;
            fall_out.retain(|it| owners.may(op, &[Permission::UsageRead], it.environment, it.pipeline));
        }
        self.of_deployments(op, fall_out, days.before(op.now)).await
    }

    /// Returns who called these deployments; the actor must be allowed to read that of each.
    pub(crate) async fn of_deployments(
        &self,
        op: &Op,
        deployments: Vec<NotAdmitted<'_>>,
        since: Timestamp,
    ) -> Result<CallerImpact, Error> {
        op.demand_anywhere(Permission::UsageRead)?;
        let mut called: BTreeMap<_, Vec<CallSum>> = BTreeMap::new();
        if !deployments.is_empty() {
            for sum in self.sums(&op.realm, since, None, None).await? {
                let of = &sum.of;
                let place = (of.environment.clone(), of.pipeline.clone(), of.major);
                called.entry(place).or_default().push(sum);
            }
        }
        let mut names = Names::of(&self.0, op);
        let mut all = Vec::with_capacity(deployments.len());
        for NotAdmitted { environment, pipeline, version, violations } in deployments {
            let place = (environment.clone(), pipeline.clone(), version.major);
            let sums = called.remove(&place).unwrap_or_default();
            let (mut demands, mut callers) = (demands(violations), BTreeMap::<CallerView, (u64, u64)>::new());
            for CallSum { of, calls } in sums {
                let mut lacks = false;
                for demand in &mut demands {
                    if of.credentials.lack(demand.code) {
                        demand.lacking += calls;
                        lacks = true;
                    }
                }
                let sum = callers.entry(names.caller(&of).await?).or_default();
                sum.0 += calls;
                sum.1 += if lacks { calls } else { 0 };
            }
            let mut callers: Vec<_> = callers
                .into_iter()
                .map(|(caller, (calls, lacking))| CallerCalls { caller, calls, lacking })
                .collect();
            callers.sort_by_key(|caller| std::cmp::Reverse((caller.lacking, caller.calls)));
            all.push(CalledDeployment {
                environment: environment.clone(),
                pipeline: pipeline.clone(),
                version,
                calls: callers.iter().map(|caller| caller.calls).sum(),
                lacking: callers.iter().map(|caller| caller.lacking).sum(),
                demands,
                callers,
            });
        }
        Ok(CallerImpact {
            since,
            calls: all.iter().map(|it| it.calls).sum(),
            lacking: all.iter().map(|it| it.lacking).sum(),
            deployments: all,
        })
    }

    /// Puts counts that a gateway gathered together for [`Calls::add`]: some of them, which it takes away.
    ///
    /// # Errors
    ///
    /// [`crate::errors::ErrorKind::Unavailable`] when the system gives no randomness.
    pub fn batch(&self, counts: &mut BTreeMap<CountedCalls, u64>) -> Result<CallBatch, Error> {
        let at = self.0.0.clock.now();
        let id = RequestId::new(at, self.0.id_bytes()?).to_string();
        let mut calls = Vec::new();
        while calls.len() < BATCH
            && let Some(count) = counts.pop_first()
        {
            calls.push(count);
        }
        Ok(CallBatch { id, at, calls })
    }

    /// Adds a batch to what was counted; a batch that was added already is not added again.
    ///
    /// # Errors
    ///
    /// [`crate::errors::ErrorKind::Unavailable`]; the batch can be handed over again.
    pub async fn add(&self, batch: &CallBatch) -> Result<(), Error> {
        self.0.store().add_calls(batch).await.map_err(Error::unavailable)
    }

    /// Forgets what was counted more than 90 days ago.
    ///
    /// # Errors
    ///
    /// [`crate::errors::ErrorKind::Unavailable`].
    pub async fn forget_old(&self) -> Result<u64, Error> {
        let before = Days(MAX_DAYS).before(self.0.0.clock.now());
        self.0.store().delete_calls_before(minute_of(before)).await.map_err(Error::unavailable)
    }

    pub(crate) async fn sums(
        &self,
        realm: &RealmName,
        since: Timestamp,
        environment: Option<&EnvironmentName>,
        pipeline: Option<&PipelineName>,
    ) -> Result<Vec<CallSum>, Error> {
        let filter = CallFilter { since_minute: minute_of(since), environment, pipeline };
        Ok(self.0.store().sum_calls(realm, &filter).await?)
    }
}

// === impl App ===

impl App {
    /// Refuses a pipeline that nobody called, unless there is one of its name that the actor may know of.
    pub(crate) async fn demand_called(&self, op: &Op, pipeline: &PipelineName) -> Result<(), Error> {
        let head = self.store().get::<PipelineHead>(&op.realm, &keys::pipeline(pipeline)).await?;
        let rights = op.rights();
        let is_known = |head: &PipelineHead| {
            rights.allows_somewhere_for(Permission::UsageRead, &head.project)
                || rights.allows(Permission::PipelineRead, Place::project(&head.project))
        };
        if head.is_some_and(|head| is_known(&head.value)) {
            return Ok(());
        }
        Err(Error::not_found(format!("there is no pipeline `{pipeline}`, and no call to one"))
            .hint("see the pipelines")
            .next(NextStep::ListPipelines))
    }
}

// === impl Names ===

impl<'a> Names<'a> {
    fn of(app: &'a App, op: &'a Op) -> Self {
        Self { app, op, keys: KeyNames::default(), others: BTreeMap::new() }
    }

    async fn caller(&mut self, of: &CountedCalls) -> Result<CallerView, Error> {
        let mut view = CallerView { consumer: None, key: None, credential: None, others: false };
        match &of.caller {
            CountedCaller::Unknown => {}
            CountedCaller::Others => view.others = true,
            CountedCaller::Consumer(consumer, credential) => {
                view.consumer = Some(consumer.clone());
                match credential {
                    None => {}
                    Some(CredentialId::Key(id)) => {
                        let (app, realm) = (self.app, &self.op.realm);
                        view.key = Some(self.keys.name(app, realm, &of.environment, *id).await?);
                    }
                    Some(id) => view.credential = Some(self.credential(&of.environment, *id).await?),
                }
            }
        }
        Ok(view)
    }

    async fn credential(
        &mut self,
        environment: &EnvironmentName,
        id: CredentialId,
    ) -> Result<CallCredentialView, Error> {
        let place = (environment.clone(), id);
        if let Some(known) = self.others.get(&place) {
            return Ok(known.clone());
        }
        let (store, realm) = (self.app.store(), &self.op.realm);
        let (kind, name) = match id {
            CredentialId::Key(_) => ("api-key", None),
            CredentialId::Certificate(id) => {
                let found = store.get::<Certificate>(realm, &keys::certificate(environment, id)).await?;
                ("certificate", found.map(|it| it.value.name.to_string()))
            }
            CredentialId::BasicAuth(id) => {
                let found = store.get::<BasicAuth>(realm, &keys::basic_auth(environment, id)).await?;
                let may = self.op.may(Permission::BasicAuthRead, Place::environment(environment));
                ("basic-auth", found.filter(|_| may).map(|it| it.value.username))
            }
        };
        let view = CallCredentialView { kind, id: id.to_string(), name };
        self.others.insert(place, view.clone());
        Ok(view)
    }
}

// === impl KeyNames ===

impl KeyNames {
    pub(crate) async fn name(
        &mut self,
        app: &App,
        realm: &RealmName,
        environment: &EnvironmentName,
        id: KeyId,
    ) -> Result<CallKeyView, Error> {
        let place = (environment.clone(), id);
        if let Some(known) = self.0.get(&place) {
            return Ok(known.clone());
        }
        let key = app.store().get::<ApiKey>(realm, &keys::api_key(environment, id)).await?;
        let view = CallKeyView {
            id: id.to_string(),
            name: key.as_ref().map(|key| key.value.name.to_string()),
            hint: key.map(|key| key.value.hint),
        };
        self.0.insert(place, view.clone());
        Ok(view)
    }
}

/// Returns the credentials that callers would have to send, once each, in a fixed order.
fn demands(violations: &[Violation]) -> Vec<Demand> {
    let demanded = |code| violations.iter().any(|violation| violation.code == code);
    [ViolationCode::MissingApiKey, ViolationCode::MissingJwt, ViolationCode::LoginApiKey]
        .into_iter()
        .filter(|code| demanded(*code))
        .map(|code| Demand { code, lacking: 0 })
        .collect()
}

pub(crate) fn minute_of(time: Timestamp) -> i64 {
    time.as_second().div_euclid(MINUTE_SECONDS)
}
