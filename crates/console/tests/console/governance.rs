//! Rules, the values of policies, shadows; and what is shown to whom was overtaken.

use crate::world::World;

const ENFORCEMENT: &str = "/realms/default/policy-values/enforcement";

async fn revision(world: &World) -> String {
    world.app.policies().get(&world.op).await.expect("policies").revision.to_string()
}

async fn running(world: &World) {
    let document = "kind: Pipeline\nname: orders\nproject: store\ntrigger: { type: rest, externalApi: true, apiKey: true }\nsteps: [{ json: 1 }]\n";
    let input = tollgate_app::pipelines::SavePipeline { document: document.to_owned(), ..Default::default() };
    world.app.pipelines().save(&world.op, input).await.expect("saved");
    let deploy = [("version", "1.0"), ("environment", "test")];
    assert_eq!(world.post("/realms/default/pipelines/orders/deploy", &deploy).await.status, 303);
}

#[tokio::test]
async fn a_rule_is_tried_on_what_runs_before_it_is_saved() {
    let world = World::start().await;
    running(&world).await;
    let attempt = async |condition: &str| {
        world
            .post("/realms/default/new-rule/try", &[("condition", condition), ("message", "<b>no</b>")])
            .await
    };
    let broken = attempt("has(trigger.rateLimit)").await;
    assert_eq!(broken.status, 200);
    assert!(broken.text.contains("1 of 1 break it") && broken.text.contains("orders"), "{}", broken.text);
    assert!(broken.text.contains("&#60;b&#62;no") && !broken.text.contains("<html"), "{}", broken.text);
    assert!(attempt("trigger.apiKey").await.text.contains("holds for all 1"));
    for wrong in ["trigger.apiKeys", "trigger.methods == 1", "trigger.apiKey &&"] {
        let reply = attempt(wrong).await;
        assert!(reply.status == 200 && reply.text.contains("does not fit"), "{wrong}: {}", reply.text);
    }
    assert!(!world.get("/realms/default/policies").await.text.contains("/rules/"), "nothing was saved");
}

#[tokio::test]
async fn a_rule_is_made_changed_and_removed_each_time_by_its_name() {
    let world = World::start().await;
    running(&world).await;
    let form = |revision, name, condition, confirmation| {
        [
            ("revision", revision),
            ("name", name),
            ("condition", condition),
            ("message", "Public APIs need a rate limit"),
            ("mode.test", "required"),
            ("mode.prod", "advised"),
            ("confirmation", confirmation),
        ]
    };
    let first = revision(&world).await;
    let limit = "has(trigger.rateLimit)";
    let wrong =
        world.post("/realms/default/new-rule", &form(&first, "limits", "trigger.limit", "limits")).await;
    assert_eq!(wrong.status, 422);
    assert!(
        wrong.text.contains("id=\"condition-fault\"") && wrong.text.contains(">trigger.limit<"),
        "{}",
        wrong.text
    );
    let unconfirmed = world.post("/realms/default/new-rule", &form(&first, "limits", limit, "limit")).await;
    assert!(
        unconfirmed.status == 422 && unconfirmed.text.contains("Nothing was saved"),
        "{}",
        unconfirmed.text
    );
    let made = world.post("/realms/default/new-rule", &form(&first, "limits", limit, "limits")).await;
    assert_eq!(
        (made.status, made.header("location")),
        (303, "/realms/default/policies?saved=1.1"),
        "{}",
        made.text
    );
    let page = world.get("/realms/default/policies/conformance/test").await.text;
    assert!(page.contains("Public APIs need a rate limit"), "{page}");
    let now = revision(&world).await;
    let twice = world.post("/realms/default/new-rule", &form(&now, "limits", limit, "limits")).await;
    assert!(twice.status == 422 && twice.text.contains("rule of this name already"), "{}", twice.text);

    // Somebody else was faster: what changed is told, what was written stays.
    let late =
        world.post("/realms/default/rules/limits", &form(&first, "limits", "trigger.apiKey", "limits")).await;
    assert_eq!(late.status, 412);
    assert!(late.text.contains(">trigger.apiKey<"), "{}", late.text);
    let now = revision(&world).await;
    let changed =
        world.post("/realms/default/rules/limits", &form(&now, "limits", "trigger.apiKey", "limits")).await;
    assert_eq!(changed.status, 303, "{}", changed.text);

    let remove = "/realms/default/rules/limits/remove";
    assert!(world.get(remove).await.text.contains("trigger.apiKey"));
    let now = revision(&world).await;
    assert_eq!(world.post(remove, &[("revision", &now), ("confirmation", "yes")]).await.status, 422);
    let removed = world.post(remove, &[("revision", &now), ("confirmation", "limits")]).await;
    assert_eq!(removed.status, 303, "{}", removed.text);
    assert_eq!(world.get("/realms/default/rules/limits").await.status, 404);
}

#[tokio::test]
async fn enforcement_begins_at_a_date_to_come_and_whoever_is_overtaken_sees_what_changed() {
    let world = World::start().await;
    let first = revision(&world).await;
    let form = |revision, date, confirmation| {
        [
            ("revision", revision),
            ("version", "1.0"),
            ("mode.test", "gateway"),
            ("date.test", date),
            ("mode.prod", "deploy"),
            ("confirmation", confirmation),
        ]
    };
    let no_date = world.post(ENFORCEMENT, &form(&first, "", "enforcement")).await;
    assert!(no_date.status == 422 && no_date.text.contains("id=\"wrong-test\""), "{}", no_date.text);
    let past = world.post(ENFORCEMENT, &form(&first, "2001-01-01T00:00", "enforcement")).await;
    assert!(past.status == 422 && past.text.contains("has passed"), "{}", past.text);
    let saved = world.post(ENFORCEMENT, &form(&first, "2040-01-31T08:30", "enforcement")).await;
    assert_eq!(saved.status, 303, "{}", saved.text);
    assert!(world.get(ENFORCEMENT).await.text.contains("value=\"2040-01-31T08:30\""));
    let late = world.post(ENFORCEMENT, &form(&first, "2041-01-31T08:30", "enforcement")).await;
    assert_eq!(late.status, 412);
    assert!(late.text.contains("Changed meanwhile") && late.text.contains("2040-01-31"), "{}", late.text);
    assert!(late.text.contains("value=\"2041-01-31T08:30\""), "what was written stays: {}", late.text);
    let page = world.get("/realms/default/policies").await.text;
    assert!(page.contains("admin") && page.contains("policy-values/enforcement"), "{page}");
}

#[tokio::test]
async fn a_change_begins_as_a_shadow_and_is_promoted_or_ended() {
    let world = World::start().await;
    running(&world).await;
    let first = revision(&world).await;
    let edit = "/realms/default/policies/external-api-access/edit";
    let form = [("revision", first.as_str()), ("test", "jwt-with-api-key"), ("action", "shadow")];
    let shadow = world.post(edit, &form).await;
    assert_eq!(
        (shadow.status, shadow.header("location")),
        (303, "/realms/default/policies/shadow"),
        "{}",
        shadow.text
    );
    let page = world.get("/realms/default/policies/shadow").await.text;
    assert!(page.contains("falls out") && page.contains("orders"), "{page}");
    assert!(world.get("/realms/default/policies").await.text.contains("Shadow policies run beside these"));
    assert_eq!(revision(&world).await, first, "the policies stay");
    let field = |name: &str| {
        let begin = format!("name=\"{name}\" value=\"");
        page.split(&begin).nth(1).and_then(|rest| rest.split('"').next()).expect("a field").to_owned()
    };
    let (revision, version) = (field("revision"), field("version"));
    let promote = "/realms/default/policies/shadow/promote";
    let fields = |confirmation| {
        [("revision", revision.as_str()), ("version", version.as_str()), ("confirmation", confirmation)]
    };
    assert_eq!(world.post(promote, &fields("")).await.status, 422);
    let promoted = world.post(promote, &fields("promote")).await;
    assert_eq!(
        (promoted.status, promoted.header("location")),
        (303, "/realms/default/policies?saved=1.1"),
        "{}",
        promoted.text
    );
    assert!(world.get("/realms/default/policies/shadow").await.text.contains("No shadow runs"));
}

#[tokio::test]
async fn restoring_over_what_somebody_saved_meanwhile_tells_what_that_was() {
    let world = World::start().await;
    let edit = "/realms/default/policies/external-api-access/edit";
    let save = async |value: &str| {
        let now = revision(&world).await;
        let form = [("revision", now.as_str()), ("test", value), ("confirmation", "external-api-access")];
        assert_eq!(world.post(edit, &form).await.status, 303);
    };
    save("any").await;
    let path = "/realms/default/policy-versions/1.0";
    let page = world.get(path).await.text;
    let field = |page: &str, name: &str| {
        let begin = format!("name=\"{name}\" value=\"");
        page.split(begin.as_str()).nth(1).and_then(|rest| rest.split('"').next()).expect("a field").to_owned()
    };
    let (read, today) = (field(&page, "revision"), field(&page, "today"));
    save("jwt-with-api-key").await;
    let form = |confirmation| {
        [("revision", read.as_str()), ("today", today.as_str()), ("confirmation", confirmation)]
    };
    let untyped = world.post(path, &form("1")).await;
    assert_eq!(untyped.status, 422);
    assert_eq!(field(&untyped.text, "revision"), read, "a slip of the fingers is not a look at what is new");
    let late = world.post(path, &form("1.0")).await;
    assert_eq!(late.status, 412);
    assert!(
        late.text.contains("Changed meanwhile") && late.text.contains("jwt-with-api-key"),
        "{}",
        late.text
    );
    let now = field(&late.text, "revision");
    let restored = world.post(path, &[("revision", now.as_str()), ("confirmation", "1.0")]).await;
    assert_eq!(restored.header("location"), "/realms/default/policies?saved=1.3", "{}", restored.text);
}

#[tokio::test]
async fn a_form_that_is_shown_again_still_changes_what_was_read() {
    let world = World::start().await;
    running(&world).await;
    let read = revision(&world).await;
    let edit = "/realms/default/policies/external-api-access/edit";
    let form = [("revision", read.as_str()), ("prod", "any"), ("confirmation", "external-api-access")];
    assert_eq!(world.post(edit, &form).await.status, 303);
    for (path, fields) in [
        (edit, &[("test", "api-key"), ("confirmation", "no")][..]),
        (
            "/realms/default/policy-values/sensitive-fields",
            &[("fields.test", "email"), ("confirmation", "no")],
        ),
        (
            "/realms/default/new-rule",
            &[("name", "keys"), ("condition", "trigger.apiKey"), ("message", "Keys"), ("confirmation", "no")],
        ),
    ] {
        let fields = [&[("revision", read.as_str()), ("version", "1.0")][..], fields].concat();
        let untyped = world.post(path, &fields).await;
        assert_eq!(untyped.status, 422, "{path}");
        assert!(
            untyped.text.contains(&format!("name=\"revision\" value=\"{read}\"")),
            "{path}: {}",
            untyped.text
        );
    }
}

#[tokio::test]
async fn a_shadow_that_somebody_exchanged_is_neither_ended_nor_promoted_unseen() {
    let world = World::start().await;
    let edit = "/realms/default/policies/external-api-access/edit";
    let shadow = async |value: &str| {
        let now = revision(&world).await;
        let form = [("revision", now.as_str()), ("test", value), ("action", "shadow")];
        assert_eq!(world.post(edit, &form).await.status, 303);
    };
    shadow("jwt-with-api-key").await;
    let path = "/realms/default/policies/shadow";
    let page = world.get(path).await.text;
    let field = |name: &str| {
        let begin = format!("name=\"{name}\" value=\"");
        page.split(begin.as_str()).nth(1).and_then(|rest| rest.split('"').next()).expect("a field").to_owned()
    };
    let (read, version, proposed) = (field("revision"), field("version"), field("read"));
    shadow("any").await;
    let promote = [
        ("revision", read.as_str()),
        ("version", version.as_str()),
        ("read", proposed.as_str()),
        ("reason", "it went well"),
        ("confirmation", "promote"),
    ];
    for (form, fields) in [("promote", &promote[..]), ("end", &promote[..3])] {
        let late = world.post(&format!("{path}/{form}"), fields).await;
        assert_eq!(late.status, 412, "{form}: {}", late.text);
        assert!(
            late.text.contains("Changed meanwhile") && late.text.contains("test: any"),
            "{form}: {}",
            late.text
        );
        assert!(form == "end" || late.text.contains("value=\"it went well\""), "what was written stays");
    }
    let now = world.get(path).await.text;
    let now =
        now.split("name=\"revision\" value=\"").nth(1).and_then(|rest| rest.split('"').next()).expect("one");
    assert_eq!(world.post(&format!("{path}/end"), &[("revision", now)]).await.status, 303);
    let gone = world.post(&format!("{path}/end"), &[("revision", now), ("read", "x")]).await;
    assert_eq!(gone.status, 404);
    assert!(gone.text.contains("it has ended") && gone.text.contains("No shadow runs"), "{}", gone.text);
}
