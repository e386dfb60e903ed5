//! What nobody uses: associations without a call, and credentials.
//!
//! What is younger than the days asked for had no chance to be used as long, and is said to be too young. That an
//! association is old enough is known from the journal: it was there when the days began.

use std::collections::{BTreeMap, HashMap, HashSet};

use jiff::Timestamp;
use serde::Serialize;
use tollgate_model::calls::CountedCaller;
use tollgate_model::certificates::Certificate;
use tollgate_model::consumers::{ApiKey, BasicAuth, Consumer, CredentialState};
use tollgate_model::deployments::Deployment;
use tollgate_model::ids::{ConsumerId, CredentialId};
use tollgate_model::names::{ConsumerName, EnvironmentName, PipelineName};

use super::{Reach, demand};
use crate::access::Op;
use crate::calls::{Days, MAX_DAYS, MINUTE_SECONDS};
use crate::errors::Error;

/// What nobody used for some days.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Unused {
    /// From when on nobody used it; the minute in which it lies counts whole.
    pub since: Timestamp,
    /// Associations without a call.
    pub associations: Vec<UnusedAssociation>,
    /// API keys that work and were not used.
    pub keys: Vec<UnusedCredential>,
    /// Client certificates that are bound, by bindings that work, and were not shown.
    pub certificates: Vec<UnusedCredential>,
    /// Basic Auth credentials that work and were not used.
    pub basic_auth: Vec<UnusedCredential>,
}

/// An association without a call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct UnusedAssociation {
    /// Where.
    pub environment: EnvironmentName,
    /// Whose.
    pub consumer: ConsumerName,
    /// With what.
    pub pipeline: PipelineName,
    /// Whether the pipeline runs there.
    pub deployed: bool,
    /// The minute of the last call of the last 90 days.
    pub last_call: Option<Timestamp>,
    /// Whether it was not there yet when the days began: then it is too young to be called unused.
    pub too_young: bool,
    /// Whether there were calls of callers who were too many to be told apart: one may have been of this consumer.
    pub uncertain: bool,
}

/// A credential that works and was not used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct UnusedCredential {
    /// Where.
    pub environment: EnvironmentName,
    /// Whose; `None` when the consumer is gone.
    pub consumer: Option<ConsumerName>,
    /// Its id.
    pub id: String,
    /// Its name; of a Basic Auth credential the user name.
    pub name: String,
    /// The end of an API key, to recognise it by.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last used; `None` when it never was.
    pub last_used_at: Option<Timestamp>,
    /// Whether it was made after the days began.
    pub too_young: bool,
}

/// A credential that works, before its last use is known.
struct Working {
    id: CredentialId,
    consumer: ConsumerId,
    name: String,
    hint: Option<String>,
    created_at: Timestamp,
}

/// What was called of an association.
type Called = HashMap<(EnvironmentName, PipelineName, ConsumerName), i64>;

impl Reach {
    /// Tells which associations had no call for some days, and which credentials that work were not used.
    ///
    /// # Errors
    ///
    /// [`crate::errors::ErrorKind::NotFound`] when there is no such environment.
    pub async fn unused(
        &self,
        op: &Op,
        days: Days,
        environment: Option<&EnvironmentName>,
    ) -> Result<Unused, Error> {
        demand(op, environment)?;
        let app = &self.0;
        let environments = app.environments_asked(op, environment).await?;
        let since = days.before(op.now);
        let since_minute = since.as_second().div_euclid(MINUTE_SECONDS);
        let (mut called, mut others) = (Called::new(), HashSet::new());
        let longest = Days::parse(Some(MAX_DAYS))?.before(op.now);
        for sum in app.calls().sums(&op.realm, longest, environment, None).await? {
            let of = sum.of;
            match of.caller {
                CountedCaller::Consumer(consumer, _) => {
                    let last = called.entry((of.environment, of.pipeline, consumer)).or_insert(of.minute);
                    *last = of.minute.max(*last);
                }
                CountedCaller::Others if of.minute >= since_minute => {
                    others.insert((of.environment, of.pipeline));
                }
                CountedCaller::Others | CountedCaller::Unknown => {}
            }
        }
        let then = app.store().seq_at(since).await?;
        let mut unused = Unused {
            since,
            associations: Vec::new(),
            keys: Vec::new(),
            certificates: Vec::new(),
            basic_auth: Vec::new(),
        };
        for environment in &environments {
            let prefix = format!("{environment}/");
            let consumers: Vec<Consumer> =
                app.all(&op.realm, &prefix).await?.into_iter().map(|stored| stored.value).collect();
            let before = app.store().list_as_of::<Consumer>(&op.realm, &prefix, then).await?;
            let before: HashMap<_, _> =
                before.into_iter().map(|it| (it.value.id, it.value.pipelines)).collect();
            let running: HashSet<PipelineName> = app
                .all::<Deployment>(&op.realm, &prefix)
                .await?
                .into_iter()
                .map(|stored| stored.value.pipeline)
                .collect();
            for consumer in &consumers {
                for pipeline in &consumer.pipelines {
                    let place = (environment.clone(), pipeline.clone(), consumer.name.clone());
                    let last = called.get(&place).copied();
                    if last.is_some_and(|minute| minute >= since_minute) {
                        continue;
                    }
                    let last = last.map(|minute| Timestamp::from_second(minute * MINUTE_SECONDS));
                    unused.associations.push(UnusedAssociation {
                        environment: environment.clone(),
                        consumer: consumer.name.clone(),
                        pipeline: pipeline.clone(),
                        deployed: running.contains(pipeline),
                        last_call: last.transpose().map_err(Error::internal)?,
                        too_young: before.get(&consumer.id).is_none_or(|it| !it.contains(pipeline)),
                        uncertain: others.contains(&(environment.clone(), pipeline.clone())),
                    });
                }
            }
            let names: BTreeMap<_, _> = consumers.iter().map(|it| (it.id, &it.name)).collect();
            let working = self.working(op, &prefix).await?;
            let last_uses = app.last_uses(working.iter().map(|it| it.id)).await?;
            for it in working {
                let last_used_at = last_uses.get(&it.id).copied();
                if last_used_at.is_some_and(|at| at >= since) {
                    continue;
                }
                let of_kind = match it.id {
                    CredentialId::Key(_) => &mut unused.keys,
                    CredentialId::Certificate(_) => &mut unused.certificates,
                    CredentialId::BasicAuth(_) => &mut unused.basic_auth,
                };
                of_kind.push(UnusedCredential {
                    environment: environment.clone(),
                    consumer: names.get(&it.consumer).map(|name| (*name).clone()),
                    id: it.id.to_string(),
                    name: it.name,
                    hint: it.hint,
                    created_at: it.created_at,
                    last_used_at,
                    too_young: it.created_at > since,
                });
            }
        }
        Ok(unused)
    }

    /// Returns the credentials of an environment that work.
    async fn working(&self, op: &Op, prefix: &str) -> Result<Vec<Working>, Error> {
        let app = &self.0;
        let keys = app.all::<ApiKey>(&op.realm, prefix).await?.into_iter().map(|stored| stored.value);
        let keys = keys.filter(|it| it.state(op.now) == CredentialState::Active).map(|it| Working {
            id: it.id.into(),
            consumer: it.consumer,
            name: it.name.to_string(),
            hint: Some(it.hint),
            created_at: it.created_at,
        });
        let bound = app.all::<Certificate>(&op.realm, prefix).await?.into_iter().map(|stored| stored.value);
        let bound = bound.filter(|it| it.state(op.now) == CredentialState::Active).map(|it| Working {
            id: it.id.into(),
            consumer: it.consumer,
            name: it.name.to_string(),
            hint: None,
            created_at: it.created_at,
        });
        let basic = app.all::<BasicAuth>(&op.realm, prefix).await?.into_iter().map(|stored| stored.value);
        let basic = basic.filter(|it| it.revoked_at.is_none()).map(|it| Working {
            id: it.id.into(),
            consumer: it.consumer,
            name: it.username,
            hint: None,
            created_at: it.created_at,
        });
        Ok(keys.chain(bound).chain(basic).collect())
    }
}
