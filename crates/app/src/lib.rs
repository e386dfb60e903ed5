//! Use cases, shared by the management API and the console: authorise, decide, change and journal in one transaction.
//!
//! Every use case takes an [`access::Op`] and first demands a permission. What it changes, it changes with one
//! [`tollgate_store::Change`], whose guards name what the decision was based on: a policy that is tightened while a
//! deployment is being decided makes the commit fail, and the decision is made again.

pub mod access;
pub mod accounts;
pub mod attestations;
pub mod basic_auth;
pub mod calls;
pub mod certificates;
pub mod change_requests;
pub mod conformance;
pub mod consumers;
pub mod dependents;
pub mod deployments;
pub mod environments;
pub mod errors;
pub mod evidence;
pub mod explanations;
pub mod follower;
pub mod gateways;
pub mod globals;
pub mod groups;
pub mod idempotency;
pub mod issuers;
pub mod journal;
pub mod keys;
pub mod lists;
pub mod pipelines;
pub mod policies;
pub mod reach;
pub mod realms;
pub mod recent_calls;
pub mod refusals;
pub mod refused_calls;
pub mod roles;
pub mod schedule;
pub mod search;
pub mod shadow;
pub mod signing_keys;
pub mod traffic;
pub mod trials;
pub mod usage;
pub mod users;
pub mod waivers;

mod callers;
mod changes;
mod credentials;
mod directory;
mod judging;
mod past;
mod places;
mod realm_settings;
mod standings;

// What use cases take and give, so that API and console need no crate below this one.
pub use tollgate_credential::passwords::Password;
pub use tollgate_policy::{
    Conformance, ConformanceItem, Effect, EnvironmentMeaning, Impact, PolicyDiff, ScopeGap, Standing,
};
pub use tollgate_store::{
    About, CallBatch, JournalEntry, JournalFilter, Outcome, Refusal, Stored, TrafficBatch,
};

use std::sync::{Arc, OnceLock};

use tokio::sync::{Mutex, Semaphore};
use tollgate_credential::seal::MasterKey;
use tollgate_model::ids::RequestId;
use tollgate_model::names::RealmName;
use tollgate_model::sources::{Clock, Random, RandomError};
use tollgate_store::Store;

/// How many passwords are hashed at once: each takes 19 MiB and a core for about 20 ms.
const PASSWORDS_AT_ONCE: usize = 4;

/// The use cases over a store, which may be one of the past ([`App::as_of`]); cheap to clone.
#[derive(Clone)]
pub struct App(Arc<Parts>, Store);

struct Parts {
    master: Arc<MasterKey>,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    passwords: Arc<Semaphore>,
    sign_ins: users::SignIns,
    /// Refused attempts that are not in the journal yet.
    refusals: refusals::Waiting,
    checkpoints: evidence::KeptCheckpoints,
    /// How what runs stood when it was last asked.
    standings: standings::Kept,
    /// Traffic that took long to add up.
    traffic: traffic::Kept,
    /// Held by one of the decisions that were overtaken.
    turns: Mutex<()>,
    /// Absent where there is none, as in tests.
    gateway: OnceLock<Arc<dyn explanations::ThisGateway>>,
}

macro_rules! resources {
    ($($(#[$doc:meta])* $name:ident: $resource:path,)*) => {
        impl App {
            $($(#[$doc])*
            pub fn $name(&self) -> $resource {
                $resource(self.clone())
            })*
        }
    };
}

resources! {
    /// Returns the use cases of accounts.
    accounts: accounts::Accounts,
    /// Returns the attestations of deployments.
    attestations: attestations::Attestations,
    /// Returns the use cases of Basic Auth credentials.
    basic_auth: basic_auth::BasicAuths,
    /// Returns the use cases of calls.
    calls: calls::Calls,
    /// Returns the use cases of client certificates.
    certificates: certificates::Certificates,
    /// Returns the use cases of change requests.
    change_requests: change_requests::ChangeRequests,
    /// Returns the use cases of conformance.
    conformance: conformance::ConformanceReports,
    /// Returns the use cases of consumers.
    consumers: consumers::Consumers,
    /// Returns the use cases of deployments.
    deployments: deployments::Deployments,
    /// Returns the use cases of environments.
    environments: environments::Environments,
    /// Returns the keys that sign evidence, and what proves that the journal is whole.
    evidence: evidence::Evidence,
    /// Returns the use cases of explanations.
    explanations: explanations::Explanations,
    /// Returns the record of gateways.
    gateways: gateways::Gateways,
    /// Returns the use cases of globals.
    globals: globals::Globals,
    /// Returns the use cases of groups.
    groups: groups::Groups,
    /// Returns the answers kept for repeated requests.
    idempotency: idempotency::Answers,
    /// Returns the use cases of issuers outside.
    issuers: issuers::Issuers,
    /// Returns the use cases of the journal.
    journal: journal::Journal,
    /// Returns the use cases of API keys.
    keys: keys::Keys,
    /// Returns the use cases of pipelines.
    pipelines: pipelines::Pipelines,
    /// Returns the use cases of policies.
    policies: policies::PolicyUseCases,
    /// Returns the questions about who can call what.
    reach: reach::Reach,
    /// Returns the use cases of realms.
    realms: realms::Realms,
    /// Returns the use cases of recent calls.
    recent_calls: recent_calls::RecentCalls,
    /// Returns the record of refused attempts.
    refusals: refusals::Refusals,
    /// Returns the use cases of refused calls.
    refused_calls: refused_calls::RefusedCalls,
    /// Returns the use cases of roles.
    roles: roles::RoleUseCases,
    /// Returns the runs of scheduled pipelines.
    schedule: schedule::Schedule,
    /// Returns the search over pipelines and consumers.
    search: search::Search,
    /// Returns the use cases of shadow policies.
    shadow: shadow::Shadow,
    /// Returns the use cases of signing keys and token revocations.
    signing_keys: signing_keys::SigningKeys,
    /// Returns the use cases of traffic.
    traffic: traffic::Traffic,
    /// Returns the trials of flows.
    trials: trials::Trials,
    /// Returns the record of when keys were last used.
    usage: usage::CredentialUsage,
    /// Returns the use cases of users, sign-in and their API tokens.
    users: users::Users,
    /// Returns the use cases of waivers.
    waivers: waivers::Waivers,
}

// === impl App ===

impl App {
    /// Puts the use cases over a store.
    pub fn new(store: Store, master: Arc<MasterKey>, clock: Arc<dyn Clock>, random: Arc<dyn Random>) -> Self {
        let parts = Parts {
            master,
            clock,
            random,
            passwords: Arc::new(Semaphore::new(PASSWORDS_AT_ONCE)),
            sign_ins: users::SignIns::default(),
            refusals: refusals::Waiting::default(),
            checkpoints: evidence::KeptCheckpoints::default(),
            standings: standings::Kept::default(),
            traffic: traffic::Kept::default(),
            turns: Mutex::new(()),
            gateway: OnceLock::new(),
        };
        Self(Arc::new(parts), store)
    }

    /// Returns the operation in whose name the process acts by itself, in realm `default`.
    ///
    /// # Errors
    ///
    /// [`errors::ErrorKind::Unavailable`] when the system gives no randomness.
    pub fn system_op(&self) -> Result<access::Op, errors::Error> {
        let now = self.0.clock.now();
        Ok(access::Op {
            actor: access::Actor::system(),
            source: "system".to_owned(),
            request_id: RequestId::new(now, self.id_bytes()?),
            now,
            realm: RealmName::default(),
        })
    }

    /// Tells which gateway is of this process; only the first one counts.
    pub fn set_gateway(&self, gateway: Arc<dyn explanations::ThisGateway>) {
        // A process has one.
        let _ = self.0.gateway.set(gateway);
    }

    /// Returns the gateway of this process.
    pub(crate) fn gateway(&self) -> Option<&dyn explanations::ThisGateway> {
        self.0.gateway.get().map(AsRef::as_ref)
    }

    fn store(&self) -> &Store {
        &self.1
    }

    fn random(&self) -> &dyn Random {
        self.0.random.as_ref()
    }

    /// Returns the random part of a new id.
    fn id_bytes(&self) -> Result<[u8; 10], RandomError> {
        let mut bytes = [0; 10];
        self.random().fill(&mut bytes)?;
        Ok(bytes)
    }
}
