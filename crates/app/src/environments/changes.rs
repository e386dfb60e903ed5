//! Environments made and deleted: with all that belongs to one, or not at all.
//!
//! A new environment comes with its listeners, a key that signs, and a value for every policy. A deleted one takes its
//! consumers, credentials, values and keys along: what stayed behind would work again in the next environment of its
//! name. So the commit guards that nothing was put there since what is there was listed, and whoever puts something
//! there guards that the environment exists.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde_json::Value;
use tollgate_model::certificates::Certificate;
use tollgate_model::consumers::{ApiKey, BasicAuth, Consumer};
use tollgate_model::deployments::{Deployment, RouteClaim};
use tollgate_model::environments::{Environment, Exposure};
use tollgate_model::issuers::Issuer;
use tollgate_model::keysets::{Algorithm, SigningKey, TokenRevocation};
use tollgate_model::names::{EnvironmentName, RealmName};
use tollgate_model::next_steps::NextStep;
use tollgate_model::objects::{Kind, Object, keys};
use tollgate_model::policies::{AccessPolicy, AccessRequirement, PolicyName, ShadowPolicies};
use tollgate_model::values::{Account, Global};
use tollgate_model::waivers::Waiver;
use tollgate_store::{Expect, Stored};

use super::{EnvironmentView, Environments, view};
use crate::App;
use crate::access::{Op, Permission};
use crate::change_requests::{Leave, Subject};
use crate::changes::{Draft, expect_read, overtaken};
use crate::errors::{Error, ErrorKind};
use crate::policies::PolicyChange;

/// How many deployments an error names.
const NAMED: usize = 5;
/// The names under which `tollgate up --listen` knows what is no environment.
const RESERVED: [&str; 2] = ["console", "metrics"];

/// An environment to make.
#[derive(Debug, Clone)]
pub struct NewEnvironment {
    /// Its name.
    pub name: EnvironmentName,
    /// The value of each access policy there. The other policies begin strict.
    pub policies: BTreeMap<PolicyName, Value>,
    /// Where it listens: `IP:PORT`, at least one.
    pub listeners: BTreeMap<Exposure, String>,
    /// Why, for the policy version and the journal.
    pub reason: String,
}

/// An environment to make, as it was read.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct WantedEnvironment {
    pub(crate) name: EnvironmentName,
    pub(crate) access: BTreeMap<AccessPolicy, AccessRequirement>,
    pub(crate) listeners: BTreeMap<Exposure, SocketAddr>,
}

// === impl Environments ===

impl Environments {
    /// Makes an environment with all that belongs to one, in one transaction; its policies are the next policy version.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Invalid`] when an access policy has no value, or an address is none; [`ErrorKind::Conflict`] when the
    /// name or an address is taken, or the realm wants a second person (`four-eyes`).
    pub async fn create(&self, op: &Op, input: NewEnvironment) -> Result<Stored<EnvironmentView>, Error> {
        op.demand(Permission::EnvironmentCreate)?;
        let wanted = WantedEnvironment::read(&input)?;
        let mut attempts = self.0.attempts();
        while attempts.next().await {
            let leave = self.0.leave(op, Subject::Policies).await?;
            let (environment, draft, change) = self.creation(op, &wanted, &input.reason, &leave).await?;
            if let Some(revision) = self.0.commit_decided(op, draft).await? {
                return Ok(Stored { value: view(&change.proposed, environment), revision });
            }
        }
        Err(overtaken())
    }

    /// Returns an environment as it would be made, once everything about it was checked.
    pub(crate) async fn creation(
        &self,
        op: &Op,
        wanted: &WantedEnvironment,
        reason: &str,
        leave: &Leave,
    ) -> Result<(Environment, Draft, PolicyChange), Error> {
        let WantedEnvironment { name, access, listeners } = wanted;
        let environment =
            Environment { name: name.clone(), created_at: op.now, listeners: listeners.clone() };
        let reason =
            if reason.is_empty() { format!("environment `{name}` was made") } else { reason.to_owned() };
        let ruling = self.0.ruling(&op.realm).await?;
        let proposed = ruling.policies.value.with_environment(name, access)?;
        self.refuse_taken(&op.realm, &environment).await?;
        let mut draft = Draft::new(op, "environment.create").reason(&reason).with(leave);
        // Nothing may be left here of one that had this name, and there can't be; if there were, it would work again.
        self.take_along(&op.realm, name, &mut draft).await?;
        self.0.cut_grants(&op.realm, name, &mut draft).await?;
        draft.put(&environment, Expect::Absent)?;
        let key = self.0.make_signing_key(&op.realm, name, Algorithm::Es256, op.now).await?;
        draft.put(&key, Expect::Absent)?;
        // Of two who choose one address the second finds other policies.
        let expected = Expect::Revision(ruling.policies.revision);
        self.0.policies().put(op, &mut draft, &proposed, &reason, expected, leave)?;
        Ok((environment, draft, PolicyChange { ruling, proposed }))
    }

    /// Deletes an environment where nothing is deployed, with all that belongs to it, in one transaction.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`]; [`ErrorKind::Conflict`] when something is deployed there, for `test` and `prod`, and where
    /// the realm wants a second person (`four-eyes`);
    /// [`ErrorKind::PreconditionFailed`] when it was changed since `if_match`.
    pub async fn delete(
        &self,
        op: &Op,
        name: &EnvironmentName,
        if_match: Option<u64>,
        reason: &str,
    ) -> Result<(), Error> {
        op.demand(Permission::EnvironmentDelete)?;
        let mut attempts = self.0.attempts();
        while attempts.next().await {
            let leave = self.0.leave(op, Subject::Policies).await?;
            let (draft, _) = self.deletion(op, name, if_match, reason, &leave).await?;
            if self.0.commit_decided(op, draft).await?.is_some() {
                return Ok(());
            }
        }
        Err(overtaken())
    }

    /// Returns a deletion as it would be made, once everything about it was checked.
    pub(crate) async fn deletion(
        &self,
        op: &Op,
        name: &EnvironmentName,
        if_match: Option<u64>,
        reason: &str,
        leave: &Leave,
    ) -> Result<(Draft, PolicyChange), Error> {
        if [EnvironmentName::test(), EnvironmentName::prod()].contains(name) {
            return Err(Error::conflict("environment-in-use", format!("environment `{name}` always exists"))
                .hint("only environments that somebody made can be deleted"));
        }
        let reason =
            if reason.is_empty() { format!("environment `{name}` was deleted") } else { reason.to_owned() };
        let listed_at = self.0.store().head().await?;
        let stored = self.stored(&op.realm, name).await?;
        let expected = expect_read(&stored, if_match)?;
        self.refuse_deployed(&op.realm, name).await?;
        let ruling = self.0.ruling(&op.realm).await?;
        let proposed = ruling.policies.value.without_environment(name)?;
        let mut draft = Draft::new(op, "environment.delete").reason(&reason).with(leave);
        let within = format!("{name}/");
        draft.guard(Kind::Deployment, &within, Expect::NothingSince(listed_at));
        for kind in self.take_along(&op.realm, name, &mut draft).await? {
            draft.guard(kind, &within, Expect::NothingSince(listed_at));
        }
        draft.delete::<Environment>(keys::environment(name), expected);
        self.forget_in_shadow(&op.realm, name, &mut draft).await?;
        self.0.cut_grants(&op.realm, name, &mut draft).await?;
        let expected = Expect::Revision(ruling.policies.revision);
        self.0.policies().put(op, &mut draft, &proposed, &reason, expected, leave)?;
        Ok((draft, PolicyChange { ruling, proposed }))
    }

    pub(super) async fn stored(
        &self,
        realm: &RealmName,
        name: &EnvironmentName,
    ) -> Result<Stored<Environment>, Error> {
        match self.0.store().get::<Environment>(realm, &keys::environment(name)).await? {
            Some(stored) => Ok(stored),
            // Says which there are.
            None => Err(self.0.environment(realm, name).await.err().unwrap_or_else(overtaken)),
        }
    }

    /// Refuses to take away what runs.
    async fn refuse_deployed(&self, realm: &RealmName, name: &EnvironmentName) -> Result<(), Error> {
        let deployed = self.0.all::<Deployment>(realm, &format!("{name}/")).await?;
        if deployed.is_empty() {
            return Ok(());
        }
        let shown = |it: &Stored<Deployment>| format!("`{}` v{}", it.value.pipeline, it.value.version.major);
        let mut names: Vec<_> = deployed.iter().take(NAMED).map(shown).collect();
        if deployed.len() > NAMED {
            names.push(format!("{} more", deployed.len() - NAMED));
        }
        Err(Error::conflict(
            "environment-in-use",
            format!(
                "environment `{name}` is in use: {} deployed there",
                are(&names.join(", "), deployed.len())
            ),
        )
        .hint("delete it when nothing runs there any more; stop what runs")
        .next(NextStep::Undeploy { environment: name.clone() }))
    }

    /// Refuses an address that another environment of the realm has.
    async fn refuse_taken(&self, realm: &RealmName, new: &Environment) -> Result<(), Error> {
        for other in self.0.all::<Environment>(realm, "").await? {
            for (exposure, held) in &other.value.listeners {
                if let Some(address) = new.listeners.values().find(|address| overlap(**address, *held)) {
                    let (name, exposure) = (&other.value.name, exposure.as_str());
                    return Err(address_taken(
                        *address,
                        &format!("the {exposure} listener of environment `{name}`, which is at {held}"),
                    ));
                }
            }
        }
        Ok(())
    }

    /// Takes what a shadow proposes for an environment out of it; ends the shadow when it proposes nothing else.
    async fn forget_in_shadow(
        &self,
        realm: &RealmName,
        name: &EnvironmentName,
        draft: &mut Draft,
    ) -> Result<(), Error> {
        let key = keys::SHADOW_POLICIES;
        let Some(mut shadow) = self.0.store().get::<ShadowPolicies>(realm, key).await? else {
            draft.guard(Kind::ShadowPolicies, key, Expect::Absent);
            return Ok(());
        };
        let expected = Expect::Revision(shadow.revision);
        if shadow.value.forget(name) {
            return draft.put(&shadow.value, expected);
        }
        draft.delete::<ShadowPolicies>(key, expected);
        Ok(())
    }

    /// Deletes all that lives in an environment; returns the kinds that do.
    async fn take_along(
        &self,
        realm: &RealmName,
        name: &EnvironmentName,
        draft: &mut Draft,
    ) -> Result<[Kind; 11], Error> {
        Ok([
            take_along::<Consumer>(&self.0, realm, name, draft).await?,
            take_along::<ApiKey>(&self.0, realm, name, draft).await?,
            take_along::<BasicAuth>(&self.0, realm, name, draft).await?,
            take_along::<Certificate>(&self.0, realm, name, draft).await?,
            take_along::<Global>(&self.0, realm, name, draft).await?,
            take_along::<Issuer>(&self.0, realm, name, draft).await?,
            take_along::<Account>(&self.0, realm, name, draft).await?,
            take_along::<SigningKey>(&self.0, realm, name, draft).await?,
            take_along::<TokenRevocation>(&self.0, realm, name, draft).await?,
            take_along::<Waiver>(&self.0, realm, name, draft).await?,
            take_along::<RouteClaim>(&self.0, realm, name, draft).await?,
        ])
    }
}

// === impl WantedEnvironment ===

impl WantedEnvironment {
    /// Reads what was given.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Invalid`] when an access policy has no value, or an address is none.
    pub(crate) fn read(input: &NewEnvironment) -> Result<Self, Error> {
        let NewEnvironment { name, policies, listeners, .. } = input;
        if RESERVED.contains(&name.as_str()) {
            return Err(Error::invalid(format!(
                "an environment cannot be called `{name}`: listeners are named after it"
            ))
            .hint("choose another name"));
        }
        let (access, listeners) = (access_values(name, policies)?, parse_listeners(listeners.clone())?);
        Ok(Self { name: name.clone(), access, listeners })
    }
}

async fn take_along<T: Object>(
    app: &App,
    realm: &RealmName,
    environment: &EnvironmentName,
    draft: &mut Draft,
) -> Result<Kind, Error> {
    for stored in app.all::<T>(realm, &format!("{environment}/")).await? {
        draft.delete::<T>(stored.value.key(), Expect::Exists);
    }
    Ok(T::KIND)
}

/// Reads the values of the access policies; each must have one, and no other policy is taken here.
fn access_values(
    environment: &EnvironmentName,
    policies: &BTreeMap<PolicyName, Value>,
) -> Result<BTreeMap<AccessPolicy, AccessRequirement>, Error> {
    let mut access = BTreeMap::new();
    for (policy, value) in policies {
        let PolicyName::Access(name) = policy else {
            return Err(Error::invalid(format!(
                "policy `{policy}` cannot be given for a new environment: it begins strict there"
            ))
            .hint("make the environment, then set the policy there")
            .next(NextStep::SetPolicy { policy: policy.to_string(), environment: environment.clone() }));
        };
        let requirement = serde_json::from_value(value.clone()).map_err(|_| {
            Error::invalid(format!("{value} is no value of policy `{policy}`"))
                .hint("use one of `api-key`, `jwt-with-api-key`, `any`")
        })?;
        access.insert(*name, requirement);
    }
    let missing = AccessPolicy::ALL.into_iter().filter(|policy| !access.contains_key(policy));
    let missing: Vec<_> = missing.map(PolicyName::Access).collect();
    let Some(first) = missing.first() else { return Ok(access) };
    let names: Vec<_> = missing.iter().map(|policy| format!("`{policy}`")).collect();
    Err(Error::new(
        ErrorKind::Invalid,
        "policy-environment-missing",
        format!("environment `{environment}` would have no value for {}", names.join(" and ")),
    )
    .hint(format!("give each, for example --policy {first}=api-key")))
}

fn parse_listeners(given: BTreeMap<Exposure, String>) -> Result<BTreeMap<Exposure, SocketAddr>, Error> {
    let mut listeners: BTreeMap<Exposure, SocketAddr> = BTreeMap::new();
    for (exposure, text) in given {
        let address: SocketAddr = text.parse().map_err(|_| {
            Error::invalid(format!("`{text}` is no address of a listener"))
                .hint("write IP:PORT, for example 127.0.0.1:7003")
        })?;
        if address.port() == 0 {
            return Err(Error::invalid(format!("the {} listener has port 0", exposure.as_str()))
                .hint("name the port: callers must find it again after a restart"));
        }
        if listeners.values().any(|held| overlap(*held, address)) {
            return Err(address_taken(address, "the environment's other listener"));
        }
        listeners.insert(exposure, address);
    }
    if listeners.is_empty() {
        return Err(Error::invalid("an environment needs a listener, or nobody can call what runs there")
            .hint("give an address, for example --listen 127.0.0.1:7003"));
    }
    Ok(listeners)
}

/// Tells whether no process can listen on both addresses.
fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    let any = |address: SocketAddr| address.ip().is_unspecified();
    one.port() == other.port() && (one.ip() == other.ip() || any(one) || any(other))
}

fn address_taken(address: SocketAddr, holder: &str) -> Error {
    Error::conflict("address-taken", format!("address {address} is taken by {holder}"))
        .hint("choose another port")
}

fn are(names: &str, count: usize) -> String {
    format!("{names} {}", if count == 1 { "is" } else { "are" })
}
