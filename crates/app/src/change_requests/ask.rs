//! Asking: what would be saved is stored as a request where the realm wants a second person.

use std::collections::BTreeMap;

use tollgate_model::change_requests::{ChangeRequest, LIFETIME, RequestState, RequestedChange};
use tollgate_model::environments::RealmSettings;
use tollgate_model::ids::{ChangeRequestId, UserId};
use tollgate_model::names::{EnvironmentName, PipelineName};
use tollgate_model::next_steps::NextStep;
use tollgate_store::{Expect, Stored};

use super::people::person;
use super::preview::{Drafted, Effect};
use super::{ChangeRequests, Leave, Preview, Subject};
use crate::access::{Op, Permission};
use crate::changes::Draft;
use crate::environments::{NewEnvironment, WantedEnvironment};
use crate::errors::Error;
use crate::policies::{PolicyEdit, PolicyValues, check_reason};
use crate::shadow::PromotionRead;
use crate::waivers::NewWaiver;

/// Most requests of one person that wait for a decision.
const MAX_PENDING: usize = 50;

/// A change that somebody is about to make.
#[derive(Debug, Clone, Copy)]
pub enum Proposal<'a> {
    /// As [`PolicyUseCases::set`](crate::policies::PolicyUseCases::set).
    Policy {
        /// The change.
        edit: &'a PolicyEdit,
        /// The revision of the policies that the caller read.
        if_match: Option<u64>,
    },
    /// As [`Shadow::promote`](crate::shadow::Shadow::promote).
    PromoteShadow(PromotionRead),
    /// As [`Environments::create`](crate::environments::Environments::create).
    CreateEnvironment(&'a NewEnvironment),
    /// As [`Environments::delete`](crate::environments::Environments::delete).
    DeleteEnvironment {
        /// Which one.
        name: &'a EnvironmentName,
        /// The revision of it that the caller read.
        if_match: Option<u64>,
    },
    /// As [`Waivers::create`](crate::waivers::Waivers::create).
    Waiver(&'a NewWaiver),
    /// As [`Realms::update`](crate::realms::Realms::update).
    Settings {
        /// All settings.
        settings: &'a RealmSettings,
        /// The revision of the realm that the caller read.
        if_match: Option<u64>,
    },
}

/// A change that was asked for.
#[derive(Debug, Clone)]
pub struct AskedChange {
    /// The request.
    pub request: Stored<ChangeRequest>,
    /// What it would do as of now.
    pub preview: Preview,
    /// Whether it was stored now; otherwise its author had asked for the same before, and nobody decided yet.
    pub is_new: bool,
}

// === impl ChangeRequests ===

impl ChangeRequests {
    /// Refuses whoever could not make a change at once: a waiver where its pipeline lies, anything else in the whole realm.
    pub(super) async fn demand(
        &self,
        op: &Op,
        permissions: Vec<Permission>,
        waiver: Option<(&EnvironmentName, &PipelineName)>,
    ) -> Result<(), Error> {
        for permission in permissions {
            match waiver {
                Some((environment, pipeline)) => {
                    self.0.demand_at(op, permission, environment, pipeline).await?;
                }
                None => op.demand(permission)?,
            }
        }
        Ok(())
    }

    /// Asks for a change where the realm wants a second person for it; `None` where it does not: the change is to be made
    /// at once. Nothing but the request is stored.
    ///
    /// A request that its author made before, and that waits for a decision, is not made again.
    ///
    /// # Errors
    ///
    /// As when the change were made. [`ErrorKind::Conflict`](crate::errors::ErrorKind::Conflict) with code
    /// `too-many-change-requests` when 50 of the author wait for a decision;
    /// [`ErrorKind::Forbidden`](crate::errors::ErrorKind::Forbidden) for the system, which is nobody's second person.
    pub async fn ask(
        &self,
        op: &Op,
        proposal: Proposal<'_>,
        reason: &str,
    ) -> Result<Option<AskedChange>, Error> {
        let waiver = match &proposal {
            Proposal::Waiver(input) => Some((&input.environment, &input.pipeline)),
            _ => None,
        };
        self.demand(op, proposal.permissions(), waiver).await?;
        let realm = self.0.realm(op).await?;
        if !proposal.subject().needs_two(realm.value.settings.four_eyes) {
            return Ok(None);
        }
        let author = person(op)?;
        check_reason(reason)?;
        let leave = Leave::to_ask(&realm);
        let (change, reason, drafted) = self.read(op, proposal, reason, &leave).await?;
        let preview = self.preview(op, &drafted).await?;
        if let Some(request) = self.asked_before(op, author.user, &change).await? {
            return Ok(Some(AskedChange { request, preview, is_new: false }));
        }
        let request = ChangeRequest {
            id: ChangeRequestId::new(op.now, self.0.id_bytes()?),
            change,
            reason,
            base: preview.base,
            policy_version: self.0.current_policies(&op.realm).await?.value.version(),
            author,
            created_at: op.now,
            expires_at: op.now.checked_add(LIFETIME).map_err(Error::internal)?,
            decision: None,
        };
        let mut draft = Draft::new(op, "change-request.create").reason(sentence(&request));
        draft.put(&request, Expect::Absent)?;
        let revision = self.0.commit(op, draft).await?;
        Ok(Some(AskedChange { request: Stored { value: request, revision }, preview, is_new: true }))
    }

    /// Reads a proposal as what is stored of it, once everything about it was checked as if it were saved.
    async fn read(
        &self,
        op: &Op,
        proposal: Proposal<'_>,
        reason: &str,
        leave: &Leave,
    ) -> Result<(RequestedChange, String, Drafted), Error> {
        let app = &self.0;
        let mut reason = reason.to_owned();
        let (change, drafted) = match proposal {
            Proposal::Policy { edit, if_match } => {
                let (draft, change) = app.policies().drafted(op, edit, &reason, if_match, leave).await?;
                (requested(edit), Drafted { draft, effect: Effect::Policies(change) })
            }
            Proposal::PromoteShadow(read) => {
                let promotion = app.shadow().promotion(op, &reason, read, leave).await?;
                if reason.is_empty() {
                    reason.clone_from(&promotion.shadow.reason);
                }
                let effect = Effect::Policies(promotion.change);
                let change = RequestedChange::PromoteShadow { shadow: promotion.shadow };
                (change, Drafted { draft: promotion.draft, effect })
            }
            Proposal::CreateEnvironment(input) => {
                let wanted = WantedEnvironment::read(input)?;
                let (_, draft, change) = app.environments().creation(op, &wanted, &reason, leave).await?;
                let WantedEnvironment { name, access, listeners } = wanted;
                let requested =
                    RequestedChange::CreateEnvironment { environment: name, policies: access, listeners };
                (requested, Drafted { draft, effect: Effect::Policies(change) })
            }
            Proposal::DeleteEnvironment { name, if_match } => {
                let environments = app.environments();
                let (draft, change) = environments.deletion(op, name, if_match, &reason, leave).await?;
                let requested = RequestedChange::DeleteEnvironment { environment: name.clone() };
                (requested, Drafted { draft, effect: Effect::Policies(change) })
            }
            Proposal::Waiver(input) => {
                let drafted = app.waivers().drafted(op, input, leave).await?;
                let waiver = drafted.waiver.clone();
                reason = waiver.reason;
                let change = RequestedChange::CreateWaiver {
                    pipeline: waiver.pipeline,
                    environment: waiver.environment,
                    policy: waiver.policy,
                    code: waiver.code,
                    // Not when it is approved: what is approved has the end that was asked for.
                    until: waiver.until,
                    replace: input.replaces(),
                    extends: input.extends,
                };
                (change, Drafted::from(drafted))
            }
            Proposal::Settings { settings, if_match } => {
                let realm = app.realm(op).await?;
                let draft = app.realms().drafted(op, &realm, settings, if_match, leave)?;
                let effect = Effect::Settings { before: realm.value.settings, after: settings.clone() };
                (RequestedChange::SetRealmSettings { settings: settings.clone() }, Drafted { draft, effect })
            }
        };
        Ok((change, reason, drafted))
    }

    /// Returns the same request of the same author, when one waits for a decision.
    async fn asked_before(
        &self,
        op: &Op,
        author: UserId,
        change: &RequestedChange,
    ) -> Result<Option<Stored<ChangeRequest>>, Error> {
        let mut requests = self.0.all::<ChangeRequest>(&op.realm, "").await?;
        requests
            .retain(|it| it.value.author.user == author && it.value.state(op.now) == RequestState::Pending);
        if let Some(same) = requests.iter().position(|it| it.value.change == *change) {
            return Ok(Some(requests.swap_remove(same)));
        }
        if requests.len() < MAX_PENDING {
            return Ok(None);
        }
        let message = format!("{MAX_PENDING} of your change requests wait for a decision already");
        Err(Error::conflict("too-many-change-requests", message)
            .hint("withdraw those that you no longer need")
            .next(NextStep::WithdrawChangeRequest { id: None }))
    }
}

// === impl Proposal ===

impl Proposal<'_> {
    fn subject(&self) -> Subject {
        match self {
            Self::Policy { .. }
            | Self::PromoteShadow(_)
            | Self::CreateEnvironment(_)
            | Self::DeleteEnvironment { .. } => Subject::Policies,
            Self::Waiver(_) => Subject::Waivers,
            Self::Settings { .. } => Subject::Settings,
        }
    }

    fn permissions(&self) -> Vec<Permission> {
        match self {
            Self::Policy { .. } | Self::PromoteShadow(_) => vec![Permission::PolicyUpdate],
            Self::CreateEnvironment(_) => vec![Permission::EnvironmentCreate],
            Self::DeleteEnvironment { .. } => vec![Permission::EnvironmentDelete],
            Self::Waiver(input) => waiver_permissions(input.replaces()),
            Self::Settings { .. } => vec![Permission::RealmUpdate],
        }
    }
}

/// Returns what whoever makes a change at once would need.
pub(super) fn permissions(change: &RequestedChange) -> Vec<Permission> {
    match change {
        RequestedChange::SetPolicy { .. }
        | RequestedChange::RemoveRule { .. }
        | RequestedChange::RestorePolicies { .. }
        | RequestedChange::PromoteShadow { .. } => vec![Permission::PolicyUpdate],
        RequestedChange::CreateEnvironment { .. } => vec![Permission::EnvironmentCreate],
        RequestedChange::DeleteEnvironment { .. } => vec![Permission::EnvironmentDelete],
        RequestedChange::CreateWaiver { replace, .. } => waiver_permissions(*replace),
        RequestedChange::SetRealmSettings { .. } => vec![Permission::RealmUpdate],
    }
}

fn waiver_permissions(replace: bool) -> Vec<Permission> {
    match replace {
        true => vec![Permission::WaiverCreate, Permission::WaiverEnd],
        false => vec![Permission::WaiverCreate],
    }
}

/// Returns an edit as it is stored.
fn requested(edit: &PolicyEdit) -> RequestedChange {
    match edit {
        PolicyEdit::Set(PolicyValues { policy, environments, partial, condition, message, fix }) => {
            RequestedChange::SetPolicy {
                policy: policy.clone(),
                environments: BTreeMap::clone(environments),
                partial: *partial,
                condition: condition.clone(),
                message: message.clone(),
                fix: fix.clone(),
            }
        }
        PolicyEdit::Remove(rule) => RequestedChange::RemoveRule { rule: rule.clone() },
        PolicyEdit::Restore(version) => RequestedChange::RestorePolicies { version: *version },
    }
}

/// Says what was asked for, and why.
pub(super) fn sentence(request: &ChangeRequest) -> String {
    let ChangeRequest { id, change, reason, .. } = request;
    match reason.as_str() {
        "" => format!("{id}: {change}"),
        reason => format!("{id}: {change}: {reason}"),
    }
}
