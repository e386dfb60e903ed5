//! Users, groups, roles, environments and settings, and what of them is shown to whom.

use tollgate_app::access::Permission;
use tollgate_app::{JournalFilter, Outcome};
use tollgate_model::names::{GroupName, RealmName, RoleName, UserName};

use crate::world::{PASSWORD, World};

const REALM: &str = "/realms/default";

/// Pages that take a permission that a viewer lacks.
const CLOSED: [(&str, &str); 14] = [
    ("users", "user:read"),
    ("users/admin", "user:read"),
    ("new-user", "user:create"),
    ("groups", "group:read"),
    ("groups/administrators", "group:read"),
    ("new-group", "group:create"),
    ("roles", "role:read"),
    ("new-role", "role:create"),
    ("tokens", "user-token:read"),
    ("new-environment", "environment:create"),
    ("new-issuer?environment=test", "issuer:update"),
    ("audit", "audit:read"),
    ("audit/1", "audit:read"),
    ("audit/export?format=csv", "audit:read"),
];

/// Forms that change something, each with what it takes.
const FORMS: [(&str, &[(&str, &str)]); 32] = [
    ("users", &[("name", "eve")]),
    ("users/admin/disable", &[]),
    ("users/admin/enable", &[]),
    ("users/admin/reset-password", &[]),
    ("users/admin/reset-second-factor", &[]),
    ("users/admin/sessions/end-all", &[]),
    ("users/admin/tokens/end-all", &[]),
    ("users/admin/delete", &[]),
    ("users/ada/groups/join", &[("group", "administrators")]),
    ("users/admin/groups/leave", &[("group", "administrators")]),
    ("groups", &[("name", "mine")]),
    ("groups/administrators/members/add", &[("user", "ada")]),
    ("groups/administrators/members/remove", &[("user", "admin")]),
    ("groups/viewers/grants/add", &[("role", "administrator")]),
    ("groups/administrators/grants/remove", &[("role", "administrator")]),
    ("groups/viewers/delete", &[]),
    ("roles", &[("name", "mine"), ("permission", "user:delete")]),
    (
        "environments",
        &[
            ("name", "mine"),
            ("external", "127.0.0.1:7999"),
            ("external-api-access", "any"),
            ("internal-api-access", "any"),
        ],
    ),
    ("environments/test/delete", &[("confirmation", "test")]),
    ("settings", &[("revision", "1"), ("days", "365")]),
    ("audit/verify", &[]),
    ("tokens/revoke", &[("id", "utk_01a20b6db916733abfb8ee4528c1c378")]),
    ("issuers", &[("environment", "test"), ("name", "Not a name")]),
    ("issuers/test/corp", &[("revision", "1")]),
    ("issuers/test/corp/refresh", &[]),
    ("issuers/test/corp/delete", &[("revision", "1")]),
    ("globals", &[("environment", "test"), ("name", "region"), ("value", "eu")]),
    ("globals/delete", &[("environment", "test"), ("name", "region")]),
    (
        "accounts",
        &[
            ("environment", "test"),
            ("name", "crm"),
            ("field.0", "token"),
            ("secret.0", "s"),
            ("kept_as.0", "hash"),
        ],
    ),
    ("accounts/delete", &[("environment", "test"), ("name", "crm")]),
    (
        "consumers/test/shop/certificates",
        &[
            ("name", "web"),
            ("certificate", "0000000000000000000000000000000000000000000000000000000000000000"),
        ],
    ),
    ("consumers/test/shop/certificates/crt_01a20f1e149277a5bb4a865900e000ac/revoke", &[]),
];

/// Returns the numbers of the entries that changed something.
async fn changes(world: &World) -> Vec<u64> {
    let filter = JournalFilter { outcome: Some(Outcome::Done), limit: 500, ..JournalFilter::default() };
    let entries = world.app.journal().list(&world.op, filter).await.expect("reads");
    entries.iter().map(|entry| entry.seq).collect()
}

#[tokio::test]
async fn whoever_may_not_sees_nothing_by_url_changes_nothing_and_is_told_what_is_missing() {
    let world = World::start().await;
    world.group("viewers", "viewer").await;
    for (name, groups) in [("ada", &["viewers"][..]), ("bob", &[])] {
        let cookie = world.person(name, groups).await;
        for (page, permission) in CLOSED {
            let reply = world.get_as(&cookie, &format!("{REALM}/{page}")).await;
            assert_eq!(reply.status, 403, "{name} {page}");
            assert!(reply.text.contains(permission), "{page}: {}", reply.text);
            assert!(!reply.text.contains("admin<") && !reply.text.contains("viewers"), "{page}");
        }
        let before = changes(&world).await;
        for (form, fields) in FORMS {
            let reply = world.post_as(&cookie, &format!("{REALM}/{form}"), fields).await;
            assert_eq!(reply.status, 403, "{name} {form}: {}", reply.text);
        }
        assert_eq!(changes(&world).await, before);
    }
}

#[tokio::test]
async fn navigation_offers_what_somebody_may_open() {
    let world = World::start().await;
    world.group("viewers", "viewer").await;
    let viewer = world.person("ada", &["viewers"]).await;
    let nobody = world.person("bob", &[]).await;
    let offers = async |cookie: &str| {
        let page = world.get_as(cookie, &format!("{REALM}/account")).await.text;
        let nav = page
            .split("aria-label=\"Main\">")
            .nth(1)
            .and_then(|rest| rest.split("</nav>").next())
            .expect("a nav");
        nav.split("href=\"/realms/default/")
            .skip(1)
            .map(|rest| rest.split('"').next().unwrap_or_default().to_owned())
            .collect::<Vec<_>>()
    };
    let all = offers(&world.cookie).await;
    for section in [
        "users",
        "groups",
        "roles",
        "tokens",
        "environments",
        "settings",
        "audit",
        "change-requests",
        "policies",
    ] {
        assert!(all.iter().any(|it| it == section), "{section}: {all:?}");
    }
    let seen = offers(&viewer).await;
    assert!(
        seen.iter().any(|it| it == "policies")
            && !seen.iter().any(|it| it == "users" || it == "audit" || it == "accounts"),
        "{seen:?}"
    );
    for (cookie, home) in [(&world.cookie, "overview"), (&viewer, "overview"), (&nobody, "account")] {
        let sent = world.get_as(cookie, "/").await;
        assert_eq!(sent.header("location"), format!("{REALM}/{home}"));
        assert_eq!(
            world.get_as(cookie, sent.header("location")).await.status,
            200,
            "nobody is sent to a closed door"
        );
    }
    let none = offers(&nobody).await;
    assert!(!none.iter().any(|it| it == "policies" || it == "pipelines" || it == "settings"), "{none:?}");
}

#[tokio::test]
async fn an_administrator_of_another_realm_has_no_users_to_manage() {
    let world = World::start().await;
    let (realm, group) =
        (RealmName::parse("acme").expect("a name"), GroupName::parse("administrators").expect("a name"));
    world.app.realms().create(&world.op, realm.clone()).await.expect("a realm");
    let cookie = world.person("ada", &[]).await;
    let there = world.app.realms().enter(&world.op, realm).await.expect("enters");
    let add = tollgate_app::groups::GroupEdit::Add([UserName::parse("ada").expect("a name")].into());
    world.app.groups().edit(&there, &group, &add, None).await.expect("added");

    let page = world.get_as(&cookie, "/realms/acme/groups/administrators").await;
    assert_eq!(page.status, 200, "{}", page.text);
    assert!(
        !page.text.contains("/realms/acme/users\"") && !page.text.contains("<option value=\"admin\">"),
        "{}",
        page.text
    );
    assert_eq!(world.get_as(&cookie, "/realms/acme/audit").await.status, 200);
    assert_eq!(world.get_as(&cookie, "/").await.header("location"), "/realms/acme/overview");
    for path in
        ["/realms/acme/users", "/realms/acme/users/admin", "/realms/default/users", "/realms/default/groups"]
    {
        let reply = world.get_as(&cookie, path).await;
        assert_eq!(reply.status, 403, "{path}: {}", reply.text);
    }
    let reset = world.post_as(&cookie, "/realms/acme/users/admin/reset-password", &[]).await;
    assert_eq!(reset.status, 403, "{}", reset.text);
    world.sign_in("admin", PASSWORD).await;
    let settings = world.get_as(&cookie, "/realms/acme/settings").await.text;
    assert!(!settings.contains("second_factor"), "users live elsewhere: {settings}");
}

#[tokio::test]
async fn a_user_from_being_made_to_being_deleted() {
    let world = World::start().await;
    world.group("viewers", "viewer").await;
    for (name, words) in
        [("admin", "There is a user"), ("system", "No user can be called"), ("a b", "id=\"name-problem\"")]
    {
        let refused = world.post(&format!("{REALM}/users"), &[("name", name)]).await;
        assert!((409..=422).contains(&refused.status), "{name}: {}", refused.status);
        assert!(
            refused.text.contains(words) && refused.text.contains("id=\"name-problem\""),
            "{name}: {}",
            refused.text
        );
    }
    let made = world.post(&format!("{REALM}/users"), &[("name", "ada"), ("group", "viewers")]).await;
    assert!(made.text.contains("Temporary password of ada"), "{}", made.text);
    let list = world.get(&format!("{REALM}/users?q=AD")).await.text;
    assert!(
        list.contains(">ada<")
            && list.contains(">admin<")
            && list.contains("viewers")
            && list.contains("temporary password"),
        "{list}"
    );
    assert!(world.get(&format!("{REALM}/users?q=x%22%3E")).await.text.contains("Nobody is called like"));

    let at = |what: &str| format!("{REALM}/users/ada/{what}");
    let done = async |what: &str, fields: &[(&str, &str)]| {
        let reply = world.post(&at(what), fields).await;
        assert_eq!(reply.status, 303, "{what}: {}", reply.text);
        world.get(reply.header("location")).await.text
    };
    assert!(done("disable", &[]).await.contains("disabled"));
    assert!(done("enable", &[]).await.contains("They can sign in again"));
    assert!(!done("groups/leave", &[("group", "viewers")]).await.contains("groups/viewers"));
    assert!(done("groups/join", &[("group", "viewers")]).await.contains("pipeline:read"));
    let none = world.post(&at("reset-second-factor"), &[]).await;
    assert_eq!(none.status, 409);
    assert!(none.text.contains("has no second factor"), "{}", none.text);
    let reset = world.post(&at("reset-password"), &[]).await.text;
    let temporary =
        reset.split("<code id=\"password\">").nth(1).and_then(|rest| rest.split('<').next()).expect("shown");
    let theirs = world.sign_in("ada", temporary).await;
    assert!(done("sessions/end-all", &[]).await.contains("signed in nowhere"));
    for page in [REALM, "/"] {
        assert!(world.get_as(&theirs, page).await.header("location").starts_with("/sign-in"), "{page}");
    }

    let own = world.post(&format!("{REALM}/users/admin/disable"), &[]).await;
    assert_eq!(own.status, 409);
    assert!(own.text.contains("role=\"alert\"") && own.text.contains("administrator"), "{}", own.text);
    assert_eq!(world.post(&at("delete"), &[]).await.header("location"), "/realms/default/users");
    assert_eq!(world.get(&format!("{REALM}/users/ada")).await.status, 404);
}

#[tokio::test]
async fn a_group_grants_within_limits_what_whoever_changes_it_has() {
    let world = World::start().await;
    world.group("access", "access-manager").await;
    let manager = world.person("ada", &["access"]).await;
    let made = world
        .post_as(
            &manager,
            &format!("{REALM}/groups"),
            &[("name", "store-developers"), ("description", "the shop")],
        )
        .await;
    assert_eq!(
        made.header("location"),
        "/realms/default/groups/store-developers?done=create",
        "{}",
        made.text
    );
    let page = world.get_as(&manager, made.header("location")).await.text;
    assert!(
        page.contains("Nobody is in it yet")
            && page.contains("administrator: everything (more than you have)"),
        "{page}"
    );
    let at = |what: &str| format!("{REALM}/groups/store-developers/{what}");
    let grant = [("role", "developer"), ("environment", "test"), ("project", "store, web")];
    let refused = world.post_as(&manager, &at("grants/add"), &grant).await;
    assert_eq!(refused.status, 403, "{}", refused.text);
    assert!(
        refused.text.contains("id=\"role-problem\"")
            && refused.text.contains("rights that you do not have yourself"),
        "{}",
        refused.text
    );
    let granted = world.post(&at("grants/add"), &grant).await;
    assert_eq!(granted.status, 303, "{}", granted.text);
    let page = world.get(granted.header("location")).await.text;
    assert!(
        page.contains("in test for store, web") && page.contains("for nothing"),
        "limits without effect are told: {page}"
    );
    for (field, value, problem) in [("project", "No Such", "project"), ("role", "none", "role")] {
        let fields = [("role", "developer"), (field, value)];
        let fields = if field == "role" { &fields[1..] } else { &fields[..] };
        let wrong = world.post(&at("grants/add"), fields).await;
        assert!(wrong.text.contains(&format!("id=\"{problem}-problem\"")), "{field}: {}", wrong.text);
    }
    let nobody = world.post(&at("members/add"), &[("user", "nobody-there")]).await;
    assert_eq!(nobody.status, 404);
    assert!(nobody.text.contains("id=\"user-problem\""), "{}", nobody.text);
    assert_eq!(world.post(&at("members/add"), &[("user", "ada")]).await.status, 303);
    let last =
        world.post(&format!("{REALM}/groups/administrators/members/remove"), &[("user", "admin")]).await;
    assert_eq!(last.status, 409, "{}", last.text);
    assert!(last.text.contains("id=\"members-problem\""), "{}", last.text);
    let revision =
        page.split("name=\"revision\" value=\"").nth(1).and_then(|rest| rest.split('"').next()).expect("one");
    let late = world.post(&at("describe"), &[("description", "mine"), ("revision", revision)]).await;
    assert_eq!(late.status, 412, "somebody else was faster");
    assert!(late.text.contains("value=\"mine\""), "what was written stays: {}", late.text);
    let away = [("role", "developer"), ("environment", "test"), ("project", "store,web")];
    assert_eq!(world.post(&at("grants/remove"), &away).await.status, 303);
    assert_eq!(world.post(&at("delete"), &[]).await.status, 303);
}

#[tokio::test]
async fn a_role_has_what_is_ticked_and_never_more_than_whoever_makes_it() {
    let world = World::start().await;
    world.group("access", "access-manager").await;
    let manager = world.person("ada", &["access"]).await;
    let page = world.get_as(&manager, &format!("{REALM}/new-role")).await.text;
    assert!(page.contains("value=\"group:update\"") && !page.contains("value=\"policy:update\""), "{page}");
    assert!(page.contains("policy:update you do not have it in the whole realm yourself"), "{page}");
    let form = |permission| [("name", "helper"), ("description", ""), ("permission", permission)];
    let forged = world.post_as(&manager, &format!("{REALM}/roles"), &form("policy:update")).await;
    assert_eq!(forged.status, 403, "{}", forged.text);
    assert!(forged.text.contains("id=\"permissions-problem\""), "{}", forged.text);
    assert_eq!(
        world.post(&format!("{REALM}/roles"), &[("name", "helper")]).await.status,
        422,
        "it allows nothing"
    );
    let made = world.post_as(&manager, &format!("{REALM}/roles"), &form("group:read")).await;
    assert_eq!(made.status, 303, "{}", made.text);
    let path = format!("{REALM}/roles/helper");
    let shown = world.get(&path).await.text;
    let revision = shown
        .split("name=\"revision\" value=\"")
        .nth(1)
        .and_then(|rest| rest.split('"').next())
        .expect("one");
    let more = [("revision", revision), ("description", "sets policies"), ("permission", "policy:update")];
    assert_eq!(world.post(&path, &more).await.status, 303);
    assert_eq!(world.post(&path, &more).await.status, 412, "somebody else was faster");
    let locked = world.get_as(&manager, &path).await.text;
    assert!(locked.contains("You cannot change it") && !locked.contains("type=\"checkbox\""), "{locked}");
    let role =
        world.app.roles().get(&world.op, &RoleName::parse("helper").expect("a name")).await.expect("there");
    assert_eq!(role.role.permissions.into_iter().collect::<Vec<_>>(), [Permission::PolicyUpdate]);
    let built_in = world.get(&format!("{REALM}/roles/viewer")).await.text;
    assert!(built_in.contains("never changes") && !built_in.contains("type=\"checkbox\""), "{built_in}");
    assert_eq!(world.post(&format!("{REALM}/roles/viewer"), &more).await.status, 409);
    assert_eq!(world.post(&format!("{path}/delete"), &[]).await.status, 303);
}

#[tokio::test]
async fn an_environment_is_made_with_all_its_values_and_deleted_when_its_name_is_typed() {
    let world = World::start().await;
    let path = format!("{REALM}/environments");
    let form = |name, external| {
        [
            ("name", name),
            ("external", external),
            ("external-api-access", "any"),
            ("internal-api-access", "api-key"),
        ]
    };
    for (fields, field) in [
        (form("Not A Name", "127.0.0.1:7003"), "name"),
        (form("staging", ""), "external"),
        (form("staging", "nowhere"), "external"),
        (form("prod", "127.0.0.1:7003"), "name"),
    ] {
        let refused = world.post(&path, &fields).await;
        assert!((409..=422).contains(&refused.status), "{fields:?}: {}", refused.status);
        assert!(refused.text.contains(&format!("id=\"{field}-problem\"")), "{fields:?}: {}", refused.text);
    }
    let made = world.post(&path, &form("staging", "127.0.0.1:7003")).await;
    assert_eq!(made.status, 303, "{}", made.text);
    let page = world.get(made.header("location")).await.text;
    assert!(page.contains("127.0.0.1:7003") && page.contains("staging"), "{page}");
    assert!(!page.contains("environments/test/delete"), "test always exists");
    let delete = format!("{path}/staging/delete");
    let untyped = world.post(&delete, &[("confirmation", "stagin")]).await;
    assert_eq!(untyped.status, 422);
    assert!(
        untyped.text.contains("type the name of the environment")
            && untyped.text.contains("<details class=\"confirm\" open>"),
        "{}",
        untyped.text
    );
    assert_eq!(world.post(&delete, &[("confirmation", "staging")]).await.status, 303);
    assert!(!world.get(&path).await.text.contains("staging"));
}

#[tokio::test]
async fn settings_are_checked_at_their_fields_and_a_second_factor_is_demanded_by_who_has_one() {
    let world = World::start().await;
    let path = format!("{REALM}/settings");
    let revision = world.app.realms().get(&world.op).await.expect("a realm").revision.to_string();
    for (fields, field) in [
        (vec![("days", "0")], "days"),
        (vec![("days", "many")], "days"),
        (vec![("days", "30"), ("second_factor", "on")], "second_factor"),
    ] {
        let refused = world.post(&path, &[&[("revision", revision.as_str())][..], &fields].concat()).await;
        assert!((409..=422).contains(&refused.status), "{fields:?}: {}", refused.status);
        assert!(refused.text.contains(&format!("id=\"{field}-problem\"")), "{fields:?}: {}", refused.text);
    }
    let set = [("revision", revision.as_str()), ("days", "14"), ("reason", "shorter")];
    let saved = world.post(&path, &set).await;
    assert_eq!(saved.header("location"), "/realms/default/settings?done=saved", "{}", saved.text);
    assert_eq!(world.post(&path, &set).await.status, 412, "somebody else was faster");
    assert_eq!(
        world.app.realms().get(&world.op).await.expect("a realm").value.settings.max_waiver_days.get(),
        14
    );
}

#[tokio::test]
async fn what_went_wrong_links_to_the_page_that_helps_in_this_realm_and_speaks_of_no_command() {
    let world = World::start().await;
    for (page, link, label) in [
        ("users/nobody-here", "/realms/default/users", "Users"),
        ("pipelines/none", "/realms/default/new-pipeline", "New pipeline"),
        ("policy-versions/9.9", "/realms/default/policy-versions", "Policy versions"),
    ] {
        let reply = world.get(&format!("{REALM}/{page}")).await;
        assert_eq!(reply.status, 404, "{page}");
        assert!(reply.text.contains(&format!("href=\"{link}\">{label}</a>")), "{page}: {}", reply.text);
        assert!(!reply.text.contains("`tollgate"), "{page}: {}", reply.text);
    }
    let elsewhere = world.get("/realms/acme/pipelines/none").await;
    assert!(!elsewhere.text.contains("/realms/default/"), "{}", elsewhere.text);
}

#[tokio::test]
async fn a_browser_comes_back_to_the_realm_that_it_was_in_last_and_to_none_where_it_may_nothing() {
    let world = World::start().await;
    let acme = RealmName::parse("acme").expect("a name");
    world.app.realms().create(&world.op, acme).await.expect("makes it");
    let last = |name: &str| format!("{}; tollgate_realm={name}", world.cookie);
    let home = async |cookie: &str| world.get_as(cookie, "/").await.header("location").to_owned();
    assert_eq!(home(&last("default")).await, "/realms/default/overview");
    assert_eq!(home(&last("none-such")).await, "/realms/default/overview");
    let there = world.get("/realms/default/overview").await;
    assert!(there.header("set-cookie").contains("tollgate_realm=default; Path=/; HttpOnly; SameSite=Strict"));
    let failed = world.get("/realms/default/pipelines/none").await;
    assert_eq!(failed.header("set-cookie"), "", "what was not shown is not remembered");
}
