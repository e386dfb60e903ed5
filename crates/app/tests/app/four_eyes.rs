//! Four eyes: what one person asks for and another approves, on every way that changes what a realm judges by.

use std::collections::BTreeMap;

use jiff::SignedDuration;
use serde_json::json;
use tollgate_app::JournalEntry;
use tollgate_app::JournalFilter;
use tollgate_app::access::{Op, Permission};
use tollgate_app::change_requests::{AskedChange, Proposal};
use tollgate_app::environments::NewEnvironment;
use tollgate_app::errors::{Error, ErrorKind};
use tollgate_app::policies::{PolicyEdit, PolicyValues};
use tollgate_app::shadow::PromotionRead;
use tollgate_app::waivers::NewWaiver;
use tollgate_model::change_requests::{LIFETIME, RequestState};
use tollgate_model::environments::{FourEyes, Realm, RealmSettings};
use tollgate_model::ids::ChangeRequestId;
use tollgate_model::names::{EnvironmentName, RuleName};
use tollgate_model::objects::Kind;
use tollgate_model::policies::{AccessPolicy, AccessRequirement};
use tollgate_model::versions::Version;

use crate::environments::new_environment;
use crate::shadow::shadowed;
use crate::waivers::new_waiver;
use crate::world::{OPEN, World, external, pipeline, tightening};

pub(crate) const BOTH: FourEyes = FourEyes { policies: true, waivers: true };

/// A realm that wants four eyes, and the two of whom they are.
pub(crate) struct Pair {
    pub(crate) world: World,
    pub(crate) ann: Op,
    pub(crate) bob: Op,
}

impl Pair {
    /// A realm with something of everything that can be changed: a rule, a shadow, a second environment, an open pipeline
    /// that runs by a waiver.
    pub(crate) async fn start(four_eyes: FourEyes) -> Self {
        let world = World::start().await;
        let (ann, bob) = (world.account("system", "ann").await, world.account("system", "bob").await);
        let (app, op) = (&world.app, &world.op);
        app.policies().set(op, &rule("trigger.timeoutMs > 0"), "", None).await.unwrap();
        app.shadow().set(op, &shadowed(), "see who is ready", None).await.unwrap();
        app.environments().create(op, new_environment("staging", "127.0.0.1:7003")).await.unwrap();
        world.save("shop", OPEN).await;
        world.save("till", OPEN).await;
        app.waivers().create(op, NewWaiver { pipeline: pipeline("till"), ..new_waiver() }).await.unwrap();
        app.deployments().deploy(op, &world.test, &pipeline("till"), None, None).await.unwrap();
        let settings = RealmSettings { four_eyes, ..RealmSettings::default() };
        app.realms().update(&ann, settings, None).await.unwrap();
        Self { world, ann, bob }
    }

    pub(crate) async fn ask(&self, op: &Op, proposal: Proposal<'_>) -> AskedChange {
        self.world.app.change_requests().ask(op, proposal, "it is time").await.unwrap().unwrap()
    }

    /// Asks for tokens in `test`.
    pub(crate) async fn asked(&self) -> AskedChange {
        self.ask(&self.ann, Proposal::Policy { edit: &tightening(), if_match: None }).await
    }

    /// Approves what is there now.
    pub(crate) async fn approve(&self, op: &Op, id: ChangeRequestId) -> Result<(), Error> {
        let requests = self.world.app.change_requests();
        let base = match requests.get(op, id).await?.today {
            Some(Ok(preview)) => preview.base,
            Some(Err(error)) => return Err(error),
            None => 0,
        };
        requests.approve(op, id, base, "", None).await.map(drop)
    }

    /// Makes sure that somebody can't approve a request, and that nothing is stored.
    pub(crate) async fn refused(&self, op: &Op, id: ChangeRequestId) -> Error {
        let before = self.world.store.head().await.unwrap();
        let error = self.approve(op, id).await.unwrap_err();
        assert_eq!(self.world.store.head().await.unwrap(), before, "{error}");
        assert!(error.hint.is_some(), "{error}");
        error
    }

    pub(crate) async fn external(&self, environment: &str) -> Option<AccessRequirement> {
        let policies = self.world.app.policies().get(&self.world.op).await.unwrap().value;
        policies.requirement(AccessPolicy::ExternalApiAccess, &EnvironmentName::parse(environment).unwrap())
    }

    pub(crate) async fn newest(&self) -> JournalEntry {
        let newest = JournalFilter { limit: 1, newest_first: true, ..JournalFilter::default() };
        self.world.app.journal().list(&self.world.op, newest).await.unwrap().remove(0)
    }
}

pub(crate) fn rule(condition: &str) -> PolicyEdit {
    let everywhere = |name: &str| (EnvironmentName::parse(name).unwrap(), json!("required"));
    PolicyEdit::Set(PolicyValues {
        policy: "a-rule".parse().unwrap(),
        environments: BTreeMap::from(["test", "prod"].map(everywhere)),
        partial: true,
        condition: Some(condition.to_owned()),
        message: Some("No".to_owned()),
        fix: None,
    })
}

/// Whatever one can ask for.
pub(crate) struct Everything {
    edits: Vec<PolicyEdit>,
    environment: NewEnvironment,
    staging: EnvironmentName,
    waivers: [NewWaiver; 2],
    settings: RealmSettings,
}

impl Everything {
    pub(crate) fn new() -> Self {
        Self {
            edits: vec![
                external(true, "test", "any"),
                tightening(),
                rule("trigger.timeoutMs > 1"),
                PolicyEdit::Remove(RuleName::parse("a-rule").unwrap()),
                PolicyEdit::Restore(Version::FIRST),
            ],
            environment: new_environment("other", "127.0.0.1:7004"),
            staging: EnvironmentName::parse("staging").unwrap(),
            waivers: [new_waiver(), NewWaiver { pipeline: pipeline("till"), replace: true, ..new_waiver() }],
            settings: RealmSettings::default(),
        }
    }

    pub(crate) fn proposals(&self) -> Vec<Proposal<'_>> {
        let edits = self.edits.iter().map(|edit| Proposal::Policy { edit, if_match: None });
        let waivers = self.waivers.iter().map(Proposal::Waiver);
        let rest = [
            Proposal::PromoteShadow(PromotionRead::default()),
            Proposal::CreateEnvironment(&self.environment),
            Proposal::DeleteEnvironment { name: &self.staging, if_match: None },
            Proposal::Settings { settings: &self.settings, if_match: None },
        ];
        edits.chain(waivers).chain(rest).collect()
    }

    /// Makes a change at once, past the question whether it is to be asked for.
    pub(crate) async fn make(world: &World, op: &Op, proposal: Proposal<'_>) -> Result<(), Error> {
        let app = &world.app;
        match proposal {
            Proposal::Policy { edit, .. } => app.policies().set(op, edit, "", None).await.map(drop),
            Proposal::PromoteShadow(_) => app.shadow().promote(op, "", None, None).await.map(drop),
            Proposal::CreateEnvironment(new) => app.environments().create(op, new.clone()).await.map(drop),
            Proposal::DeleteEnvironment { name, .. } => app.environments().delete(op, name, None, "").await,
            Proposal::Waiver(new) => app.waivers().create(op, new.clone()).await.map(drop),
            Proposal::Settings { settings, .. } => {
                app.realms().update(op, settings.clone(), None).await.map(drop)
            }
        }
    }
}

#[tokio::test]
async fn one_person_asks_and_another_who_approves_makes_the_change() {
    let pair = Pair::start(BOTH).await;
    let (app, ann, bob) = (&pair.world.app, &pair.ann, &pair.bob);
    let before = app.policies().get(ann).await.unwrap();
    let asked = pair.asked().await;
    assert!(asked.is_new && asked.preview.impact.is_some());
    assert_eq!(asked.preview.base, before.revision);
    let entry = pair.newest().await;
    assert_eq!((entry.actor.as_str(), entry.action.as_str()), ("ann", "change-request.create"));
    assert_eq!(app.policies().get(ann).await.unwrap(), before, "nothing is saved yet");

    let id = asked.request.value.id;
    let shown = app.change_requests().get(bob, id).await.unwrap();
    assert_eq!((&shown.request, shown.moved), (&asked.request, None));
    let preview = shown.today.unwrap().unwrap();
    let diff = preview.diff.unwrap();
    assert_eq!(diff.policies.len(), 1, "{diff:?}");
    let revision = Some(shown.request.revision);
    let approved = app.change_requests().approve(bob, id, preview.base, "fine", revision).await.unwrap();
    assert_eq!(pair.external("test").await, Some(AccessRequirement::JwtWithApiKey));

    let request = approved.request.value;
    assert_eq!(request.state(bob.now), RequestState::Approved);
    let decision = request.decision.clone().unwrap();
    assert_eq!((decision.by.name.as_str(), decision.comment.as_str()), ("bob", "fine"));
    let version = app.policies().versions(ann).await.unwrap().remove(0);
    assert_eq!((version.created_by.as_str(), version.approved_by.as_deref()), ("ann", Some("bob")));
    assert_eq!(version.reason, "it is time");
    // One entry: by the request a filter finds it, and its words name both.
    let entry = pair.newest().await;
    assert_eq!((entry.actor.as_str(), entry.action.as_str()), ("bob", "policy.set"));
    assert!(entry.reason.ends_with("it is time; requested by ann, approved by bob"), "{}", entry.reason);
    let kinds: Vec<Kind> = entry.mutations.iter().map(|it| it.kind).collect();
    assert_eq!(kinds, [Kind::Policies, Kind::PolicyVersion, Kind::ChangeRequest]);
    let filter = JournalFilter {
        kind: Some(Kind::ChangeRequest),
        key: Some(id.to_string()),
        limit: 10,
        ..JournalFilter::default()
    };
    assert_eq!(app.journal().list(ann, filter).await.unwrap().len(), 2, "asked and approved");
}

#[tokio::test]
async fn everything_that_is_protected_is_refused_to_one_and_made_by_two() {
    let everything = Everything::new();
    for index in 0..everything.proposals().len() {
        let pair = Pair::start(BOTH).await;
        let proposal = everything.proposals()[index];
        let before = pair.world.store.head().await.unwrap();
        let error = Everything::make(&pair.world, &pair.ann, proposal).await.unwrap_err();
        assert_eq!((error.kind, error.code), (ErrorKind::Conflict, "four-eyes"), "{proposal:?}");
        assert_eq!(pair.world.store.head().await.unwrap(), before, "{proposal:?}");

        let asked = pair.ask(&pair.ann, proposal).await;
        assert_eq!(asked.request.revision, before + 1, "{proposal:?}");
        let entry = pair.newest().await;
        assert!(entry.mutations.iter().all(|it| it.kind == Kind::ChangeRequest), "{entry:?}");
        pair.approve(&pair.bob, asked.request.value.id).await.unwrap();
        let entry = pair.newest().await;
        assert!(entry.reason.ends_with("requested by ann, approved by bob"), "{}", entry.reason);
        assert!(entry.mutations.len() > 1, "{entry:?}");
    }
}

#[tokio::test]
async fn where_four_eyes_are_off_nothing_is_asked_for() {
    let everything = Everything::new();
    let off = FourEyes::default();
    for (four_eyes, free) in [
        (off, everything.proposals().len()),
        (FourEyes { waivers: true, ..off }, 5 + 3),
        (FourEyes { policies: true, ..off }, 2),
    ] {
        let pair = Pair::start(four_eyes).await;
        let mut made = 0;
        for proposal in everything.proposals() {
            let asked = pair.world.app.change_requests().ask(&pair.ann, proposal, "").await.unwrap();
            made += usize::from(asked.is_none());
        }
        assert_eq!(made, free, "{four_eyes:?}");
    }
}

#[tokio::test]
async fn a_request_is_approved_only_on_the_base_that_was_read() {
    let pair = Pair::start(BOTH).await;
    let (requests, bob) = (pair.world.app.change_requests(), &pair.bob);
    let first = pair.asked().await.request.value;
    let weaker = external(true, "prod", "any");
    let second = pair.ask(&pair.ann, Proposal::Policy { edit: &weaker, if_match: None }).await.request.value;
    pair.approve(bob, second.id).await.unwrap();

    let before = pair.world.store.head().await.unwrap();
    let error = requests.approve(bob, first.id, first.base, "", None).await.unwrap_err();
    assert_eq!((error.kind, error.code), (ErrorKind::PreconditionFailed, "base-changed"));
    assert_eq!(pair.world.store.head().await.unwrap(), before);
    let shown = requests.get(bob, first.id).await.unwrap();
    let moved = shown.moved.unwrap();
    assert_eq!(moved.policies.len(), 1, "what differs since it was asked for: {moved:?}");
    let base = shown.today.unwrap().unwrap().base;
    assert!(base > first.base);
    requests.approve(bob, first.id, base, "", None).await.unwrap();
    let here = [pair.external("test").await, pair.external("prod").await];
    assert_eq!(here, [Some(AccessRequirement::JwtWithApiKey), Some(AccessRequirement::Any)]);
}

#[tokio::test]
async fn of_two_decisions_at_once_one_counts() {
    let pair = Pair::start(BOTH).await;
    let carl = pair.world.account("system", "carl").await;
    let requests = pair.world.app.change_requests();
    let versions = async || pair.world.app.policies().versions(&pair.ann).await.unwrap().len();
    let before = versions().await;
    for (round, edit) in [tightening(), external(true, "test", "any")].iter().enumerate() {
        let asked = pair.ask(&pair.ann, Proposal::Policy { edit, if_match: None }).await.request.value;
        let (one, other, withdrawn) = tokio::join!(
            requests.approve(&pair.bob, asked.id, asked.base, "", None),
            requests.approve(&carl, asked.id, asked.base, "", None),
            requests.withdraw(&pair.ann, asked.id, "", None)
        );
        let won = [one.is_ok(), other.is_ok(), withdrawn.is_ok()];
        assert_eq!(won.iter().filter(|won| **won).count(), 1, "{won:?}");
        let state = requests.get(&pair.ann, asked.id).await.unwrap().request.value.state(pair.ann.now);
        let expected = if withdrawn.is_ok() { RequestState::Withdrawn } else { RequestState::Approved };
        assert_eq!(state, expected);
        assert!(versions().await <= before + round + 1);
        let error = pair.refused(&carl, asked.id).await;
        assert_eq!(error.code, "change-request-decided");
    }
}

#[tokio::test]
async fn a_request_ends_by_itself_and_by_rejection_and_makes_nothing() {
    let pair = Pair::start(BOTH).await;
    let requests = pair.world.app.change_requests();
    let asked = pair.asked().await.request.value;
    let late = |op: &Op| Op { now: asked.expires_at, ..op.clone() };
    assert_eq!(asked.expires_at.duration_since(asked.created_at), SignedDuration::from_hours(14 * 24));
    let error = requests.approve(&late(&pair.bob), asked.id, asked.base, "", None).await.unwrap_err();
    assert_eq!((error.kind, error.code), (ErrorKind::Conflict, "change-request-expired"));
    let list = async |op: &Op, state| requests.list(op, Some(state)).await.unwrap().len();
    assert_eq!(list(&late(&pair.bob), RequestState::Expired).await, 1);
    assert_eq!(list(&pair.bob, RequestState::Expired).await, 0);

    let error = requests.withdraw(&pair.bob, asked.id, "", None).await.unwrap_err();
    assert_eq!((error.kind, error.code), (ErrorKind::Forbidden, "change-request-not-own"));
    let error = requests.reject(&pair.bob, asked.id, "no\u{1b}[2J", None).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Invalid);
    let stale = requests.reject(&pair.bob, asked.id, "", Some(1)).await.unwrap_err();
    assert_eq!(stale.kind, ErrorKind::PreconditionFailed);
    requests.reject(&pair.bob, asked.id, "not before the holidays", None).await.unwrap();
    assert_eq!(list(&pair.bob, RequestState::Rejected).await, 1);
    let entry = pair.newest().await;
    assert_eq!((entry.actor.as_str(), entry.action.as_str()), ("bob", "change-request.reject"));
    assert!(entry.reason.ends_with("requested by ann, rejected by bob: not before the holidays"));
    assert_eq!(pair.refused(&pair.bob, asked.id).await.code, "change-request-decided");
    assert_eq!(pair.external("test").await, Some(AccessRequirement::ApiKey));
}

#[tokio::test]
async fn who_approves_needs_the_permission_of_the_change_too() {
    let pair = Pair::start(BOTH).await;
    let everything = Everything::new();
    let may_not = |permission| {
        let mut op = pair.bob.clone();
        op.actor = op.actor.without(permission);
        op
    };
    for (proposal, permission) in [
        (everything.proposals()[0], Permission::PolicyUpdate),
        (Proposal::Waiver(&everything.waivers[0]), Permission::WaiverCreate),
        (Proposal::Waiver(&everything.waivers[1]), Permission::WaiverEnd),
        (Proposal::CreateEnvironment(&everything.environment), Permission::EnvironmentCreate),
        (
            Proposal::DeleteEnvironment { name: &everything.staging, if_match: None },
            Permission::EnvironmentDelete,
        ),
        (Proposal::Settings { settings: &everything.settings, if_match: None }, Permission::RealmUpdate),
    ] {
        let mut asking = pair.ann.clone();
        asking.actor = asking.actor.without(permission);
        let asked = pair.world.app.change_requests().ask(&asking, proposal, "").await;
        assert_eq!(asked.unwrap_err().kind, ErrorKind::Forbidden, "{permission}");
        let id = pair.ask(&pair.ann, proposal).await.request.value.id;
        for permission in [permission, Permission::ChangeRequestApprove] {
            let error = pair.refused(&may_not(permission), id).await;
            assert_eq!(error.kind, ErrorKind::Forbidden, "{permission}");
            assert!(error.message.contains(permission.as_str()), "{error}");
        }
    }
}

#[tokio::test]
async fn what_could_not_be_saved_is_not_asked_for_either() {
    let pair = Pair::start(BOTH).await;
    let head = pair.world.store.head().await.unwrap();
    let requests = pair.world.app.change_requests();
    let mut missing = new_environment("other", "127.0.0.1:7004");
    missing.policies.clear();
    let test = EnvironmentName::test();
    let waiver = NewWaiver { reason: String::new(), ..new_waiver() };
    for (proposal, code) in [
        (Proposal::Policy { edit: &external(true, "nowhere", "any"), if_match: None }, "environment-unknown"),
        (
            Proposal::Policy { edit: &external(false, "test", "any"), if_match: None },
            "policy-environment-missing",
        ),
        (Proposal::Policy { edit: &rule("trigger.nothing"), if_match: None }, "rule-invalid"),
        (Proposal::Policy { edit: &tightening(), if_match: Some(1) }, "precondition-failed"),
        (
            Proposal::PromoteShadow(PromotionRead { policy_version: Some(Version::FIRST), revision: None }),
            "precondition-failed",
        ),
        (
            Proposal::PromoteShadow(PromotionRead { policy_version: None, revision: Some(1) }),
            "precondition-failed",
        ),
        (Proposal::CreateEnvironment(&missing), "policy-environment-missing"),
        (Proposal::DeleteEnvironment { name: &test, if_match: None }, "environment-in-use"),
        (Proposal::Waiver(&waiver), "invalid"),
        (
            Proposal::Settings { settings: &RealmSettings::default(), if_match: Some(1) },
            "precondition-failed",
        ),
    ] {
        let error = requests.ask(&pair.ann, proposal, "").await.unwrap_err();
        assert_eq!(error.code, code, "{proposal:?}");
    }
    let long = "x".repeat(1001);
    let error = requests
        .ask(&pair.ann, Proposal::Policy { edit: &tightening(), if_match: None }, &long)
        .await
        .unwrap_err();
    assert_eq!(error.kind, ErrorKind::Invalid);
    assert_eq!(pair.world.store.head().await.unwrap(), head);
}

#[tokio::test]
async fn the_same_is_asked_for_once_and_not_without_bound() {
    let pair = Pair::start(BOTH).await;
    let first = pair.asked().await;
    let again = pair.asked().await;
    assert_eq!((again.request.value.id, again.is_new), (first.request.value.id, false));
    let others = pair.ask(&pair.bob, Proposal::Policy { edit: &tightening(), if_match: None }).await;
    assert!(others.is_new, "what two ask for are two requests");

    let requests = pair.world.app.change_requests();
    for days in 101..=149_u16 {
        let settings: RealmSettings = serde_json::from_value(json!({ "maxWaiverDays": days })).unwrap();
        pair.ask(&pair.ann, Proposal::Settings { settings: &settings, if_match: None }).await;
    }
    let one_more = Proposal::Settings { settings: &RealmSettings::default(), if_match: None };
    let error = requests.ask(&pair.ann, one_more, "").await.unwrap_err();
    assert_eq!((error.kind, error.code), (ErrorKind::Conflict, "too-many-change-requests"));
    pair.ask(&pair.bob, one_more).await;
    requests.withdraw(&pair.ann, first.request.value.id, "", None).await.unwrap();
    pair.ask(&pair.ann, one_more).await;
}

#[tokio::test]
async fn a_waiver_that_was_approved_ends_when_it_was_asked_to_and_names_both() {
    let pair = Pair::start(BOTH).await;
    let waiver = new_waiver();
    let asked = pair.ask(&pair.ann, Proposal::Waiver(&waiver)).await;
    let impact = asked.preview.impact.unwrap();
    assert_eq!(impact.environments.iter().map(|it| it.comes_in.len()).sum::<usize>(), 0, "shop does not run");
    let day = SignedDuration::from_hours(24);
    let later = Op { now: pair.bob.now + day, ..pair.bob.clone() };
    pair.approve(&later, asked.request.value.id).await.unwrap();
    let waivers = pair.world.app.waivers().list(&pair.bob, &Default::default()).await.unwrap();
    let made = waivers.iter().map(|it| &it.value).find(|it| it.pipeline == pipeline("shop")).unwrap();
    assert_eq!((made.created_by.as_str(), made.approved_by.as_deref()), ("ann", Some("bob")));
    assert_eq!(made.until, pair.ann.now + day * 7, "not a week after it was approved");
    assert_eq!(made.reason, waiver.reason);
    // One that was asked for takes the place of what it was asked to, and one person ends it.
    pair.world.app.waivers().end(&pair.ann, made.id, None).await.unwrap();
}

#[tokio::test]
async fn a_realm_from_before_wants_no_second_person() {
    let stored =
        json!({ "name": "default", "createdAt": "2026-01-01T00:00:00Z", "settings": { "maxWaiverDays": 7 } });
    let realm: Realm = serde_json::from_value(stored.clone()).unwrap();
    assert!(realm.settings.four_eyes.is_off());
    assert_eq!(serde_json::to_value(&realm).unwrap(), stored, "and is written as before");
    let half = json!({ "maxWaiverDays": 7, "fourEyes": { "policies": true } });
    assert!(serde_json::from_value::<RealmSettings>(half).is_err(), "what is not said is not guessed");
}

#[tokio::test]
async fn what_waits_for_somebody_is_counted_until_it_is_decided_or_expires_and_never_their_own() {
    let pair = Pair::start(FourEyes { policies: true, waivers: true }).await;
    let requests = pair.world.app.change_requests();
    let waiting = async |op: &Op| requests.waiting_for(op).await.unwrap();
    let first = pair.asked().await.request.value.id;
    assert_eq!((waiting(&pair.ann).await, waiting(&pair.bob).await), (0, 1));
    let blind =
        Op { actor: pair.bob.actor.clone().without(Permission::ChangeRequestApprove), ..pair.bob.clone() };
    assert_eq!(
        (waiting(&blind).await, waiting(&pair.world.nobody()).await),
        (0, 0),
        "and nobody is refused a page"
    );
    let late = Op { now: pair.bob.now + LIFETIME, ..pair.bob.clone() };
    assert_eq!(waiting(&late).await, 0, "it has expired");
    let just = Op { now: pair.bob.now + LIFETIME - SignedDuration::from_secs(1), ..pair.bob.clone() };
    assert_eq!(waiting(&just).await, 1);
    requests.reject(&pair.bob, first, "no", None).await.unwrap();
    assert_eq!(waiting(&pair.bob).await, 0);
}
