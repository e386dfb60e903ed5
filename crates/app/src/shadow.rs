//! Shadow policies: a proposed change that runs alongside and refuses nothing, until somebody promotes or ends it.
//!
//! It is checked when it is set as if it were saved, and again when it is promoted: dates may have passed and
//! environments may have been made meanwhile. What it would have refused is not written down anywhere: the report judges
//! anew, by the shadow as it is and the waivers of today, what the journal says was deployed and what gateways counted
//! since it began.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use tollgate_model::deployments::{DeployAction, Deployment};
use tollgate_model::names::{EnvironmentName, PipelineName, RealmName, RuleName};
use tollgate_model::next_steps::NextStep;
use tollgate_model::objects::{Kind, keys};
use tollgate_model::pipelines::PipelineVersion;
use tollgate_model::policies::{Policies, Policy, PolicyName, ShadowPolicies};
use tollgate_model::verdicts::Violation;
use tollgate_model::versions::Version;
use tollgate_policy::Judge;
use tollgate_store::{Expect, JournalEntry, JournalFilter, Stored};

use crate::App;
use crate::access::{Op, Permission};
use crate::calls::{CallerImpact, MAX_DAYS, NotAdmitted};
use crate::change_requests::{Leave, Subject};
use crate::changes::{Draft, expect, expect_or_absent, expect_read, overtaken};
use crate::errors::{Error, ErrorKind};
use crate::policies::{PolicyChange, PolicyImpact, PolicyValues, Ruling, SavedPolicies};

/// Entries of the journal read at once.
const PAGE: u32 = 500;

/// Most deploys that are judged anew for a report, the newest.
const MAX_DEPLOYS: usize = 10_000;

/// Most deploys that a report lists one by one, the newest.
const LISTED_DEPLOYS: usize = 200;

/// Use cases of shadow policies.
pub struct Shadow(pub(crate) App);

/// What somebody read before they promote the shadow.
#[derive(Debug, Clone, Copy, Default)]
pub struct PromotionRead {
    /// The version of the policies.
    pub policy_version: Option<Version>,
    /// The revision of the shadow.
    pub revision: Option<u64>,
}

/// A promotion as it would be saved.
pub(crate) struct Promotion {
    /// What is promoted.
    pub(crate) shadow: ShadowPolicies,
    pub(crate) draft: Draft,
    pub(crate) change: PolicyChange,
}

/// Shadow policies that were set.
#[derive(Debug, Clone)]
pub struct SetShadow {
    /// The shadow now.
    pub shadow: ShadowPolicies,
    /// Its revision.
    pub revision: u64,
    /// What it means and does.
    pub impact: PolicyImpact,
}

/// What shadow policies would do, and what they would have done since they began.
#[derive(Debug, Clone)]
pub struct ShadowReport {
    /// The shadow.
    pub shadow: ShadowPolicies,
    /// The version of the policies that hold today.
    pub policy_version: Version,
    /// What it means and does.
    pub impact: PolicyImpact,
    /// The deploys that it would have refused.
    pub deploys: ShadowDeploys,
    /// The calls to running deployments that it does not admit.
    pub callers: CallerImpact,
}

/// Deploys since the shadow began, judged by it.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ShadowDeploys {
    /// How many were judged.
    pub judged: usize,
    /// How many of them it would have refused.
    pub refused: usize,
    /// How many could not be judged: their pipeline or environment is gone.
    pub unjudged: usize,
    /// Whether these are all; otherwise the newest 10,000.
    pub complete: bool,
    /// The newest 200 that it would have refused.
    pub items: Vec<ShadowDeploy>,
}

/// A deploy that the shadow would have refused.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ShadowDeploy {
    /// Its journal entry.
    pub seq: u64,
    /// When.
    pub at: Timestamp,
    /// Who.
    pub actor: String,
    /// How it came about.
    pub action: DeployAction,
    /// Where.
    pub environment: EnvironmentName,
    /// What.
    pub pipeline: PipelineName,
    /// Which version.
    pub version: Version,
    /// Why the shadow would have refused it.
    pub violations: Vec<Violation>,
}

// === impl Shadow ===

impl Shadow {
    /// Proposes values of one policy, or a custom rule, in place of what the shadow had for it; begins a shadow when none
    /// runs. An environment that is not named keeps the value that the shadow gives it, else follows today's.
    ///
    /// # Errors
    ///
    /// As when it were saved: [`ErrorKind::Invalid`] when an environment is left out or unknown, a custom rule does not
    /// fit, or a date has passed; [`ErrorKind::PreconditionFailed`] when somebody changed the shadow since `if_match`, or
    /// shadow or policies at the same moment.
    pub async fn set(
        &self,
        op: &Op,
        values: &PolicyValues,
        reason: &str,
        if_match: Option<u64>,
    ) -> Result<SetShadow, Error> {
        op.demand(Permission::PolicyUpdate)?;
        let (ruling, running) = (self.0.ruling(&op.realm).await?, self.running(&op.realm).await?);
        let today = &ruling.policies.value;
        let base = match &running {
            Some(shadow) => shadow.value.onto(today)?,
            None => today.clone(),
        };
        let policy = values.policy(&base, op.now)?;
        let mut shadow = self.shadow(op, running.as_ref());
        if values.partial {
            base.change(policy.clone())?;
            // Not the rest of `base`: promoted, it would take back what was saved for the others since.
            shadow.propose_some(policy);
        } else {
            base.replace(policy.clone())?;
            shadow.propose(policy);
        }
        self.put(op, &ruling, running, shadow, reason, if_match).await
    }

    /// Proposes to take a custom rule away.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`] when neither today's policies nor the shadow have it; [`ErrorKind::Conflict`] when the
    /// shadow would propose nothing any more; [`ErrorKind::PreconditionFailed`].
    pub async fn remove_rule(
        &self,
        op: &Op,
        rule: &RuleName,
        reason: &str,
        if_match: Option<u64>,
    ) -> Result<SetShadow, Error> {
        op.demand(Permission::PolicyUpdate)?;
        let (ruling, running) = (self.0.ruling(&op.realm).await?, self.running(&op.realm).await?);
        let name = PolicyName::Rule(rule.clone());
        let mut shadow = self.shadow(op, running.as_ref());
        let is_today = ruling.policies.value.policy(&name).is_some();
        let is_proposed = shadow.changes.iter().any(|policy| policy.name() == name);
        if !is_today && !is_proposed {
            return Err(crate::policies::no_rule(rule));
        }
        shadow.propose_without(rule.clone());
        if !is_today {
            shadow.removed_rules.retain(|removed| removed != rule);
        }
        if shadow.changes.is_empty() && shadow.removed_rules.is_empty() {
            return Err(Error::conflict(
                "shadow-empty",
                "without this rule the shadow would propose nothing",
            )
            .hint("end it")
            .next(NextStep::EndShadow));
        }
        self.put(op, &ruling, running, shadow, reason, if_match).await
    }

    /// Tells whether one runs.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Forbidden`], [`ErrorKind::Unavailable`].
    pub async fn runs(&self, op: &Op) -> Result<bool, Error> {
        op.demand(Permission::PolicyRead)?;
        Ok(self.running(&op.realm).await?.is_some())
    }

    /// Returns the shadow with what it would do, and what it would have refused since it began.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`] when none runs; [`ErrorKind::Forbidden`] also without [`Permission::UsageRead`]: the report
    /// names callers.
    pub async fn report(&self, op: &Op) -> Result<Stored<ShadowReport>, Error> {
        op.demand(Permission::PolicyRead)?;
        op.demand(Permission::UsageRead)?;
        let (ruling, Stored { value: shadow, revision }) = self.ruling_and_shadow(op).await?;
        let proposed = shadow.onto(&ruling.policies.value)?;
        let judge = Judge::new(&proposed, &ruling.waivers, op.now);
        let deploys = self.deploys(op, &judge).await?;
        let impact = self.0.policy_impact(op, &ruling, proposed).await?;
        let mut refused: Vec<NotAdmitted<'_>> = Vec::new();
        for impact in &impact.environments {
            let items = impact.falls_out.iter().chain(&impact.stays_out);
            refused.extend(items.map(|item| NotAdmitted::new(&impact.environment, item)));
        }
        refused.sort_by_cached_key(|it| keys::deployment(it.environment, it.pipeline, it.version.major));
        // Older calls are not kept.
        let since = shadow.created_at.max(op.now - SignedDuration::from_hours(24 * i64::from(MAX_DAYS)));
        let callers = self.0.calls().of_deployments(op, refused, since).await?;
        let policy_version = ruling.policies.value.version();
        Ok(Stored { value: ShadowReport { shadow, policy_version, impact, deploys, callers }, revision })
    }

    /// Makes the shadow the next version of the policies, and ends it.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`] when none runs; [`ErrorKind::Conflict`] with code `four-eyes` where the realm wants a second
    /// person; [`ErrorKind::Invalid`] when it can't be saved any more;
    /// [`ErrorKind::PreconditionFailed`] when somebody changed the shadow since `if_match`, the policies since
    /// `policy_version`, or either at the same moment.
    pub async fn promote(
        &self,
        op: &Op,
        reason: &str,
        policy_version: Option<Version>,
        if_match: Option<u64>,
    ) -> Result<SavedPolicies, Error> {
        op.demand(Permission::PolicyUpdate)?;
        let read = PromotionRead { policy_version, revision: if_match };
        let mut attempts = self.0.attempts();
        while attempts.next().await {
            let leave = self.0.leave(op, Subject::Policies).await?;
            let Promotion { draft, change, .. } = self.promotion(op, reason, read, &leave).await?;
            if let Some(saved) = self.0.policies().save(op, draft, change).await? {
                return Ok(saved);
            }
        }
        Err(overtaken())
    }

    /// Returns a promotion as it would be saved.
    pub(crate) async fn promotion(
        &self,
        op: &Op,
        reason: &str,
        read: PromotionRead,
        leave: &Leave,
    ) -> Result<Promotion, Error> {
        let (ruling, shadow) = self.ruling_and_shadow(op).await?;
        let today = &ruling.policies.value;
        let PromotionRead { policy_version, revision } = read;
        if policy_version.is_some_and(|version| version != today.version()) {
            let message = format!("the policies are at version {} by now", today.version());
            return Err(Error::new(ErrorKind::PreconditionFailed, "precondition-failed", message)
                .hint("read what the shadow would do now")
                .next(NextStep::SeeShadow));
        }
        let proposed = promoted(&shadow.value, today, op.now)?;
        let reason = if reason.is_empty() { &shadow.value.reason } else { reason };
        let mut draft = Draft::new(op, "shadow.promote").reason(reason).with(leave);
        let expected = Expect::Revision(ruling.policies.revision);
        self.0.policies().put(op, &mut draft, &proposed, reason, expected, leave)?;
        draft.delete::<ShadowPolicies>(keys::SHADOW_POLICIES, expect_read(&shadow, revision)?);
        Ok(Promotion { shadow: shadow.value, draft, change: PolicyChange { ruling, proposed } })
    }

    /// Ends the shadow; nothing of it is saved.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`] when none runs; [`ErrorKind::PreconditionFailed`].
    pub async fn end(&self, op: &Op, if_match: Option<u64>) -> Result<(), Error> {
        op.demand(Permission::PolicyUpdate)?;
        let (_, shadow) = self.ruling_and_shadow(op).await?;
        let mut draft = Draft::new(op, "shadow.end");
        draft.delete::<ShadowPolicies>(keys::SHADOW_POLICIES, expect(&shadow, if_match));
        self.0.commit(op, draft).await?;
        Ok(())
    }

    async fn running(&self, realm: &RealmName) -> Result<Option<Stored<ShadowPolicies>>, Error> {
        Ok(self.0.store().get::<ShadowPolicies>(realm, keys::SHADOW_POLICIES).await?)
    }

    async fn ruling_and_shadow(&self, op: &Op) -> Result<(Ruling, Stored<ShadowPolicies>), Error> {
        let ruling = self.0.ruling(&op.realm).await?;
        let shadow = self.running(&op.realm).await?.ok_or_else(|| {
            Error::not_found(format!("no shadow policies run in realm `{}`", op.realm))
                .hint("set some")
                .next(NextStep::SetShadow)
        })?;
        Ok((ruling, shadow))
    }

    /// Returns the shadow that runs, or one that begins now.
    fn shadow(&self, op: &Op, running: Option<&Stored<ShadowPolicies>>) -> ShadowPolicies {
        running.map(|shadow| shadow.value.clone()).unwrap_or_else(|| ShadowPolicies {
            changes: Vec::new(),
            removed_rules: Vec::new(),
            created_at: op.now,
            created_by: op.actor.name.clone(),
            reason: String::new(),
        })
    }

    async fn put(
        &self,
        op: &Op,
        ruling: &Ruling,
        running: Option<Stored<ShadowPolicies>>,
        mut shadow: ShadowPolicies,
        reason: &str,
        if_match: Option<u64>,
    ) -> Result<SetShadow, Error> {
        if !reason.is_empty() {
            reason.clone_into(&mut shadow.reason);
        }
        let impact = self.0.policy_impact(op, ruling, shadow.onto(&ruling.policies.value)?).await?;
        let mut draft = Draft::new(op, "shadow.set").reason(reason);
        // It was checked against these.
        draft.guard(Kind::Policies, keys::POLICIES, Expect::Revision(ruling.policies.revision));
        draft.put(&shadow, expect_or_absent(running.as_ref(), if_match))?;
        let revision = self.0.commit(op, draft).await?;
        Ok(SetShadow { shadow, revision, impact })
    }

    /// Judges the deploys since the shadow began.
    async fn deploys(&self, op: &Op, judge: &Judge<'_>) -> Result<ShadowDeploys, Error> {
        let mut deploys =
            ShadowDeploys { judged: 0, refused: 0, unjudged: 0, complete: true, items: Vec::new() };
        let mut filter = JournalFilter {
            kind: Some(Kind::Deployment),
            after: self.beginning(&op.realm).await?,
            limit: PAGE,
            newest_first: true,
            ..JournalFilter::default()
        };
        let mut known = BTreeMap::new();
        loop {
            let entries = self.0.store().journal(&op.realm, &filter).await?;
            for entry in &entries {
                for deployment in deployments_of(entry)? {
                    if deploys.judged + deploys.unjudged == MAX_DEPLOYS {
                        deploys.complete = false;
                        return Ok(deploys);
                    }
                    self.judge_deploy(op, judge, entry, deployment, &mut known, &mut deploys).await?;
                }
            }
            match entries.last().filter(|_| entries.len() == PAGE as usize) {
                Some(last) => filter.before = Some(last.seq),
                None => return Ok(deploys),
            }
        }
    }

    async fn judge_deploy(
        &self,
        op: &Op,
        judge: &Judge<'_>,
        entry: &JournalEntry,
        deployment: Deployment,
        known: &mut BTreeMap<String, Option<Stored<PipelineVersion>>>,
        deploys: &mut ShadowDeploys,
    ) -> Result<(), Error> {
        let Deployment { pipeline, version, environment, action, .. } = deployment;
        let key = keys::pipeline_version(&pipeline, version);
        if !known.contains_key(&key) {
            known.insert(key.clone(), self.0.store().get::<PipelineVersion>(&op.realm, &key).await?);
        }
        // A pipeline that was deleted and made again since is not what was deployed.
        let saved = known.get(&key).and_then(Option::as_ref).filter(|saved| saved.revision < entry.seq);
        let Some(Ok(verdict)) = saved.map(|saved| judge.verdict(&saved.value.pipeline, &environment)) else {
            deploys.unjudged += 1;
            return Ok(());
        };
        deploys.judged += 1;
        if verdict.conforms() {
            return Ok(());
        }
        deploys.refused += 1;
        if deploys.items.len() < LISTED_DEPLOYS {
            deploys.items.push(ShadowDeploy {
                seq: entry.seq,
                at: entry.at,
                actor: entry.actor.clone(),
                action,
                environment,
                pipeline,
                version,
                violations: verdict.violations,
            });
        }
        Ok(())
    }

    /// Returns the number of the entry that began the shadow. By numbers, not times: the clocks of several processes
    /// differ.
    async fn beginning(&self, realm: &RealmName) -> Result<Option<u64>, Error> {
        let mut filter = JournalFilter {
            kind: Some(Kind::ShadowPolicies),
            key: Some(keys::SHADOW_POLICIES.to_owned()),
            limit: PAGE,
            newest_first: true,
            ..JournalFilter::default()
        };
        let mut beginning = None;
        loop {
            let entries = self.0.store().journal(realm, &filter).await?;
            for entry in &entries {
                let written = entry.mutations.iter().find(|mutation| mutation.kind == Kind::ShadowPolicies);
                if written.is_none_or(|mutation| mutation.body.is_none()) {
                    return Ok(beginning);
                }
                beginning = Some(entry.seq);
            }
            match entries.last().filter(|_| entries.len() == PAGE as usize) {
                Some(last) => filter.before = Some(last.seq),
                None => return Ok(beginning),
            }
        }
    }
}

// === impl App ===

impl App {
    /// Says what the shadow would have refused of a deployment that was placed; `None` when it admits it or none runs.
    ///
    /// The deployment is in place already: a shadow that can't be read or judged by refuses nothing either.
    pub(crate) async fn shadow_reminder(
        &self,
        op: &Op,
        version: &PipelineVersion,
        environment: &EnvironmentName,
    ) -> Option<String> {
        match self.shadow_violations(op, version, environment).await {
            Ok((since, violations)) if !violations.is_empty() => {
                let reasons: Vec<_> = violations.iter().map(ToString::to_string).collect();
                Some(format!(
                    "the shadow policies, which run since {since}, would refuse this: {}",
                    reasons.join("; ")
                ))
            }
            Ok(_) => None,
            Err(error) => {
                tracing::warn!(%error, "the shadow policies did not judge a deployment");
                None
            }
        }
    }

    async fn shadow_violations(
        &self,
        op: &Op,
        version: &PipelineVersion,
        environment: &EnvironmentName,
    ) -> Result<(Timestamp, Vec<Violation>), Error> {
        let shadow = self.store().get::<ShadowPolicies>(&op.realm, keys::SHADOW_POLICIES).await?;
        let Some(Stored { value: shadow, .. }) = shadow else { return Ok((op.now, Vec::new())) };
        let ruling = self.ruling(&op.realm).await?;
        let proposed = shadow.onto(&ruling.policies.value)?;
        let verdict =
            Judge::new(&proposed, &ruling.waivers, op.now).verdict(&version.pipeline, environment)?;
        Ok((shadow.created_at, verdict.violations))
    }
}

/// Returns the policies that a shadow becomes, checked as if each had been set now.
fn promoted(shadow: &ShadowPolicies, today: &Policies, now: Timestamp) -> Result<Policies, Error> {
    let proposed = shadow.onto(today)?;
    let mut checked = ShadowPolicies { changes: Vec::new(), ..shadow.clone() };
    for policy in &shadow.changes {
        // With a value for every environment that there is today.
        let policy = proposed.policy(&policy.name()).unwrap_or(policy);
        checked.propose(values_of(policy).policy(today, now)?);
    }
    Ok(checked.onto(today)?)
}

/// Returns a policy as the values that somebody would set.
fn values_of(policy: &Policy) -> PolicyValues {
    let rule = match policy {
        Policy::Rule(rule) => Some(rule),
        _ => None,
    };
    PolicyValues {
        policy: policy.name(),
        environments: policy
            .environments()
            .filter_map(|name| Some((name.clone(), policy.value(name)?)))
            .collect(),
        partial: false,
        condition: rule.map(|rule| rule.condition.clone()),
        message: rule.map(|rule| rule.message.clone()),
        fix: rule.and_then(|rule| rule.fix.clone()),
    }
}

/// Returns what an entry deployed.
fn deployments_of(entry: &JournalEntry) -> Result<Vec<Deployment>, Error> {
    let written = entry.mutations.iter().filter(|mutation| mutation.kind == Kind::Deployment);
    written
        .filter_map(|mutation| mutation.body.as_deref())
        .map(|body| serde_json::from_str(body).map_err(Error::internal))
        .collect()
}
