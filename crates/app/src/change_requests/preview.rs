//! What a request would do: the change put together as it would be saved, and what that means.

use tollgate_model::change_requests::{ChangeRequest, RequestedChange};
use tollgate_model::environments::RealmSettings;
use tollgate_model::objects::keys;
use tollgate_model::policies::PolicyVersion;
use tollgate_model::waivers::Waiver;
use tollgate_policy::PolicyDiff;

use super::{ChangeRequests, Leave};
use crate::access::Op;
use crate::changes::Draft;
use crate::environments::WantedEnvironment;
use crate::errors::Error;
use crate::policies::{PolicyChange, PolicyEdit, PolicyImpact, PolicyValues, Ruling};
use crate::shadow::PromotionRead;
use crate::waivers::{NewWaiver, WaiverDraft, WaiverEnd};

/// What a change would do.
#[derive(Debug, Clone)]
pub struct Preview {
    /// The newest revision of what it rests on: whoever approves it names this.
    pub base: u64,
    /// The policies before and after, when it changes them.
    pub diff: Option<PolicyDiff>,
    /// What it means and does, when it changes what is admitted.
    pub impact: Option<PolicyImpact>,
    /// The realm's settings before and after, when it changes them.
    pub settings: Option<(RealmSettings, RealmSettings)>,
}

/// A change as it would be saved.
pub(super) struct Drafted {
    pub(super) draft: Draft,
    pub(super) effect: Effect,
}

/// What a change changes.
pub(super) enum Effect {
    Policies(PolicyChange),
    Waiver { waiver: Box<Waiver>, ruling: Ruling },
    Settings { before: RealmSettings, after: RealmSettings },
}

// === impl ChangeRequests ===

impl ChangeRequests {
    /// Puts the change that was asked for together anew, on what there is today.
    pub(super) async fn drafted(
        &self,
        op: &Op,
        request: &ChangeRequest,
        leave: &Leave,
    ) -> Result<Drafted, Error> {
        let (app, reason) = (&self.0, request.reason.as_str());
        match &request.change {
            RequestedChange::PromoteShadow { shadow } => {
                let promotion = app.shadow().promotion(op, reason, PromotionRead::default(), leave).await?;
                if promotion.shadow != *shadow {
                    return Err(shadow_changed());
                }
                Ok(Drafted { draft: promotion.draft, effect: Effect::Policies(promotion.change) })
            }
            RequestedChange::CreateEnvironment { environment, policies, listeners } => {
                let wanted = WantedEnvironment {
                    name: environment.clone(),
                    access: policies.clone(),
                    listeners: listeners.clone(),
                };
                let (_, draft, change) = app.environments().creation(op, &wanted, reason, leave).await?;
                Ok(Drafted { draft, effect: Effect::Policies(change) })
            }
            RequestedChange::DeleteEnvironment { environment } => {
                let environments = app.environments();
                let (draft, change) = environments.deletion(op, environment, None, reason, leave).await?;
                Ok(Drafted { draft, effect: Effect::Policies(change) })
            }
            RequestedChange::CreateWaiver {
                pipeline,
                environment,
                policy,
                code,
                until,
                replace,
                extends,
            } => {
                let input = NewWaiver {
                    pipeline: pipeline.clone(),
                    environment: environment.clone(),
                    policy: policy.clone(),
                    code: Some(*code),
                    end: WaiverEnd::At(*until),
                    reason: reason.to_owned(),
                    replace: *replace,
                    extends: *extends,
                };
                Ok(Drafted::from(app.waivers().drafted(op, &input, leave).await?))
            }
            RequestedChange::SetRealmSettings { settings } => {
                let realm = app.realm(op).await?;
                let draft = app.realms().drafted(op, &realm, settings, None, leave)?;
                let effect = Effect::Settings { before: realm.value.settings, after: settings.clone() };
                Ok(Drafted { draft, effect })
            }
            RequestedChange::RemoveRule { rule } => {
                self.edited(op, &PolicyEdit::Remove(rule.clone()), reason, leave).await
            }
            RequestedChange::RestorePolicies { version } => {
                self.edited(op, &PolicyEdit::Restore(*version), reason, leave).await
            }
            RequestedChange::SetPolicy { policy, environments, partial, condition, message, fix } => {
                let values = PolicyValues {
                    policy: policy.clone(),
                    environments: environments.clone(),
                    partial: *partial,
                    condition: condition.clone(),
                    message: message.clone(),
                    fix: fix.clone(),
                };
                self.edited(op, &PolicyEdit::Set(values), reason, leave).await
            }
        }
    }

    async fn edited(
        &self,
        op: &Op,
        edit: &PolicyEdit,
        reason: &str,
        leave: &Leave,
    ) -> Result<Drafted, Error> {
        let (draft, change) = self.0.policies().drafted(op, edit, reason, None, leave).await?;
        Ok(Drafted { draft, effect: Effect::Policies(change) })
    }

    /// Tells what a change would do.
    pub(super) async fn preview(&self, op: &Op, drafted: &Drafted) -> Result<Preview, Error> {
        let mut preview = Preview { base: drafted.draft.base(), diff: None, impact: None, settings: None };
        match &drafted.effect {
            Effect::Policies(PolicyChange { ruling, proposed }) => {
                preview.diff = Some(tollgate_policy::diff(&ruling.policies.value, proposed)?);
                preview.impact = Some(self.0.policy_impact(op, ruling, proposed.clone()).await?);
            }
            Effect::Waiver { waiver, ruling } => {
                let policies = ruling.policies.value.clone();
                let waivers = ruling.waivers.iter().chain([waiver.as_ref()]).cloned().collect();
                preview.impact = Some(self.0.ruling_impact(op, ruling, policies, waivers).await?);
            }
            Effect::Settings { before, after } => preview.settings = Some((before.clone(), after.clone())),
        }
        Ok(preview)
    }

    /// Tells what became other in the policies since a change was asked for.
    pub(super) async fn moved(&self, op: &Op, request: &ChangeRequest) -> Result<Option<PolicyDiff>, Error> {
        let today = self.0.current_policies(&op.realm).await?.value;
        if today.version() == request.policy_version {
            return Ok(None);
        }
        let key = keys::policy_version(request.policy_version);
        let then = self.0.store().get::<PolicyVersion>(&op.realm, &key).await?;
        let diff = then.map(|then| tollgate_policy::diff(&then.value.policies, &today)).transpose()?;
        Ok(diff)
    }
}

// === impl Drafted ===

impl From<WaiverDraft> for Drafted {
    fn from(drafted: WaiverDraft) -> Self {
        let WaiverDraft { waiver, draft, ruling } = drafted;
        Self { draft, effect: Effect::Waiver { waiver: Box::new(waiver), ruling } }
    }
}

fn shadow_changed() -> Error {
    Error::conflict("shadow-changed", "the shadow is not the one whose promotion was asked for")
        .hint("reject this request; whoever wants the shadow of today promoted asks for that")
}
