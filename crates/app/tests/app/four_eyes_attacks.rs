//! Ways around four eyes that somebody with every permission but one person would try. Each ends where it began.

use jiff::SignedDuration;
use serde_json::json;
use tollgate_app::access::Op;
use tollgate_app::change_requests::{Proposal, end_four_eyes};
use tollgate_app::errors::ErrorKind;
use tollgate_app::policies::{PolicyEdit, PolicyValues};
use tollgate_app::shadow::PromotionRead;
use tollgate_app::waivers::{NewWaiver, WaiverEnd};
use tollgate_model::environments::{FourEyes, RealmSettings};
use tollgate_model::ids::RequestId;
use tollgate_model::names::{EnvironmentName, RealmName};
use tollgate_model::objects::Kind;
use tollgate_model::policies::AccessRequirement;

use crate::environments::new_environment;
use crate::four_eyes::{BOTH, Everything, Pair};
use crate::waivers::new_waiver;
use crate::world::{KEYED, OPEN, World, external, pipeline, tightening};

fn policy(edit: &PolicyEdit) -> Proposal<'_> {
    Proposal::Policy { edit, if_match: None }
}

fn named(op: &Op, name: &str) -> Op {
    let mut op = op.clone();
    op.actor.name = name.to_owned();
    op
}

#[tokio::test]
async fn the_author_approves_by_no_other_token_name_or_place_and_the_system_by_none() {
    let pair = Pair::start(BOTH).await;
    let id = pair.asked().await.request.value.id;
    let mut elsewhere = Op { source: "cli".to_owned(), ..pair.ann.clone() };
    elsewhere.request_id = RequestId::new(pair.ann.now, [9; 10]);
    // Another token of the same user is the same user; so is the user under a new name, be it that of somebody else.
    for op in [pair.ann.clone(), elsewhere, named(&pair.ann, "anna"), named(&pair.ann, "bob")] {
        let error = pair.refused(&op, id).await;
        assert_eq!((error.kind, error.code), (ErrorKind::Forbidden, "change-request-own"), "{op:?}");
        let error = pair.world.app.change_requests().reject(&op, id, "", None).await.unwrap_err();
        assert_eq!(error.code, "change-request-own", "the record would read as if somebody had looked");
    }
    let error = pair.refused(&pair.world.op, id).await;
    assert_eq!(error.kind, ErrorKind::Forbidden, "the system is nobody");
    let error =
        pair.world.app.change_requests().ask(&pair.world.op, policy(&tightening()), "").await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Forbidden);
    pair.approve(&pair.bob, id).await.unwrap();
}

#[tokio::test]
async fn one_person_neither_ends_four_eyes_nor_loosens_a_setting() {
    for four_eyes in
        [BOTH, FourEyes { policies: true, waivers: false }, FourEyes { policies: false, waivers: true }]
    {
        let pair = Pair::start(four_eyes).await;
        let longer: RealmSettings = serde_json::from_value(json!({ "maxWaiverDays": 365 })).unwrap();
        for settings in [
            RealmSettings::default(),
            RealmSettings { four_eyes, ..longer },
            RealmSettings { four_eyes: BOTH, ..RealmSettings::default() },
        ] {
            let error = pair.world.app.realms().update(&pair.ann, settings.clone(), None).await.unwrap_err();
            assert_eq!(error.code, "four-eyes");
            let asked = pair.ask(&pair.ann, Proposal::Settings { settings: &settings, if_match: None }).await;
            pair.refused(&pair.ann, asked.request.value.id).await;
        }
        let realm = pair.world.app.realms().get(&pair.ann).await.unwrap().value;
        assert_eq!(realm.settings, RealmSettings { four_eyes, ..RealmSettings::default() });
    }
}

#[tokio::test]
async fn turning_it_on_and_changing_the_policies_at_once_leaves_no_change_behind_it() {
    for _ in 0..4 {
        let pair = Pair::start(FourEyes::default()).await;
        let app = &pair.world.app;
        let settings = RealmSettings { four_eyes: BOTH, ..RealmSettings::default() };
        let (edit, waiver) = (tightening(), new_waiver());
        let (policies, realms, waivers) = (app.policies(), app.realms(), app.waivers());
        let (set, on, waived) = tokio::join!(
            policies.set(&pair.ann, &edit, "", None),
            realms.update(&pair.bob, settings, None),
            waivers.create(&pair.ann, waiver)
        );
        let on = on.unwrap().revision;
        assert!(
            set.is_err_and(|error| error.code == "four-eyes")
                || app.policies().get(&pair.ann).await.unwrap().revision < on
        );
        assert!(
            waived.is_err_and(|error| error.code == "four-eyes") || {
                let all = app.waivers().list(&pair.ann, &Default::default()).await.unwrap();
                all.iter().all(|waiver| waiver.revision < on)
            }
        );
    }
}

#[tokio::test]
async fn an_environment_is_not_made_or_made_again_with_weaker_values() {
    let pair = Pair::start(BOTH).await;
    let (environments, ann) = (pair.world.app.environments(), &pair.ann);
    let staging = EnvironmentName::parse("staging").unwrap();
    let mut open = new_environment("other", "127.0.0.1:7009");
    open.policies.values_mut().for_each(|value| *value = json!("any"));
    assert_eq!(environments.create(ann, open.clone()).await.unwrap_err().code, "four-eyes");
    assert_eq!(environments.delete(ann, &staging, None, "").await.unwrap_err().code, "four-eyes");

    // Both halves asked for: the second can't be approved before the first, and is judged by what there is then.
    let deletion = pair.ask(ann, Proposal::DeleteEnvironment { name: &staging, if_match: None }).await;
    open.name = staging.clone();
    let taken = pair.world.app.change_requests().ask(ann, Proposal::CreateEnvironment(&open), "").await;
    assert_eq!(taken.unwrap_err().code, "already-exists");
    // What comes to run there in between is not deleted along.
    pair.world.save("keyed", KEYED).await;
    pair.world.app.deployments().deploy(ann, &staging, &pipeline("keyed"), None, None).await.unwrap();
    assert_eq!(pair.refused(&pair.bob, deletion.request.value.id).await.code, "environment-in-use");
    assert_eq!(pair.external("staging").await, Some(AccessRequirement::ApiKey));
}

#[tokio::test]
async fn a_shadow_that_was_changed_after_the_promotion_was_asked_for_is_not_promoted() {
    let pair = Pair::start(BOTH).await;
    let (app, ann) = (&pair.world.app, &pair.ann);
    let asked = pair.ask(ann, Proposal::PromoteShadow(PromotionRead::default())).await.request.value;
    let PolicyEdit::Set(weaker) = external(true, "test", "any") else { panic!("values") };
    app.shadow().set(ann, &weaker, "", None).await.unwrap();
    assert_eq!(pair.refused(&pair.bob, asked.id).await.code, "shadow-changed");
    let shown = app.change_requests().get(&pair.bob, asked.id).await.unwrap();
    assert!(shown.today.is_some_and(|today| today.is_err_and(|error| error.code == "shadow-changed")));
    app.shadow().end(ann, None).await.unwrap();
    assert_eq!(pair.refused(&pair.bob, asked.id).await.kind, ErrorKind::NotFound);
    // Set as it was: what is promoted is what was asked for, and the base says that it was touched.
    let strict = PolicyValues {
        environments: [("test".parse().unwrap(), json!("jwt-with-api-key"))].into(),
        ..weaker
    };
    app.shadow().set(&pair.world.op, &strict, "see who is ready", None).await.unwrap();
    let error = app.change_requests().approve(&pair.bob, asked.id, asked.base, "", None).await.unwrap_err();
    assert_eq!(error.code, "base-changed");
    pair.approve(&pair.bob, asked.id).await.unwrap();
    assert_eq!(pair.external("test").await, Some(AccessRequirement::JwtWithApiKey));
}

#[tokio::test]
async fn a_waiver_that_was_asked_for_waives_no_other_pipeline_and_gets_no_other_end() {
    let pair = Pair::start(BOTH).await;
    let (app, ann) = (&pair.world.app, &pair.ann);
    let asked = pair.ask(ann, Proposal::Waiver(&new_waiver())).await.request.value;
    app.pipelines().delete(ann, &pipeline("shop"), None).await.unwrap();
    assert_eq!(pair.refused(&pair.bob, asked.id).await.kind, ErrorKind::NotFound);
    pair.world.save("shop", KEYED).await;
    assert_eq!(pair.refused(&pair.bob, asked.id).await.code, "waiver-unfounded");
    pair.world.save("shop", OPEN).await;
    let error = app.change_requests().approve(&pair.bob, asked.id, asked.base, "", None).await.unwrap_err();
    assert_eq!(error.code, "base-changed", "whoever approves it sees that the pipeline is another");

    let day = SignedDuration::from_hours(24);
    let short = NewWaiver { end: WaiverEnd::After(day), ..new_waiver() };
    let short = pair.ask(ann, Proposal::Waiver(&short)).await.request.value;
    let late = Op { now: pair.bob.now + day, ..pair.bob.clone() };
    assert_eq!(pair.refused(&late, short.id).await.code, "date-passed");
    // A replacement needs two, too; an end does not, and brings nothing back.
    let replace = NewWaiver { pipeline: pipeline("till"), replace: true, ..new_waiver() };
    assert_eq!(app.waivers().create(ann, replace).await.unwrap_err().code, "four-eyes");
}

#[tokio::test]
async fn a_request_is_approved_in_its_realm_only_and_a_new_realm_wants_four_eyes_as_well() {
    let pair = Pair::start(BOTH).await;
    let id = pair.asked().await.request.value.id;
    let other = RealmName::parse("other").unwrap();
    pair.world.app.realms().create(&pair.ann, other.clone()).await.unwrap();
    let there = |op: &Op| Op { realm: other.clone(), ..op.clone() };
    assert_eq!(pair.refused(&there(&pair.bob), id).await.kind, ErrorKind::NotFound);
    let set =
        pair.world.app.policies().set(&there(&pair.ann), &external(true, "test", "any"), "", None).await;
    assert_eq!(set.unwrap_err().code, "four-eyes");
    let off = pair.world.app.realms().update(&there(&pair.ann), RealmSettings::default(), None).await;
    assert_eq!(off.unwrap_err().code, "four-eyes");
    let asked = pair.ask(&there(&pair.ann), policy(&tightening())).await.request.value;
    pair.approve(&there(&pair.bob), asked.id).await.unwrap();
}

#[tokio::test]
async fn nobody_approves_with_an_account_that_one_of_them_made_or_holds() {
    let pair = Pair::start(BOTH).await;
    let world = &pair.world;
    let code = async |op: &Op, id| pair.refused(op, id).await.code;
    let (ann, bob) = (&pair.ann, &pair.bob);
    let asked = async |op: &Op, value: &str| {
        let edit = external(true, "prod", value);
        pair.ask(op, policy(&edit)).await.request.value.id
    };
    // Made by the author; made by what the author made; made by the approver; both made by a third.
    let pete = world.account("ann", "pete").await;
    let paul = world.account("pete", "paul").await;
    let (own, petes) = (asked(ann, "any").await, asked(&pete, "any").await);
    for (op, id) in [(&pete, own), (&paul, own), (ann, petes), (&paul, petes)] {
        assert_eq!(code(op, id).await, "not-independent", "{}", op.actor.name);
    }
    // A name that was given on does not help: accounts are told apart by id.
    world.delete_user("ann", "pete").await;
    let namesake = world.account("ann", "pete").await;
    assert_eq!(code(&namesake, own).await, "not-independent");
    // Whoever is renamed is who they were.
    let id = ann.actor.user.unwrap();
    world.delete_user("ann", "ann").await;
    world.write_user("ann", id, "anna").await;
    let polly = world.account("anna", "polly").await;
    assert_eq!(code(&polly, own).await, "not-independent");
    // Another's account, given a new password by the author.
    let carl = world.account("system", "carl").await;
    world.write_user("anna", carl.actor.user.unwrap(), "carl").await;
    assert_eq!(code(&carl, own).await, "not-independent");
    // Writing one's own account makes nobody dependent.
    world.write_user("bob", bob.actor.user.unwrap(), "bob").await;

    // Nor does it help to make a realm next: accounts count since the settings of `default` were set.
    let other = RealmName::parse("other").unwrap();
    world.app.realms().create(ann, other.clone()).await.unwrap();
    let there = |op: &Op| Op { realm: other.clone(), ..op.clone() };
    let id = asked(&there(ann), "any").await;
    assert_eq!(code(&there(&carl), id).await, "not-independent");
    // Nor to write the realm as it is, as imports of keys do.
    world.consumer("c").await;
    let test = &world.test;
    let key = crate::world::new_key();
    world
        .app
        .keys()
        .import(ann, test, &crate::world::consumer("c"), key, "from-another-system")
        .await
        .unwrap();
    assert_eq!(code(&carl, own).await, "not-independent");

    // Two who are independent take the accounts as they are when they set the settings.
    let settings = RealmSettings { four_eyes: BOTH, ..RealmSettings::default() };
    let confirm =
        pair.ask(ann, Proposal::Settings { settings: &settings, if_match: None }).await.request.value.id;
    assert_eq!(code(&carl, confirm).await, "not-independent");
    pair.approve(bob, confirm).await.unwrap();
    pair.approve(&carl, own).await.unwrap();
}

#[tokio::test]
async fn what_somebody_asked_for_who_is_gone_is_not_approved() {
    let pair = Pair::start(BOTH).await;
    let id = pair.asked().await.request.value.id;
    pair.world.delete_user("bob", "ann").await;
    assert_eq!(pair.refused(&pair.bob, id).await.code, "author-gone");
    // Somebody else of that name is not the author, neither to be approved for nor to withdraw.
    let namesake = pair.world.account("bob", "ann").await;
    assert_eq!(pair.refused(&pair.bob, id).await.code, "author-gone");
    let requests = pair.world.app.change_requests();
    let error = requests.withdraw(&namesake, id, "", None).await.unwrap_err();
    assert_eq!(error.code, "change-request-not-own");
    requests.reject(&pair.bob, id, "", None).await.unwrap();
}

#[tokio::test]
async fn what_was_approved_once_is_not_made_again() {
    let pair = Pair::start(BOTH).await;
    let weak = external(true, "test", "any");
    let asked = pair.ask(&pair.ann, policy(&weak)).await.request.value;
    pair.approve(&pair.bob, asked.id).await.unwrap();
    let back = pair.ask(&pair.bob, policy(&tightening())).await.request.value;
    pair.approve(&pair.ann, back.id).await.unwrap();
    for op in [&pair.ann, &pair.bob] {
        pair.refused(op, asked.id).await;
    }
    // To ask for the same again is a new request, which somebody must decide.
    let again = pair.ask(&pair.ann, policy(&weak)).await;
    assert!(again.is_new && again.request.value.id != asked.id);
    assert_eq!(pair.external("test").await, Some(AccessRequirement::JwtWithApiKey));
}

#[tokio::test]
async fn whatever_one_tries_and_asks_for_nothing_but_requests_is_stored() {
    let pair = Pair::start(BOTH).await;
    let head = pair.world.store.head().await.unwrap();
    let everything = Everything::new();
    for proposal in everything.proposals() {
        let _ = Everything::make(&pair.world, &pair.ann, proposal).await;
        pair.ask(&pair.ann, proposal).await;
    }
    let filter = tollgate_app::JournalFilter { after: Some(head), limit: 500, ..Default::default() };
    let entries = pair.world.app.journal().list(&pair.ann, filter).await.unwrap();
    let kinds = entries.iter().flat_map(|entry| entry.mutations.iter().map(|it| it.kind));
    assert_eq!(kinds.filter(|kind| *kind != Kind::ChangeRequest).count(), 0);
    assert_eq!(entries.len(), everything.proposals().len());
}

#[tokio::test]
async fn whoever_runs_the_machine_ends_it_with_a_reason_that_the_journal_keeps() {
    let pair = Pair::start(BOTH).await;
    let op = Op { source: "cli".to_owned(), ..named(&pair.world.op, "operator") };
    let store = &pair.world.store;
    let head = store.head().await.unwrap();
    assert_eq!(end_four_eyes(store, &op, " ").await.unwrap_err().kind, ErrorKind::Invalid);
    let nowhere = Op { realm: RealmName::parse("nowhere").unwrap(), ..op.clone() };
    assert_eq!(end_four_eyes(store, &nowhere, "why").await.unwrap_err().kind, ErrorKind::NotFound);
    assert_eq!(store.head().await.unwrap(), head);
    assert_eq!(end_four_eyes(store, &op, "bob has left").await.unwrap(), BOTH);
    let entry = pair.newest().await;
    assert_eq!(
        (entry.actor.as_str(), entry.source.as_str(), entry.action.as_str(), entry.reason.as_str()),
        ("operator", "cli", "realm.end-four-eyes", "bob has left")
    );
    assert_eq!(end_four_eyes(store, &op, "again").await.unwrap_err().code, "four-eyes-off");
    pair.world.app.policies().set(&pair.ann, &tightening(), "", None).await.unwrap();
}

#[tokio::test]
async fn one_person_can_still_stop_what_runs() {
    let pair = Pair::start(BOTH).await;
    let World { app, test, .. } = &pair.world;
    let waivers = app.waivers().list(&pair.ann, &Default::default()).await.unwrap();
    app.waivers().end(&pair.ann, waivers[0].value.id, None).await.unwrap();
    app.deployments().undeploy(&pair.ann, test, &pipeline("till"), None, None).await.unwrap();
    app.pipelines().delete(&pair.ann, &pipeline("till"), None).await.unwrap();
    app.shadow().end(&pair.ann, None).await.unwrap();
}
