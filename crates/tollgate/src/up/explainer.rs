//! The gateway of this process, as the use cases ask it.

use std::net::SocketAddr;
use std::sync::Arc;

use jiff::Timestamp;
use tollgate_app::explanations::{Listener, NotExplained, ThisGateway};
use tollgate_app::issuers::IssuerKeysState;
use tollgate_app::keys::Expiry;
use tollgate_app::trials::{NotTried, PreparedTrial};
use tollgate_flow::BoxFuture;
use tollgate_gateway::{ExplainError, FlowTrial, Gateway, Refusals, TrialError};
use tollgate_listener::ClientCertificate;
use tollgate_model::environments::Exposure;
use tollgate_model::explanations::{CallToExplain, Explanation, Refusal};
use tollgate_model::ids::RequestId;
use tollgate_model::issuers::Issuer;
use tollgate_model::names::{EnvironmentName, RealmName};
use tollgate_model::recent_calls::RecentCalls;
use tollgate_model::trials::TrialReport;
use tollgate_snapshot::SharedSnapshot;

use super::Parts;
use super::entrances::Entrances;
use super::issuers::IssuerTask;
use super::listeners::{Name, Place};

/// The gateway of this process.
pub(crate) struct ThisProcess {
    gateway: Arc<Gateway>,
    refusals: Arc<Refusals>,
    shared: Arc<SharedSnapshot>,
    entrances: Arc<Entrances>,
    issuers: Arc<IssuerTask>,
    /// Where the process was told to listen.
    given: Vec<Listener>,
}

// === impl ThisProcess ===

impl ThisProcess {
    pub(crate) fn new(parts: &Parts, bound: &[(Name, SocketAddr)]) -> Self {
        let given = bound.iter().filter_map(|(name, address)| match name {
            Name::Environment(place) => Some(Listener {
                environment: place.environment.clone(),
                exposure: place.exposure,
                mtls: parts.entrances.demands_clients(name),
                address: *address,
                tls: parts.entrances.has_tls(name),
            }),
            Name::Console | Name::Metrics => None,
        });
        Self {
            gateway: parts.gateway.clone(),
            refusals: parts.refusals.clone(),
            shared: parts.shared.clone(),
            entrances: parts.entrances.clone(),
            issuers: parts.issuers.clone(),
            given: given.collect(),
        }
    }

    fn demands_clients(&self, environment: &EnvironmentName, exposure: Exposure) -> bool {
        self.entrances.demands_clients(&Name::Environment(Place::of(environment.clone(), exposure)))
    }

    /// Takes the client certificate of a call as shown at the listener that asks for one.
    fn certificate(&self, call: &CallToExplain) -> Result<Option<ClientCertificate>, String> {
        let Some(pem) = &call.certificate else { return Ok(None) };
        let place = Place::of(call.environment.clone(), call.exposure);
        let names = [Place { mtls: call.exposure == Exposure::External, ..place.clone() }, place];
        let asking = names.into_iter().find_map(|place| self.entrances.of(&Name::Environment(place)).tls);
        let shown = asking.map(|tls| tls.imagine_client(pem.as_bytes()));
        match shown {
            Some(Ok(Some(certificate))) => Ok(Some(certificate)),
            Some(Err(_)) => {
                Err("the client certificate cannot be read: it is no PEM with certificates".to_owned())
            }
            Some(Ok(None)) | None => Err(format!(
                "no {} listener of {} asks for client certificates in the process that was asked",
                call.exposure.as_str(),
                call.environment
            )),
        }
    }
}

impl ThisProcess {
    fn has_tls(&self, environment: &EnvironmentName, exposure: Exposure) -> bool {
        let place = Place::of(environment.clone(), exposure);
        self.entrances.has_tls(&Name::Environment(place))
    }
}

impl ThisGateway for ThisProcess {
    fn explain<'a>(
        &'a self,
        realm: &'a RealmName,
        call: &'a CallToExplain,
    ) -> BoxFuture<'a, Result<Explanation, NotExplained>> {
        Box::pin(async move {
            let certificate = self.certificate(call).map_err(NotExplained::Invalid)?;
            self.gateway.explain_with(realm, call, certificate).await.map_err(|error| match error {
                ExplainError::OtherRealm => NotExplained::OtherRealm,
                error => NotExplained::Invalid(error.to_string()),
            })
        })
    }

    fn refusal(&self, realm: &RealmName, id: RequestId) -> Option<Arc<Refusal>> {
        self.refusals.find(realm, id)
    }

    fn refusals(&self, realm: &RealmName) -> Vec<Arc<Refusal>> {
        self.refusals.recent(realm)
    }

    fn recent_calls(&self, realm: &RealmName) -> RecentCalls {
        self.gateway.recent_calls(realm)
    }

    fn expiring_keys(&self, realm: &RealmName, now: Timestamp, until: Timestamp) -> Vec<Expiry> {
        let Some(snapshot) = self.shared.load() else { return Vec::new() };
        let expiring = snapshot.expiring_keys(realm, now, until);
        expiring
            .map(|(scope, consumer, key, at)| Expiry {
                environment: scope.environment.clone(),
                consumer: consumer.name.clone(),
                key: key.id,
                at,
            })
            .collect()
    }

    fn issuer_keys(&self, realm: &RealmName, issuer: &Issuer) -> Option<IssuerKeysState> {
        self.issuers.state(realm, issuer)
    }

    fn try_flow<'a>(&'a self, trial: PreparedTrial<'a>) -> BoxFuture<'a, Result<TrialReport, NotTried>> {
        let PreparedTrial { realm, environment, pipeline, version, flow, timeout, message, request_id } =
            trial;
        Box::pin(async move {
            let trial =
                FlowTrial { realm, environment, pipeline, version, flow, timeout, message, request_id };
            self.gateway.try_flow(trial).await.map_err(|error| match error {
                TrialError::Unavailable => NotTried::Unavailable,
                TrialError::Broken => NotTried::Broken,
            })
        })
    }

    fn listeners(&self) -> Vec<Listener> {
        let mut listeners = self.given.clone();
        // What was given goes before what is stored, as it does where listeners are opened.
        if let Some(snapshot) = self.shared.load() {
            let stored = snapshot.addresses().iter().map(|(address, (environment, exposure))| Listener {
                environment: environment.clone(),
                exposure: *exposure,
                mtls: self.demands_clients(environment, *exposure),
                address: *address,
                tls: self.has_tls(environment, *exposure),
            });
            let is_given = |it: &Listener| {
                self.given
                    .iter()
                    .any(|given| (&given.environment, given.exposure) == (&it.environment, it.exposure))
            };
            listeners.extend(stored.filter(|it| !is_given(it)));
        }
        listeners
    }
}
