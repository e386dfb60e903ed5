//! Policies: read, compare, change. Every change is a new version of all of them together.

mod edits;
mod trial;
mod versions;

use jiff::Timestamp;
use tollgate_model::names::{EnvironmentName, RealmName, RuleName};
use tollgate_model::next_steps::NextStep;
use tollgate_model::objects::keys;
use tollgate_model::policies::{Policies, PolicyVersion};
use tollgate_model::versions::Version;
use tollgate_model::waivers::Waiver;
use tollgate_policy::{Impact, Judge, Meaning};
use tollgate_store::{Expect, Stored};

use crate::App;
use crate::access::{Op, Permission};
use crate::change_requests::{Leave, Subject};
use crate::changes::{Draft, expect_read, overtaken};
use crate::errors::Error;
use crate::judging;

pub use edits::{PolicyEdit, PolicyValues};
pub use trial::{RuleTrial, RuleTrialIn};
pub(crate) use versions::check_reason;

/// Use cases of policies.
pub struct PolicyUseCases(pub(crate) App);

/// What a change would mean and do, before anything is stored.
#[derive(Debug, Clone)]
pub struct PolicyImpact {
    /// The policies as they would be.
    pub proposed: Policies,
    /// What the change means, over every combination of a trigger's switches.
    pub meaning: Meaning,
    /// What it does to what runs, per environment, as far as the actor may see that.
    pub environments: Vec<Impact>,
}

/// Policies that were saved.
#[derive(Debug, Clone)]
pub struct SavedPolicies {
    /// The policies now.
    pub policies: Policies,
    /// Their revision.
    pub revision: u64,
    /// What the change means and does.
    pub impact: PolicyImpact,
}

/// Other policies, and what they would take the place of.
#[derive(Clone)]
pub(crate) struct PolicyChange {
    pub(crate) ruling: Ruling,
    pub(crate) proposed: Policies,
}

/// What a realm judges by: its policies and the waivers that let violations pass.
#[derive(Clone)]
pub(crate) struct Ruling {
    pub(crate) policies: Stored<Policies>,
    pub(crate) waivers: Vec<Waiver>,
}

// === impl PolicyUseCases ===

impl PolicyUseCases {
    /// Returns the realm's policies.
    ///
    /// # Errors
    ///
    /// [`crate::errors::ErrorKind::NotFound`] when there is no such realm.
    pub async fn get(&self, op: &Op) -> Result<Stored<Policies>, Error> {
        op.demand_anywhere(Permission::PolicyRead)?;
        self.0.current_policies(&op.realm).await
    }

    /// Returns every version, newest first.
    ///
    /// # Errors
    ///
    /// [`crate::errors::ErrorKind::Forbidden`], [`crate::errors::ErrorKind::Unavailable`].
    pub async fn versions(&self, op: &Op) -> Result<Vec<PolicyVersion>, Error> {
        op.demand_anywhere(Permission::PolicyRead)?;
        let versions = self.0.all::<PolicyVersion>(&op.realm, "").await?;
        Ok(versions.into_iter().rev().map(|stored| stored.value).collect())
    }

    /// Returns one version.
    ///
    /// # Errors
    ///
    /// [`crate::errors::ErrorKind::NotFound`].
    pub async fn version(&self, op: &Op, version: Version) -> Result<PolicyVersion, Error> {
        Ok(self.stored_version(op, version).await?.value)
    }

    async fn stored_version(&self, op: &Op, version: Version) -> Result<Stored<PolicyVersion>, Error> {
        op.demand_anywhere(Permission::PolicyRead)?;
        let stored = self.0.store().get::<PolicyVersion>(&op.realm, &keys::policy_version(version)).await?;
        stored.ok_or_else(|| {
            Error::not_found(format!("the policies have no version {version}"))
                .hint("see the versions there are")
                .next(NextStep::ListPolicyVersions)
        })
    }

    /// Tells what a change would mean and do.
    ///
    /// # Errors
    ///
    /// [`crate::errors::ErrorKind::Invalid`] when the change could not be saved.
    pub async fn impact(&self, op: &Op, edit: &PolicyEdit) -> Result<PolicyImpact, Error> {
        op.demand_anywhere(Permission::PolicyRead)?;
        let ruling = self.0.ruling(&op.realm).await?;
        let proposed = self.apply(op, edit, &ruling.policies.value).await?;
        self.0.policy_impact(op, &ruling, proposed).await
    }

    /// Saves a change as the next version. What runs goes on running.
    ///
    /// # Errors
    ///
    /// [`crate::errors::ErrorKind::Conflict`] with code `four-eyes` where the realm wants a second person;
    /// [`crate::errors::ErrorKind::Invalid`] when an environment is left out or unknown, a custom rule does not fit, or
    /// a date has passed; [`crate::errors::ErrorKind::PreconditionFailed`] when somebody changed the policies since
    /// `if_match`, or at the same moment.
    pub async fn set(
        &self,
        op: &Op,
        edit: &PolicyEdit,
        reason: &str,
        if_match: Option<u64>,
    ) -> Result<SavedPolicies, Error> {
        op.demand(Permission::PolicyUpdate)?;
        let mut attempts = self.0.attempts();
        while attempts.next().await {
            let leave = self.0.leave(op, Subject::Policies).await?;
            let (draft, change) = self.drafted(op, edit, reason, if_match, &leave).await?;
            if let Some(saved) = self.save(op, draft, change).await? {
                return Ok(saved);
            }
        }
        Err(overtaken())
    }

    /// Commits a change of the policies; `None` when it is to be decided again.
    pub(crate) async fn save(
        &self,
        op: &Op,
        draft: Draft,
        change: PolicyChange,
    ) -> Result<Option<SavedPolicies>, Error> {
        let PolicyChange { ruling, proposed } = change;
        let impact = self.0.policy_impact(op, &ruling, proposed.clone()).await?;
        let revision = self.0.commit_with_leave(op, draft).await?;
        Ok(revision.map(|revision| SavedPolicies { policies: proposed, revision, impact }))
    }

    /// Returns a change as it would be saved, once everything about it was checked.
    pub(crate) async fn drafted(
        &self,
        op: &Op,
        edit: &PolicyEdit,
        reason: &str,
        if_match: Option<u64>,
        leave: &Leave,
    ) -> Result<(Draft, PolicyChange), Error> {
        check_reason(reason)?;
        let ruling = self.0.ruling(&op.realm).await?;
        let proposed = self.apply(op, edit, &ruling.policies.value).await?;
        let mut draft = Draft::new(op, edit.action()).reason(reason).with(leave);
        self.put(op, &mut draft, &proposed, reason, expect_read(&ruling.policies, if_match)?, leave)?;
        Ok((draft, PolicyChange { ruling, proposed }))
    }

    /// Puts policies and their version into a change.
    pub(crate) fn put(
        &self,
        op: &Op,
        draft: &mut Draft,
        policies: &Policies,
        reason: &str,
        expected: Expect,
        leave: &Leave,
    ) -> Result<(), Error> {
        let version = PolicyVersion {
            policies: policies.clone(),
            created_at: op.now,
            created_by: leave.author(op),
            reason: reason.to_owned(),
            approved_by: leave.approver(),
        };
        draft.put(policies, expected)?;
        draft.put(&version, Expect::Absent)
    }

    /// Returns the policies with a change in them, once everything about it was checked.
    async fn apply(&self, op: &Op, edit: &PolicyEdit, today: &Policies) -> Result<Policies, Error> {
        match edit {
            PolicyEdit::Restore(version) => self.restored(op, *version, today).await,
            edit => edit.apply(today, op.now),
        }
    }
}

// === impl Ruling ===

impl Ruling {
    /// Returns who judges by it at a moment.
    pub(crate) fn judge(&self, now: Timestamp) -> Judge<'_> {
        Judge::new(&self.policies.value, &self.waivers, now)
    }
}

// === impl App ===

impl App {
    /// Returns the policies of a realm; a realm without policies does not exist.
    pub(crate) async fn current_policies(&self, realm: &RealmName) -> Result<Stored<Policies>, Error> {
        self.store().get::<Policies>(realm, keys::POLICIES).await?.ok_or_else(|| {
            Error::not_found(format!("there is no realm `{realm}`"))
                .hint("see the realms")
                .next(NextStep::ListRealms)
        })
    }

    /// Returns what a realm judges by.
    pub(crate) async fn ruling(&self, realm: &RealmName) -> Result<Ruling, Error> {
        let policies = self.current_policies(realm).await?;
        let waivers = self.all::<Waiver>(realm, "").await?.into_iter().map(|stored| stored.value).collect();
        Ok(Ruling { policies, waivers })
    }

    /// Tells what other policies would mean and do, with the waivers of today.
    pub(crate) async fn policy_impact(
        &self,
        op: &Op,
        ruling: &Ruling,
        proposed: Policies,
    ) -> Result<PolicyImpact, Error> {
        self.ruling_impact(op, ruling, proposed, ruling.waivers.clone()).await
    }

    /// Tells what other policies and waivers would mean and do, in the environments that there would be.
    pub(crate) async fn ruling_impact(
        &self,
        op: &Op,
        ruling: &Ruling,
        proposed: Policies,
        waivers: Vec<Waiver>,
    ) -> Result<PolicyImpact, Error> {
        // Whoever changes the policies of the whole realm sees the whole of what that does.
        let seen = [Permission::PolicyRead, Permission::PolicyUpdate];
        let shown = |name: &&EnvironmentName| {
            let is_seen = seen.iter().any(|permission| op.may_somewhere_in(*permission, name));
            is_seen && proposed.environments().any(|other| other == *name)
        };
        let names: Vec<EnvironmentName> =
            ruling.policies.value.environments().filter(shown).cloned().collect();
        let standings = self.standings(op).await?;
        // What was judged by other policies or waivers, as when they changed since the ruling was read, is judged anew.
        let is_today = standings.judged_by(ruling);
        let (ruling, op, now) = (ruling.clone(), op.clone(), op.now);
        judging::away(move || {
            let (today, tomorrow) = (ruling.judge(now), Judge::new(&proposed, &waivers, now));
            let meaning = tollgate_policy::meaning(&today, &tomorrow)?;
            let environments = judging::in_each(&names, |name| {
                let mut impact = Impact::on_nothing(&proposed, name);
                for (_, it) in standings.of(&op, &seen, name) {
                    let before = match (is_today, &it.verdict) {
                        (true, Some(verdict)) => verdict.conforms(),
                        (true, None) => continue,
                        (false, _) => today.verdict_on(&it.version, name)?.conforms(),
                    };
                    let after = tomorrow.verdict_on(&it.version, name)?;
                    let (deployment, version) = it.deployed();
                    impact.add(deployment, version, before, after);
                }
                Ok(impact)
            })?;
            Ok(PolicyImpact { proposed, meaning, environments })
        })
        .await
    }
}

/// Says that a realm has no such rule.
pub(crate) fn no_rule(rule: &RuleName) -> Error {
    Error::not_found(format!("there is no custom rule `{rule}`"))
        .hint("see the policies")
        .next(NextStep::ListPolicies)
}
