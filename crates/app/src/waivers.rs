//! Waivers: a violation of one pipeline in one environment that does not count until a date.
//!
//! A waiver waives something that is there: what the latest version, or one that runs, breaks under today's policies. One
//! that waives nothing would lie in wait for a violation that nobody knew when it was granted.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use tollgate_model::environments::Realm;
use tollgate_model::ids::WaiverId;
use tollgate_model::names::{EnvironmentName, PipelineName};
use tollgate_model::next_steps::NextStep;
use tollgate_model::objects::{Kind, Object, keys};
use tollgate_model::pipelines::PipelineHead;
use tollgate_model::policies::PolicyName;
use tollgate_model::verdicts::{Verdict, Violation, ViolationCode, Waived};
use tollgate_model::waivers::Waiver;
use tollgate_store::{Expect, Stored};

use crate::App;
use crate::access::{Op, Permission, Place};
use crate::change_requests::{Leave, Subject};
use crate::changes::{Draft, expect, overtaken};
use crate::errors::{Error, ErrorKind};
use crate::policies::Ruling;

/// Longest reason, in characters.
const MAX_REASON: usize = 500;

/// Use cases of waivers.
pub struct Waivers(pub(crate) App);

/// A waiver to be.
#[derive(Debug, Clone)]
pub struct NewWaiver {
    /// Whose violation.
    pub pipeline: PipelineName,
    /// Where.
    pub environment: EnvironmentName,
    /// Of which policy.
    pub policy: PolicyName,
    /// Which violation of it; can be left out when there is one only.
    pub code: Option<ViolationCode>,
    /// When the violation counts again.
    pub end: WaiverEnd,
    /// Why.
    pub reason: String,
    /// Whether it takes the place of one that lets the same violation pass.
    pub replace: bool,
    /// The one that it takes the place of, and of no other: how a waiver is extended as it was read. What somebody ended
    /// or replaced meanwhile does not come back by it.
    pub extends: Option<WaiverId>,
}

/// When a waiver ends. There is none without an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WaiverEnd {
    /// At a moment.
    At(Timestamp),
    /// So long after it is made, by the server's clock.
    After(SignedDuration),
}

/// Which waivers to list.
#[derive(Debug, Clone, Default)]
pub struct WaiverFilter {
    /// Only this environment's.
    pub environment: Option<EnvironmentName>,
    /// Only this pipeline's.
    pub pipeline: Option<PipelineName>,
    /// Whether those that ended by themselves are listed too.
    pub ended: bool,
}

/// A waiver as it would be saved.
pub(crate) struct WaiverDraft {
    pub(crate) waiver: Waiver,
    pub(crate) draft: Draft,
    /// What the realm judges by without it.
    pub(crate) ruling: Ruling,
}

/// The violations that can be waived.
type Waivable = BTreeMap<(PolicyName, ViolationCode), Violation>;

// === impl NewWaiver ===

impl NewWaiver {
    /// Tells whether another one goes by it, which takes the permission to end one.
    pub fn replaces(&self) -> bool {
        self.replace || self.extends.is_some()
    }
}

// === impl Waivers ===

impl Waivers {
    /// Waives a violation until a moment.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`] when there is no such pipeline or environment; [`ErrorKind::Invalid`] when the end has
    /// passed (`date-passed`) or lies too far ahead (`waiver-too-long`), the reason is missing or too long, or neither the
    /// latest version nor one that runs has the violation (`waiver-unfounded`); [`ErrorKind::Conflict`] when a waiver lets
    /// it pass already and is not to be replaced (`already-waived`), or the realm wants a second person (`four-eyes`);
    /// [`ErrorKind::PreconditionFailed`] when the one to extend is not the one that lets it pass. Nothing is stored then.
    pub async fn create(&self, op: &Op, input: NewWaiver) -> Result<Stored<Waiver>, Error> {
        op.demand_somewhere_in(Permission::WaiverCreate, &input.environment)?;
        if input.replaces() {
            op.demand_somewhere_in(Permission::WaiverEnd, &input.environment)?;
        }
        let mut attempts = self.0.attempts();
        while attempts.next().await {
            let (environment, pipeline) = (&input.environment, &input.pipeline);
            let head = self.0.demand_at(op, Permission::WaiverCreate, environment, pipeline).await?;
            if input.replaces() {
                op.demand_in(Permission::WaiverEnd, Place::both(environment, &head.value.project))?;
            }
            let leave = self.0.leave(op, Subject::Waivers).await?;
            let WaiverDraft { draft, waiver, .. } = self.drafted(op, &input, &leave).await?;
            if let Some(revision) = self.0.commit_decided(op, draft).await? {
                return Ok(Stored { value: waiver, revision });
            }
        }
        Err(overtaken())
    }

    /// Returns a waiver as it would be saved, once everything about it was checked.
    pub(crate) async fn drafted(
        &self,
        op: &Op,
        input: &NewWaiver,
        leave: &Leave,
    ) -> Result<WaiverDraft, Error> {
        let reason = checked_reason(&input.reason)?;
        let realm = self.0.realm(op).await?;
        self.0.environment(&op.realm, &input.environment).await?;
        let head = self.0.pipeline_head(op, &input.pipeline).await?;
        let until = checked_end(op, input.end, &realm.value)?;
        let ruling = self.0.ruling(&op.realm).await?;
        let code = pick(input, &self.waivable(op, input, &head.value, &ruling).await?)?;
        let waiver = Waiver {
            id: WaiverId::new(op.now, self.0.id_bytes()?),
            pipeline: input.pipeline.clone(),
            environment: input.environment.clone(),
            policy: input.policy.clone(),
            code,
            until,
            reason: reason.to_owned(),
            created_at: op.now,
            created_by: leave.author(op),
            approved_by: leave.approver(),
        };
        let mut draft = self.creation(op, &waiver, input, &ruling)?.with(leave);
        draft.guard(Kind::Policies, keys::POLICIES, Expect::Revision(ruling.policies.revision));
        draft.guard_environment(&waiver.environment);
        // Whoever waives the same at the same moment, or deletes the pipeline with its waivers, is overtaken by this.
        draft.put(&head.value, Expect::Revision(head.revision))?;
        draft.put(&waiver, Expect::Absent)?;
        Ok(WaiverDraft { waiver, draft, ruling })
    }

    /// Begins the change that makes a waiver: with those in it that make room.
    fn creation(&self, op: &Op, waiver: &Waiver, input: &NewWaiver, ruling: &Ruling) -> Result<Draft, Error> {
        let same: Vec<&Waiver> = ruling.waivers.iter().filter(|other| is_same(waiver, other)).collect();
        let (active, _): (Vec<&Waiver>, Vec<&Waiver>) = same.iter().partition(|other| op.now < other.until);
        if let Some(extended) = input.extends.filter(|id| !active.iter().any(|other| other.id == *id)) {
            let message = format!(
                "waiver {extended} does not let {} in {} pass any more: somebody ended or replaced it",
                what(waiver),
                waiver.environment
            );
            return Err(Error::new(ErrorKind::PreconditionFailed, "precondition-failed", message)
                .hint("see those in force, and make a new one if it is still wanted")
                .next(NextStep::ListWaivers));
        }
        if let (Some(other), false) = (active.first(), input.replaces()) {
            let Waiver { id, until, created_by, .. } = other;
            let message = format!(
                "{} is waived in {} until {until} already: waiver {id} of {created_by}",
                what(waiver),
                waiver.environment
            );
            return Err(Error::conflict("already-waived", message)
                .hint(format!("to extend it, say that this one takes its place (`extends`: {id})")));
        }
        let replaced: String = active.iter().map(|other| format!(", in place of {}", other.id)).collect();
        let mut draft = Draft::new(op, "waiver.create").reason(format!(
            "{}{replaced}: {}",
            sentence(waiver),
            waiver.reason
        ));
        // Those that ended by themselves make room, too.
        for other in same {
            draft.delete::<Waiver>(other.key(), Expect::Exists);
        }
        Ok(draft)
    }

    /// Returns the waivers by environment and pipeline, of those that the actor may read.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`] when there is no such environment.
    pub async fn list(&self, op: &Op, filter: &WaiverFilter) -> Result<Vec<Stored<Waiver>>, Error> {
        self.0.demand_list(op, Permission::WaiverRead, filter.environment.as_ref()).await?;
        let prefix = filter.environment.as_ref().map(|name| format!("{name}/")).unwrap_or_default();
        let mut waivers = self.0.all::<Waiver>(&op.realm, &prefix).await?;
        waivers.retain(|Stored { value, .. }| {
            filter.pipeline.as_ref().is_none_or(|name| *name == value.pipeline)
                && (filter.ended || op.now < value.until)
        });
        if !op.may(Permission::WaiverRead, Place::REALM) {
            let owners = self.0.owners(&op.realm).await?;
            waivers.retain(|stored| {
                let Waiver { environment, pipeline, .. } = &stored.value;
                owners.may(op, &[Permission::WaiverRead], environment, pipeline)
            });
        }
        Ok(waivers)
    }

    /// Returns one waiver with its revision.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`].
    pub async fn get(&self, op: &Op, id: WaiverId) -> Result<Stored<Waiver>, Error> {
        Ok(self.find(op, Permission::WaiverRead, id).await?.0)
    }

    /// Ends a waiver before its time, or takes one off the list that ended by itself. What runs goes on running.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`], [`ErrorKind::PreconditionFailed`].
    pub async fn end(&self, op: &Op, id: WaiverId, if_match: Option<u64>) -> Result<(), Error> {
        let (waiver, head) = self.find(op, Permission::WaiverEnd, id).await?;
        let mut draft = Draft::new(op, "waiver.end").reason(format!("{id}: {}", sentence(&waiver.value)));
        self.0.guard_owner(op, Permission::WaiverEnd, &waiver.value.environment, &head, &mut draft);
        draft.delete::<Waiver>(waiver.value.key(), expect(&waiver, if_match));
        self.0.commit(op, draft).await?;
        Ok(())
    }

    /// Finds a waiver, with the pipeline whose violation it is, when the actor may do this there.
    async fn find(
        &self,
        op: &Op,
        permission: Permission,
        id: WaiverId,
    ) -> Result<(Stored<Waiver>, Stored<PipelineHead>), Error> {
        op.demand_anywhere(permission)?;
        let absent = || {
            Error::not_found(format!("there is no waiver {id}"))
                .hint("see those that exist")
                .next(NextStep::ListWaivers)
        };
        let waivers = self.0.all::<Waiver>(&op.realm, "").await?;
        let waiver = waivers.into_iter().find(|stored| stored.value.id == id).ok_or_else(absent)?;
        let key = keys::pipeline(&waiver.value.pipeline);
        let head = self.0.store().get::<PipelineHead>(&op.realm, &key).await?.ok_or_else(absent)?;
        let place = Place::both(&waiver.value.environment, &head.value.project);
        op.demand_of(permission, place, op.may(Permission::WaiverRead, place), absent)?;
        Ok((waiver, head))
    }

    /// Returns what the latest version, and what runs there, breaks in the environment; waived or not.
    async fn waivable(
        &self,
        op: &Op,
        input: &NewWaiver,
        head: &PipelineHead,
        ruling: &Ruling,
    ) -> Result<Waivable, Error> {
        let NewWaiver { pipeline, environment, .. } = input;
        let running = self.0.deployed(&op.realm, &format!("{environment}/{pipeline}/")).await?;
        let latest = self.0.pipeline_version(op, pipeline, head.latest).await?;
        let judge = ruling.judge(op.now);
        let mut found = Waivable::new();
        for version in running.iter().map(|(_, version)| version).chain([&latest]) {
            let Verdict { violations, waived, .. } = judge.verdict(&version.pipeline, environment)?;
            let waived = waived.into_iter().map(|waived| waived.violation);
            found.extend(violations.into_iter().chain(waived).map(|it| ((it.policy.clone(), it.code), it)));
        }
        Ok(found)
    }
}

// === impl App ===

impl App {
    /// Puts the end of every waiver of a pipeline into a change that deletes it.
    pub(crate) async fn end_waivers_of(
        &self,
        op: &Op,
        pipeline: &PipelineName,
        draft: &mut Draft,
    ) -> Result<(), Error> {
        let mut waivers = self.all::<Waiver>(&op.realm, "").await?;
        waivers.retain(|stored| stored.value.pipeline == *pipeline);
        for waiver in &waivers {
            draft.delete::<Waiver>(waiver.value.key(), Expect::Revision(waiver.revision));
        }
        Ok(())
    }
}

/// Says which waiver lets what pass, and until when.
pub(crate) fn passes(waived: &Waived) -> String {
    let Waived { violation, waiver, until, reason } = waived;
    let Violation { message, policy, environment, .. } = violation;
    format!("waiver {waiver} until {until}: {message} (policy {policy}, environment {environment}): {reason}")
}

/// Returns which violation is meant.
fn pick(input: &NewWaiver, found: &Waivable) -> Result<ViolationCode, Error> {
    let NewWaiver { pipeline, environment, policy, code, .. } = input;
    let meant: Vec<ViolationCode> = found
        .keys()
        .filter(|(of, it)| of == policy && code.is_none_or(|code| code == *it))
        .map(|(_, code)| *code)
        .collect();
    match meant.as_slice() {
        [only] => Ok(*only),
        [] => {
            let which = code.map(|code| format!(" ({code})")).unwrap_or_default();
            let message = format!(
                "there is nothing to waive: neither the latest version of `{pipeline}` nor what runs in {environment} \
                 breaks policy {policy}{which}"
            );
            let has: Vec<String> = found
                .values()
                .map(|it| format!("policy {}, code {} ({})", it.policy, it.code, it.message))
                .collect();
            let hint = match has.is_empty() {
                true => "it conforms there: it needs no waiver".to_owned(),
                false => format!("it breaks {}", has.join("; ")),
            };
            Err(Error::new(ErrorKind::Invalid, "waiver-unfounded", message).hint(hint))
        }
        several => {
            let codes: Vec<String> = several.iter().map(|code| format!("`{code}`")).collect();
            let message = format!("`{pipeline}` breaks policy {policy} in {environment} in several ways");
            Err(Error::invalid(message).hint(format!("name one with its code: {}", codes.join(", "))))
        }
    }
}

fn checked_reason(reason: &str) -> Result<&str, Error> {
    let reason = reason.trim();
    if reason.chars().any(char::is_control) {
        return Err(
            Error::invalid("the reason holds control characters").hint("write it in one line of text")
        );
    }
    match reason.chars().count() {
        0 => Err(Error::invalid("a waiver needs a reason").hint("say why, for whoever reads the journal")),
        1..=MAX_REASON => Ok(reason),
        length => Err(Error::invalid(format!("the reason has {length} characters"))
            .hint(format!("write at most {MAX_REASON}"))),
    }
}

fn checked_end(op: &Op, end: WaiverEnd, realm: &Realm) -> Result<Timestamp, Error> {
    let days = realm.settings.max_waiver_days.get();
    let longest = SignedDuration::from_hours(24 * i64::from(days));
    let too_long = || {
        let message = format!("a waiver of this realm lasts {days} days at most");
        Error::new(ErrorKind::Invalid, "waiver-too-long", message).hint(format!(
            "choose an end before {}",
            seconds(op.now.saturating_add(longest).unwrap_or(op.now))
        ))
    };
    let until = match end {
        WaiverEnd::At(until) => until,
        WaiverEnd::After(time) => op.now.checked_add(time).map(seconds).map_err(|_| too_long())?,
    };
    if until <= op.now {
        let message = format!("the waiver would end at {until}, which has passed");
        return Err(Error::new(ErrorKind::Invalid, "date-passed", message)
            .hint(format!("choose an end to come, at most {days} days from now")));
    }
    if until.duration_since(op.now) > longest { Err(too_long()) } else { Ok(until) }
}

/// Cuts off the fraction of a second, which nobody reads.
fn seconds(at: Timestamp) -> Timestamp {
    Timestamp::from_second(at.as_second()).unwrap_or(at)
}

fn is_same(waiver: &Waiver, other: &Waiver) -> bool {
    (&waiver.pipeline, &waiver.environment, &waiver.policy, waiver.code)
        == (&other.pipeline, &other.environment, &other.policy, other.code)
}

fn what(waiver: &Waiver) -> String {
    format!("{} of policy {} by `{}`", waiver.code, waiver.policy, waiver.pipeline)
}

fn sentence(waiver: &Waiver) -> String {
    format!("{} in {} until {}", what(waiver), waiver.environment, waiver.until)
}
