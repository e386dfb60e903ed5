//! Every use case refuses somebody without permissions, and changes nothing for them.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use tollgate_app::JournalFilter;
use tollgate_app::access::Permission;
use tollgate_app::accounts::AccountFields;
use tollgate_app::attestations::Which;
use tollgate_app::calls::Days;
use tollgate_app::certificates::NewCertificate;
use tollgate_app::change_requests::Proposal;
use tollgate_app::errors::{Error, ErrorKind};
use tollgate_app::groups::GroupEdit;
use tollgate_app::lists::ListRequest;
use tollgate_app::refused_calls::RefusalFilter;
use tollgate_app::users::NewUser;
use tollgate_app::users::{NewPassword, NewToken};
use tollgate_app::waivers::WaiverFilter;
use tollgate_model::certificates::{Fingerprint, KnownBy};
use tollgate_model::environments::RealmSettings;
use tollgate_model::ids::{BasicAuthId, CertificateId, ChangeRequestId, KeyId, UserTokenId, WaiverId};
use tollgate_model::names::{ProjectName, RealmName, RuleName, UserName, ValueName};
use tollgate_model::versions::Version;

use crate::calls::every_call;
use crate::environments::new_environment;
use crate::people::{add, grant, group_file, group_name, own_role, role_name, user_name};
use crate::refused_calls::any_call;
use crate::shadow::shadowed;
use crate::waivers::new_waiver;
use crate::world::{KEYED, World, consumer, document, new_consumer, new_key, pipeline, tightening};

#[tokio::test]
async fn nobody_may_do_anything_without_permission() {
    let world = World::start().await;
    world.save("shop", KEYED).await;
    world.consumer("ann").await;
    let mut outcomes: BTreeMap<&str, Option<ErrorKind>> = BTreeMap::new();

    let (op, app, test) = (&world.nobody(), &world.app, &world.test);
    let (shop, ann, crm) = (&pipeline("shop"), &consumer("ann"), &ValueName::parse("crm").unwrap());
    let at = Timestamp::UNIX_EPOCH;
    let (key, basic) = (KeyId::new(at, [0; 10]), BasicAuthId::new(at, [0; 10]));
    let known_by = KnownBy::Fingerprint(Fingerprint([0; 32]));
    let certificate = NewCertificate { name: new_key().name, known_by, expires_at: None };
    let (change, waiver) = (ChangeRequestId::new(at, [0; 10]), WaiverId::new(at, [0; 10]));
    let page = ListRequest::default;
    let names = || BTreeSet::from([pipeline("shop")]);
    let rule = &RuleName::parse("a-rule").unwrap();
    let (team, ada) = (&group_name("team"), &user_name("ada"));
    let project = &ProjectName::parse("store").unwrap();
    // Somebody's session, which the operation was not asked for with.
    let me = &world.first_admin().await.1;
    let before = world.store.head().await.unwrap();
    let (admin, session) = (&UserName::parse("admin").unwrap(), UserTokenId::new(at, [0; 10]));
    let new_password = NewPassword { current: "x", new: "y", end_api_tokens: false };
    macro_rules! try_each {
        ($($resource:ident.$method:ident($($argument:expr),*);)*) => {
            $({
                let outcome: Result<_, Error> = app.$resource().$method(op, $($argument),*).await;
                let call = concat!(stringify!($resource), ".", stringify!($method));
                outcomes.insert(call, outcome.err().map(|error| error.kind));
            })*
        };
    }
    try_each! {
        accounts.list(test);
        accounts.set(test, crm.clone(), AccountFields::default(), None);
        accounts.delete(test, crm, None);
        attestations.list(None, None, page());
        attestations.get(test, shop, Which::Running(None));
        basic_auth.list(test, ann);
        basic_auth.create(test, ann, "ann", None);
        basic_auth.revoke(test, basic);
        certificates.list(test, ann);
        certificates.create(test, ann, certificate.clone());
        certificates.revoke(test, CertificateId::new(at, [0; 10]));
        calls.report(&every_call());
        calls.of_impact(&[], Days::parse(None).unwrap());
        change_requests.list(None);
        change_requests.get(change);
        change_requests.ask(Proposal::Policy { edit: &tightening(), if_match: None }, "");
        change_requests.approve(change, 1, "", None);
        change_requests.reject(change, "", None);
        change_requests.withdraw(change, "", None);
        conformance.report(None);
        consumers.create(new_consumer("bob"));
        consumers.list(test, page());
        consumers.get(test, ann);
        consumers.associate(test, ann, names(), None);
        consumers.dissociate(test, ann, names(), None);
        consumers.revoke_tokens(test, ann, None);
        consumers.delete(test, ann, None);
        deployments.deploy(test, shop, None, None);
        deployments.promote(shop, test, test, None);
        deployments.rollback(test, shop, None, None);
        deployments.rollback_candidates(test, shop, None);
        deployments.deploy_dry_run(test, shop, None, None);
        deployments.promote_dry_run(shop, test, test, None);
        deployments.rollback_dry_run(test, shop, None, None);
        deployments.undeploy(test, shop, None, None);
        deployments.list(None);
        deployments.get(test, shop, None);
        deployments.history(test, shop);
        environments.list();
        environments.get(test);
        environments.create(new_environment("staging", "127.0.0.1:7003"));
        environments.delete(test, None, "");
        environments.projects();
        evidence.keys();
        evidence.initialise();
        evidence.rotate();
        evidence.checkpoint();
        evidence.newest_checkpoint();
        evidence.verify(None);
        evidence.accept_loss("a restored backup");
        explanations.explain(&any_call());
        explanations.listeners();
        globals.list(test);
        globals.set(test, crm.clone(), 1.into(), None);
        globals.delete(test, crm, None);
        groups.list();
        groups.get(team);
        groups.create(&group_file("team", &[], &[]));
        groups.put(&group_file("team", &[], &[]), None);
        groups.edit(team, &add("ada"), None);
        groups.edit(team, &GroupEdit::Grant(grant("administrator")), None);
        groups.delete(team, None);
        journal.entry(1);
        journal.export(JournalFilter::default(), true);
        journal.list(JournalFilter::default());
        journal.verify();
        keys.list(test, ann);
        keys.create(test, ann, new_key());
        keys.import(test, ann, new_key(), "from-another-system");
        keys.rotate(test, key, 60, None);
        keys.identify(test, &[]);
        keys.revoke(test, key);
        pipelines.save(document("other", KEYED));
        pipelines.get(shop);
        pipelines.list(page());
        pipelines.list_of_project(project, page());
        pipelines.versions(shop);
        pipelines.version(shop, Version::FIRST);
        pipelines.delete(shop, None);
        pipelines.mend(shop, test, false);
        policies.get();
        policies.versions();
        policies.version(Version::FIRST);
        policies.diff(Version::FIRST, None);
        policies.impact(&tightening());
        policies.set(&tightening(), "", None);
        reach.callers(shop, None);
        reach.of_consumer(test, ann);
        reach.unused(Days::parse(None).unwrap(), None);
        realms.list();
        realms.create(RealmName::parse("other").unwrap());
        realms.initialise();
        realms.get();
        realms.update(RealmSettings::default(), None);
        refused_calls.get(op.request_id);
        refused_calls.list(&RefusalFilter::default(), page());
        realms.update_because(RealmSettings::default(), "", None);
        roles.list();
        roles.get(&role_name("viewer"));
        roles.create(&own_role("mine", [Permission::UserRead]));
        roles.put(&own_role("mine", [Permission::UserRead]), None);
        roles.delete(&role_name("mine"), None);
        schedule.runs(test, shop, None);
        shadow.set(&shadowed(), "", None);
        shadow.remove_rule(rule, "", None);
        shadow.report();
        shadow.promote("", None, None);
        shadow.end(None);
        signing_keys.list(test);
        signing_keys.rotate(test, None, 60);
        signing_keys.revoke(test, "kid");
        signing_keys.revoke_token(test, "jti", None);
        signing_keys.inspect(test, "token");
        waivers.list(&WaiverFilter::default());
        waivers.get(waiver);
        waivers.create(new_waiver());
        waivers.end(waiver, None);
        users.create_first_admin(None);
        users.list();
        users.get(ada);
        users.create(NewUser { name: ada.clone(), password: None, groups: BTreeSet::new() });
        users.disable(ada, None);
        users.enable(ada, None);
        users.reset_password(ada, None);
        users.end_sessions(ada);
        users.delete(ada, None);
        users.rights(ada);
        users.tokens();
        users.create_token(me, NewToken::default());
        users.delete_token(me, session);
        users.sign_out(me);
        users.sessions(me);
        users.end_session(me, session);
        users.end_other_sessions(me);
        users.sessions_of(admin);
        users.end_session_of(admin, session);
        users.end_sessions_of(admin);
        users.change_password(me, &new_password);
        users.second_factor(me);
        users.enrol_second_factor(me, "password");
        users.confirm_second_factor(me, "123456");
        users.remove_second_factor(me, "password", "123456");
        users.renew_recovery_codes(me, "password", "123456");
        users.reset_second_factor(admin);
        users.recover(admin, false);
    }

    outcomes.retain(|_, kind| *kind != Some(ErrorKind::Forbidden));
    assert_eq!(outcomes, BTreeMap::new());
    assert_eq!(world.store.head().await.unwrap(), before);
}

#[tokio::test]
async fn a_first_key_needs_the_permission_to_create_keys_too() {
    let world = World::start().await;
    let op = world.without(Permission::ApiKeyCreate);
    let error = world.app.consumers().create(&op, new_consumer("ann")).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Forbidden);
}
