//! Who can call what, decided over a set of objects: no store, no clock.

use std::collections::HashMap;

use jiff::Timestamp;
use serde::Serialize;
use tollgate_model::certificates::Certificate;
use tollgate_model::consumers::{ApiKey, BasicAuth, Consumer, CredentialState};
use tollgate_model::deployments::Deployment;
use tollgate_model::environments::Exposure;
use tollgate_model::ids::ConsumerId;
use tollgate_model::names::{ConsumerName, EnvironmentName, PipelineName, RealmName};
use tollgate_model::pipelines::PipelineVersion;
use tollgate_model::triggers::{Method, Scope};
use tollgate_model::versions::Version;
use tollgate_snapshot::{Enforcer, offered_routes};

use super::CallerUsage;
use crate::errors::Error;

/// What decides who can call.
pub(super) struct AccessObjects {
    pub(super) realm: RealmName,
    pub(super) now: Timestamp,
    pub(super) deployed: Vec<(Deployment, PipelineVersion)>,
    pub(super) consumers: Vec<Consumer>,
    pub(super) keys: HashMap<ConsumerId, Vec<ApiKey>>,
    pub(super) certificates: HashMap<ConsumerId, Vec<Certificate>>,
    pub(super) basic_auth: HashMap<ConsumerId, Vec<BasicAuth>>,
    pub(super) enforcer: Enforcer,
}

/// A deployment, as far as callers are concerned.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Callable {
    /// Where.
    pub environment: EnvironmentName,
    /// What runs.
    pub pipeline: PipelineName,
    /// Which version.
    pub version: Version,
    /// Where it answers; nowhere when it exposes nothing.
    pub routes: Vec<OfferedRouteView>,
    /// What it demands of every caller.
    pub demands: Demands,
    /// Whether anybody who reaches its listener can call: it is exposed and demands nothing.
    pub anybody: bool,
    /// That its calls are refused by the policies, or will be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused: Option<Refusing>,
}

/// A route that can be called.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct OfferedRouteView {
    /// On which listener.
    pub exposure: Exposure,
    /// The path; segments that begin with `:` are parameters.
    pub path: String,
    /// Its methods.
    pub methods: Vec<Method>,
    /// The scopes that a token must carry there.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub scopes: Vec<Scope>,
}

/// What every caller must show.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Demands {
    /// An API key of an associated consumer.
    pub api_key: bool,
    /// A client certificate of an associated consumer.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub certificate: bool,
    /// A token issued to an associated consumer.
    pub token: bool,
    /// Basic Auth credentials of an associated consumer.
    pub basic_auth: bool,
}

/// Calls that the policies refuse.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Refusing {
    /// Whether they are refused at the time asked for.
    pub now: bool,
    /// From when on.
    pub from: Timestamp,
    /// What the deployment breaks.
    pub reason: String,
}

/// A consumer that is associated with a pipeline.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AbleCaller {
    /// Which one.
    pub consumer: ConsumerName,
    /// Whether it can call: it has what is demanded, except for tokens, which are issued for a while; and the policies
    /// do not refuse the calls.
    pub can_call: bool,
    /// What is demanded and it has not: `apiKey`, `certificate`, `basicAuth`.
    pub lacks: Vec<&'static str>,
    /// Its API keys that work, where one is demanded.
    pub keys: Vec<UsableKey>,
    /// Its client certificates that work, where one is demanded.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub certificates: Vec<UsableCertificate>,
    /// Its Basic Auth user names that work, where one is demanded.
    pub usernames: Vec<String>,
    /// How often it called.
    pub usage: Option<CallerUsage>,
}

/// An API key that works.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct UsableKey {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// The end of it, to recognise it by.
    pub hint: String,
    /// When it stops working by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
}

/// A client certificate that works, as far as its binding goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct UsableCertificate {
    /// The id of the binding.
    pub id: String,
    /// Its name.
    pub name: String,
    /// When it stops working by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
}

// === impl AccessObjects ===

impl AccessObjects {
    /// Returns every deployment as far as callers are concerned.
    pub(super) fn callables(&self) -> Result<Vec<Callable>, Error> {
        self.deployed.iter().map(|(deployment, version)| self.callable(deployment, version)).collect()
    }

    fn callable(&self, deployment: &Deployment, version: &PipelineVersion) -> Result<Callable, Error> {
        let routes: Vec<_> = offered_routes(&self.realm, &version.pipeline, version.version.major)
            .into_iter()
            .map(|it| OfferedRouteView {
                exposure: it.exposure,
                path: it.path,
                methods: it.methods,
                scopes: it.scopes,
            })
            .collect();
        let http = version.pipeline.trigger.http();
        let demands = Demands {
            api_key: http.is_some_and(|trigger| trigger.api_key.is_on()),
            certificate: http.is_some_and(|trigger| trigger.mtls),
            token: http.is_some_and(|trigger| trigger.jwt.is_on()),
            basic_auth: http.is_some_and(|trigger| trigger.basic_auth),
        };
        let enforced =
            self.enforcer.of(&version.pipeline, &deployment.environment).map_err(Error::internal)?;
        let refused = enforced.map(|enforced| Refusing {
            now: enforced.from <= self.now,
            from: enforced.from,
            reason: enforced.reason(enforced.from.max(self.now)),
        });
        Ok(Callable {
            environment: deployment.environment.clone(),
            pipeline: deployment.pipeline.clone(),
            version: deployment.version,
            anybody: !routes.is_empty() && demands.is_nothing(),
            routes,
            demands,
            refused,
        })
    }

    /// Returns the consumers of an environment that are associated with a pipeline.
    pub(super) fn associated<'a>(
        &'a self,
        environment: &'a EnvironmentName,
        pipeline: &'a PipelineName,
    ) -> impl Iterator<Item = &'a Consumer> {
        self.consumers
            .iter()
            .filter(move |it| it.environment == *environment && it.pipelines.contains(pipeline))
    }

    /// Returns the consumers that are associated with a deployment, where credentials are demanded.
    pub(super) fn callers(&self, callable: &Callable) -> Vec<AbleCaller> {
        if callable.anybody {
            return Vec::new();
        }
        let associated = self.associated(&callable.environment, &callable.pipeline);
        associated.map(|consumer| self.caller(callable, consumer)).collect()
    }

    fn caller(&self, callable: &Callable, consumer: &Consumer) -> AbleCaller {
        let demands = callable.demands;
        let keys = self.keys.get(&consumer.id).map(Vec::as_slice).unwrap_or_default();
        let keys: Vec<_> = keys
            .iter()
            .filter(|key| demands.api_key && self.works(key))
            .map(|key| UsableKey {
                id: key.id.to_string(),
                name: key.name.to_string(),
                hint: key.hint.clone(),
                expires_at: key.expires_at,
            })
            .collect();
        let certificates = self.certificates.get(&consumer.id).map(Vec::as_slice).unwrap_or_default();
        let certificates: Vec<_> = certificates
            .iter()
            .filter(|it| demands.certificate && it.revoked_at.is_none())
            .filter(|it| it.state(self.now) == CredentialState::Active)
            .map(|it| UsableCertificate {
                id: it.id.to_string(),
                name: it.name.to_string(),
                expires_at: it.expires_at,
            })
            .collect();
        let basic = self.basic_auth.get(&consumer.id).map(Vec::as_slice).unwrap_or_default();
        let usernames: Vec<_> = basic
            .iter()
            .filter(|it| demands.basic_auth && it.revoked_at.is_none())
            .map(|it| it.username.clone())
            .collect();
        let lacks: Vec<_> = [
            (demands.api_key && keys.is_empty()).then_some("apiKey"),
            (demands.certificate && certificates.is_empty()).then_some("certificate"),
            (demands.basic_auth && usernames.is_empty()).then_some("basicAuth"),
        ]
        .into_iter()
        .flatten()
        .collect();
        let is_refused = callable.refused.as_ref().is_some_and(|refused| refused.now);
        AbleCaller {
            consumer: consumer.name.clone(),
            can_call: lacks.is_empty() && !is_refused && !callable.routes.is_empty(),
            lacks,
            keys,
            certificates,
            usernames,
            usage: None,
        }
    }

    /// Tells whether a key works. A gateway takes a revoked one for revoked whatever its own clock says.
    fn works(&self, key: &ApiKey) -> bool {
        key.revoked_at.is_none() && key.state(self.now) == CredentialState::Active
    }
}

// === impl Demands ===

impl Demands {
    fn is_nothing(self) -> bool {
        !self.api_key && !self.certificate && !self.token && !self.basic_auth
    }
}
