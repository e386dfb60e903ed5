//! Refused calls: why a call was refused that somebody has the request id of.
//!
//! Gateways keep what is needed, within allowances, and hand it over every second. It is kept for three days. Any process
//! answers for the gateways of all, and for its own also what was not handed over yet.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use tollgate_model::explanations::Refusal;
use tollgate_model::ids::RequestId;
use tollgate_model::names::{ConsumerName, EnvironmentName, PipelineName, RealmName};
use tollgate_model::next_steps::NextStep;
use tollgate_store::{NewRecord, RecordTable};

use crate::App;
use crate::access::{Op, Permission, Place};
use crate::calls::{CallKeyView, minute_of};
use crate::errors::{Error, ErrorKind};
use crate::lists::{ListPage, ListRequest};

/// How long refused calls are kept.
const KEPT: SignedDuration = SignedDuration::from_hours(72);

/// How many records are read at once.
const PAGE: u32 = 500;

/// How many times, at most, for one page of a list: what a filter passes over costs the asker another page.
const PAGES: usize = 10;

/// Most minutes of which it is known that something was not kept, times processes.
const MAX_DROPS: u32 = 100_000;

/// Use cases of refused calls.
pub struct RefusedCalls(pub(crate) App);

/// Which refused calls to list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RefusalFilter {
    /// Only on listeners of this environment.
    pub environment: Option<EnvironmentName>,
    /// Only to this pipeline.
    pub pipeline: Option<PipelineName>,
    /// Only of this consumer.
    pub consumer: Option<ConsumerName>,
    /// Only with this code.
    pub code: Option<String>,
    /// Only at or after this time.
    pub since: Option<Timestamp>,
}

/// A refused call, with the key that it carried by its name.
#[derive(Debug, Clone, PartialEq)]
pub struct NamedRefusal {
    /// The call.
    pub refusal: Arc<Refusal>,
    /// The key, when it was one of the environment's.
    pub key: Option<CallKeyView>,
}

/// How many refusals of a minute were not kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DroppedCount {
    /// Whose.
    pub realm: RealmName,
    /// Minutes since 1970.
    pub minute: i64,
    /// How many, so far.
    pub count: u64,
    /// Who counts; counts of several are added up.
    pub writer: String,
}

/// A page of refused calls.
#[derive(Debug, Clone, PartialEq)]
pub struct RefusalPage {
    /// The calls, newest first.
    pub page: ListPage<Arc<Refusal>>,
    /// How many of the realm were refused in the time asked for and not kept, because there were too many.
    pub not_kept: u64,
}

// === impl RefusedCalls ===

impl RefusedCalls {
    /// Returns a refused call by the request id of its answer.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`] saying why there may be none.
    pub async fn get(&self, op: &Op, id: RequestId) -> Result<NamedRefusal, Error> {
        op.demand_anywhere(Permission::CallExplain)?;
        let here = self.0.gateway().and_then(|gateway| gateway.refusal(&op.realm, id));
        let refusal = match here {
            Some(refusal) => Some(refusal),
            None => self.stored(&op.realm, id).await?,
        };
        let oldest = op.now - KEPT;
        // One of an environment that is none of their business is as one that is not there.
        let is_theirs =
            |it: &Arc<Refusal>| op.may(Permission::CallExplain, Place::environment(&it.environment));
        let Some(refusal) = refusal.filter(|it| it.at > oldest && is_theirs(it)) else {
            return Err(self.not_there(op, id).await?);
        };
        let key = self.0.name_of_key(&op.realm, &refusal.environment, refusal.reached.key).await?;
        Ok(NamedRefusal { refusal, key })
    }

    /// Returns a page of refused calls, newest first. A page may hold fewer than asked for though others follow: what a
    /// filter leaves out is looked through a bounded number at once.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`] when there is no such environment; [`ErrorKind::Invalid`] for a cursor that is none.
    pub async fn list(
        &self,
        op: &Op,
        filter: &RefusalFilter,
        request: ListRequest,
    ) -> Result<RefusalPage, Error> {
        match &filter.environment {
            Some(environment) => {
                op.demand_in(Permission::CallExplain, Place::environment(environment))?;
                self.0.environment(&op.realm, environment).await?;
            }
            None => op.demand_anywhere(Permission::CallExplain)?,
        }
        let oldest = (op.now - KEPT).max(filter.since.unwrap_or(Timestamp::MIN));
        let cursor = request.cursor.as_deref().map(RequestId::parse).transpose().map_err(|_| {
            Error::invalid("the cursor is none of this list").hint("send `next` of the page before")
        })?;
        let limit = request.size() as usize;
        let fits = |refusal: &Refusal| {
            refusal.at >= oldest
                && filter.fits(refusal)
                && op.may(Permission::CallExplain, Place::environment(&refusal.environment))
        };
        // By id, which begins with the time: the highest is the newest.
        let mut found: BTreeMap<RequestId, Arc<Refusal>> = BTreeMap::new();
        let mut below = cursor.map_or_else(|| "req_~".to_owned(), |id| id.to_string());
        let mut more = false;
        for page in 1..=PAGES {
            let store = self.0.store();
            let records = store.list_records_below(RecordTable::Refusals, &op.realm, &below, PAGE).await;
            let records = records.map_err(Error::unavailable)?;
            let is_last = records.len() < PAGE as usize;
            if let Some(lowest) = records.last() {
                below.clone_from(&lowest.key);
            }
            let mut passed_oldest = false;
            for record in &records {
                let refusal = read(&record.body)?;
                passed_oldest |= refusal.at < oldest;
                if fits(&refusal) {
                    found.insert(refusal.request_id, Arc::new(refusal));
                }
            }
            if is_last || passed_oldest {
                break;
            }
            more = page == PAGES || found.len() > limit;
            if more {
                break;
            }
        }
        let looked_at = more.then(|| RequestId::parse(&below).map_err(Error::internal)).transpose()?;
        let here = self.0.gateway().map(|gateway| gateway.refusals(&op.realm)).unwrap_or_default();
        let here = here.into_iter().filter(|it| {
            let id = it.request_id;
            cursor.is_none_or(|cursor| id < cursor) && looked_at.is_none_or(|at| id >= at) && fits(it)
        });
        found.extend(here.map(|refusal| (refusal.request_id, refusal)));
        let items: Vec<_> = found.into_values().rev().collect();
        let cut = items.len() > limit;
        let items: Vec<_> = items.into_iter().take(limit).collect();
        let next = match items.last() {
            Some(last) if cut => Some(last.request_id.to_string()),
            _ => looked_at.map(|at| at.to_string()),
        };
        let not_kept = self.not_kept(&op.realm, oldest).await?;
        Ok(RefusalPage { page: ListPage { items, next }, not_kept })
    }

    /// Writes down what a gateway kept.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unavailable`]; the refusals can be handed over again.
    pub async fn keep(&self, refusals: &[(RealmName, Arc<Refusal>)]) -> Result<(), Error> {
        let records = refusals.iter().map(|(realm, refusal)| {
            Ok(NewRecord {
                realm: realm.clone(),
                key: refusal.request_id.to_string(),
                body: serde_json::to_string(&**refusal).map_err(Error::internal)?,
                expires_at: Some(refusal.at + KEPT),
            })
        });
        let records = records.collect::<Result<Vec<_>, Error>>()?;
        self.0.store().put_records(RecordTable::Refusals, &records).await.map_err(Error::unavailable)
    }

    /// Writes down how many refusals a gateway did not keep, each count in place of the one of the same minute and writer.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unavailable`]; the counts can be handed over again.
    pub async fn keep_dropped(&self, counts: &[DroppedCount]) -> Result<(), Error> {
        let now = self.0.0.clock.now();
        let records = counts.iter().map(|it| NewRecord {
            realm: it.realm.clone(),
            key: format!("{}{}", minute_prefix(it.minute), it.writer),
            body: it.count.to_string(),
            expires_at: Some(now + KEPT),
        });
        let records: Vec<_> = records.collect();
        self.0.store().put_records(RecordTable::DroppedRefusals, &records).await.map_err(Error::unavailable)
    }

    /// Deletes what is kept no longer.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unavailable`].
    pub async fn forget_old(&self) -> Result<u64, Error> {
        let now = self.0.0.clock.now();
        self.0.store().delete_expired_records(now).await.map_err(Error::unavailable)
    }

    async fn stored(&self, realm: &RealmName, id: RequestId) -> Result<Option<Arc<Refusal>>, Error> {
        let record = self.0.store().get_record(RecordTable::Refusals, realm, &id.to_string()).await;
        let record = record.map_err(Error::unavailable)?;
        record.map(|body| read(&body).map(Arc::new)).transpose()
    }

    /// Says why there is nothing to be found under a request id.
    async fn not_there(&self, op: &Op, id: RequestId) -> Result<Error, Error> {
        let at = id.made_at();
        if at <= op.now - KEPT {
            return Ok(Error::not_found(format!("`{id}` is of {at}, and refused calls are kept for 3 days"))
                .hint("make the call again, or ask what would be answered")
                .next(NextStep::ExplainCall));
        }
        let dropped = self.dropped(&op.realm, &minute_prefix(minute_of(at)), "").await?;
        if dropped > 0 {
            let message = format!(
                "`{id}` is not kept: too many calls were refused at that time ({dropped} of that minute were not kept)"
            );
            return Ok(Error::new(ErrorKind::NotFound, "refusal-not-kept", message)
                .hint("ask what would be answered")
                .next(NextStep::ExplainCall));
        }
        Ok(Error::not_found(format!("there is no refused call `{id}` in realm `{}`", op.realm)).hint(
            "calls that were not refused are not kept, nor are those whose path names no realm where there are several",
        ))
    }

    async fn not_kept(&self, realm: &RealmName, since: Timestamp) -> Result<u64, Error> {
        let from = minute_prefix(minute_of(since));
        self.dropped(realm, "", &from).await
    }

    /// Counts what was not kept in minutes whose keys begin with a prefix, from a key on.
    async fn dropped(&self, realm: &RealmName, prefix: &str, from: &str) -> Result<u64, Error> {
        let records =
            self.0.store().list_records(RecordTable::DroppedRefusals, realm, prefix, MAX_DROPS).await;
        let records = records.map_err(Error::unavailable)?;
        let counts = records.iter().filter(|record| record.key.as_str() >= from);
        Ok(counts.filter_map(|record| record.body.parse::<u64>().ok()).sum())
    }
}

// === impl RefusalFilter ===

impl RefusalFilter {
    fn fits(&self, refusal: &Refusal) -> bool {
        let fits = |wanted: bool, is: bool| !wanted || is;
        fits(self.environment.is_some(), self.environment.as_ref() == Some(&refusal.environment))
            && fits(self.pipeline.is_some(), self.pipeline == refusal.reached.pipeline)
            && fits(self.consumer.is_some(), self.consumer == refusal.reached.consumer)
            && fits(self.code.is_some(), self.code.as_ref() == Some(&refusal.code))
    }
}

/// Returns what the keys of a minute begin with; a higher minute has a higher one.
fn minute_prefix(minute: i64) -> String {
    format!("{minute:012}/")
}

fn read(body: &str) -> Result<Refusal, Error> {
    serde_json::from_str(body).map_err(Error::internal)
}
