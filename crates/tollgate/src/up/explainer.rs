//! The gateway of this process, as the use cases ask it.

use std::net::SocketAddr;
use std::sync::Arc;

use tollgate_app::explanations::{Listener, NotExplained, ThisGateway};
use tollgate_flow::BoxFuture;
use tollgate_gateway::{ExplainError, Gateway, Refusals};
use tollgate_model::explanations::{CallToExplain, Explanation, Refusal};
use tollgate_model::ids::RequestId;
use tollgate_model::names::RealmName;
use tollgate_snapshot::SharedSnapshot;

use super::Parts;
use super::listeners::Name;

/// The gateway of this process.
pub(crate) struct ThisProcess {
    gateway: Arc<Gateway>,
    refusals: Arc<Refusals>,
    shared: Arc<SharedSnapshot>,
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
                address: *address,
            }),
            Name::Console | Name::Metrics => None,
        });
        Self {
            gateway: parts.gateway.clone(),
            refusals: parts.refusals.clone(),
            shared: parts.shared.clone(),
            given: given.collect(),
        }
    }
}

impl ThisGateway for ThisProcess {
    fn explain<'a>(
        &'a self,
        realm: &'a RealmName,
        call: &'a CallToExplain,
    ) -> BoxFuture<'a, Result<Explanation, NotExplained>> {
        Box::pin(async move {
            self.gateway.explain(realm, call).await.map_err(|error| match error {
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

    fn listeners(&self) -> Vec<Listener> {
        let mut listeners = self.given.clone();
        // What was given goes before what is stored, as it does where listeners are opened.
        if let Some(snapshot) = self.shared.load() {
            let stored = snapshot.addresses().iter().map(|(address, (environment, exposure))| Listener {
                environment: environment.clone(),
                exposure: *exposure,
                address: *address,
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
