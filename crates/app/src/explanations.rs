//! Why a call is answered as it is: asked of the gateway of this process, which knows.
//!
//! Whoever may ask can try out keys, tokens and passwords, as every caller can, and is told more than a caller: that is
//! what the permission is for. Nothing of what is asked is kept or logged.

use std::net::SocketAddr;
use std::sync::Arc;

use jiff::Timestamp;
pub use tollgate_flow::BoxFuture;
use tollgate_model::environments::{Environment, Exposure};
use tollgate_model::explanations::{CallToExplain, Explanation, Refusal};
use tollgate_model::ids::{KeyId, RequestId};
use tollgate_model::issuers::Issuer;
use tollgate_model::names::{EnvironmentName, RealmName};
use tollgate_model::recent_calls::RecentCalls;
use tollgate_model::trials::TrialReport;

use crate::App;
use crate::access::{Op, Permission, Place};
use crate::calls::{CallKeyView, KeyNames};
use crate::errors::{Error, ErrorKind};
use crate::issuers::IssuerKeysState;
use crate::keys::Expiry;
use crate::trials::{NotTried, PreparedTrial};

/// Use cases of explanations.
pub struct Explanations(pub(crate) App);

/// What the gateway of this process can be asked.
pub trait ThisGateway: Send + Sync {
    /// Says what it would answer to a call of a realm, and why.
    fn explain<'a>(
        &'a self,
        realm: &'a RealmName,
        call: &'a CallToExplain,
    ) -> BoxFuture<'a, Result<Explanation, NotExplained>>;

    /// Returns a refused call of a realm that it still knows.
    fn refusal(&self, realm: &RealmName, id: RequestId) -> Option<Arc<Refusal>>;

    /// Returns the refused calls of a realm that it still knows, newest first.
    fn refusals(&self, realm: &RealmName) -> Vec<Arc<Refusal>>;

    /// Returns the last calls of a realm.
    fn recent_calls(&self, realm: &RealmName) -> RecentCalls;

    /// Returns the keys of a realm that work at a moment and stop working by themselves until another.
    fn expiring_keys(&self, realm: &RealmName, now: Timestamp, until: Timestamp) -> Vec<Expiry>;

    /// Runs a flow of a realm for somebody who tries it. Without a gateway that can, nothing is tried.
    fn try_flow<'a>(&'a self, trial: PreparedTrial<'a>) -> BoxFuture<'a, Result<TrialReport, NotTried>>;

    /// Returns where it listens.
    fn listeners(&self) -> Vec<Listener>;

    /// Returns how it stands with the keys of an issuer of a realm; `None` when it has not heard of it.
    fn issuer_keys(&self, realm: &RealmName, issuer: &Issuer) -> Option<IssuerKeysState> {
        let _ = (realm, issuer);
        None
    }
}

/// An address that the gateway of this process listens on.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Listener {
    /// Whose calls come in there.
    pub environment: EnvironmentName,
    /// On which of its listeners.
    pub exposure: Exposure,
    /// Whether it takes nobody without a client certificate.
    pub mtls: bool,
    /// Where.
    pub address: SocketAddr,
    /// Whether it speaks TLS.
    pub tls: bool,
}

/// Why a gateway explains nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotExplained {
    /// No call is like that, in a sentence.
    Invalid(String),
    /// The call reaches no pipeline of the realm.
    OtherRealm,
}

/// An explanation, with the key that the call carries by its name.
#[derive(Debug, Clone, PartialEq)]
pub struct NamedExplanation {
    /// The explanation.
    pub explanation: Explanation,
    /// The key, when it is one of the environment's.
    pub key: Option<CallKeyView>,
}

// === impl Listener ===

impl Listener {
    /// Returns the URL of its own address; whoever comes through a proxy writes another.
    pub fn url(&self) -> String {
        format!("{}://{}", if self.tls { "https" } else { "http" }, self.address)
    }
}

// === impl Explanations ===

impl Explanations {
    /// Says what the gateway of this process would answer to a call, and why.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`] for an environment that is not there and for a call that reaches no pipeline of the
    /// realm; [`ErrorKind::Invalid`] for what no call is like; [`ErrorKind::Unavailable`] without a gateway.
    pub async fn explain(&self, op: &Op, call: &CallToExplain) -> Result<NamedExplanation, Error> {
        op.demand_in(Permission::CallExplain, Place::environment(&call.environment))?;
        self.0.environment(&op.realm, &call.environment).await?;
        let gateway = self.0.gateway().ok_or_else(no_gateway)?;
        let explanation = gateway.explain(&op.realm, call).await.map_err(|error| match error {
            NotExplained::Invalid(sentence) => {
                Error::new(ErrorKind::Invalid, "call-invalid", sentence).hint("write the call as it is sent")
            }
            NotExplained::OtherRealm => {
                Error::not_found(format!("this call reaches no pipeline of realm `{}`", op.realm))
                    .hint("ask in the realm that the path names")
            }
        })?;
        let key = self.0.name_of_key(&op.realm, &call.environment, explanation.reached.key).await?;
        Ok(NamedExplanation { explanation, key })
    }

    /// Returns where the gateway of this process listens for the environments of the realm.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Forbidden`]; [`ErrorKind::Unavailable`] without a gateway.
    pub async fn listeners(&self, op: &Op) -> Result<Vec<Listener>, Error> {
        op.demand_anywhere(Permission::CallExplain)?;
        let environments = self.0.all::<Environment>(&op.realm, "").await?;
        let mut listeners = self.0.gateway().ok_or_else(no_gateway)?.listeners();
        listeners.retain(|it| {
            environments.iter().any(|stored| stored.value.name == it.environment)
                && op.may(Permission::CallExplain, Place::environment(&it.environment))
        });
        listeners.sort();
        Ok(listeners)
    }
}

// === impl App ===

impl App {
    /// Returns a key by its name and hint.
    pub(crate) async fn name_of_key(
        &self,
        realm: &RealmName,
        environment: &EnvironmentName,
        key: Option<KeyId>,
    ) -> Result<Option<CallKeyView>, Error> {
        match key {
            Some(id) => KeyNames::default().name(self, realm, environment, id).await.map(Some),
            None => Ok(None),
        }
    }
}

pub(crate) fn no_gateway() -> Error {
    Error::new(ErrorKind::Unavailable, "unavailable", "this process has no gateway that could be asked")
        .hint("ask a process of this server that answers calls, too")
}
