//! What one person asks for and another decides, on pages.

use tollgate_model::environments::{FourEyes, RealmSettings};

use crate::world::{Reply, World};

const REALM: &str = "/realms/default";
const EXTERNAL: &str = "external-api-access";

/// A realm that wants four eyes for policies, with two more administrators.
struct Two {
    world: World,
    ada: String,
    bob: String,
}

impl Two {
    async fn start() -> Self {
        let world = World::start().await;
        let ada = world.person("ada", &["administrators"]).await;
        let bob = world.person("bob", &["administrators"]).await;
        let settings = RealmSettings {
            four_eyes: FourEyes { policies: true, waivers: true },
            ..RealmSettings::default()
        };
        world.app.realms().update(&world.op, settings, None).await.expect("set");
        Self { world, ada, bob }
    }

    /// Asks, as ada, for a looser policy in production; returns the path of the request.
    async fn ask(&self, policy: &str) -> String {
        let path = format!("{REALM}/policies/{policy}/edit");
        let page = self.world.get_as(&self.ada, &path).await.text;
        let revision =
            page.split("name=\"revision\" value=\"").nth(1).and_then(|it| it.split('"').next()).expect("one");
        let form = [
            ("revision", revision),
            ("prod", "any"),
            ("reason", "a partner <asks>"),
            ("confirmation", policy),
        ];
        let asked = self.world.post_as(&self.ada, &path, &form).await;
        assert_eq!(asked.status, 303, "{}", asked.text);
        let location = asked.header("location");
        let id = location.split("chg_").nth(1).and_then(|rest| rest.split('?').next()).expect("its id");
        format!("{REALM}/change-requests/chg_{id}")
    }

    async fn version(&self) -> String {
        self.world.app.policies().get(&self.world.op).await.expect("policies").value.version().to_string()
    }
}

fn base(page: &Reply) -> String {
    page.text
        .split("name=\"base\" value=\"")
        .nth(1)
        .and_then(|it| it.split('"').next())
        .expect("a base")
        .to_owned()
}

#[tokio::test]
async fn what_one_asks_for_another_sees_exactly_and_approves() {
    let two = Two::start().await;
    let path = two.ask(EXTERNAL).await;
    let own = two.world.get_as(&two.ada, &path).await;
    assert!(
        own.text.contains("somebody else decides") && !own.text.contains("Approve and make"),
        "{}",
        own.text
    );
    assert!(!own.text.contains("class=\"count\""), "one's own does not wait for oneself");
    let page = two.world.get_as(&two.bob, &path).await;
    assert!(page.text.contains("class=\"count\">1<"), "{}", page.text);
    for words in [
        "external-api-access",
        "<del>api-key</del>",
        "<ins>any</ins>",
        "prod: weakens",
        "a partner &#60;asks&#62;",
    ] {
        assert!(page.text.contains(words), "{words}: {}", page.text);
    }
    let base = base(&page);
    let mine = two.world.post_as(&two.ada, &format!("{path}/approve"), &[("base", &base)]).await;
    assert_eq!((mine.status, two.version().await.as_str()), (403, "1.0"), "nobody approves their own");
    let approved = two
        .world
        .post_as(&two.bob, &format!("{path}/approve"), &[("base", &base), ("comment", "seen")])
        .await;
    assert_eq!((approved.status, two.version().await.as_str()), (303, "1.1"), "{}", approved.text);
    let done = two.world.get_as(&two.bob, approved.header("location")).await.text;
    assert!(
        done.contains("Approved: the change was made")
            && done.contains("by bob")
            && !done.contains("class=\"count\""),
        "{done}"
    );
    let again = two.world.post_as(&two.bob, &format!("{path}/reject"), &[("comment", "no")]).await;
    assert_eq!(again.status, 409, "it is decided once: {}", again.text);
}

#[tokio::test]
async fn a_request_on_another_base_than_was_read_is_shown_anew() {
    let two = Two::start().await;
    let (path, other) = (two.ask(EXTERNAL).await, two.ask("internal-api-access").await);
    let read = base(&two.world.get_as(&two.bob, &path).await);
    let now = base(&two.world.get_as(&two.bob, &other).await);
    let first = two.world.post_as(&two.bob, &format!("{other}/approve"), &[("base", &now)]).await;
    assert_eq!(first.status, 303, "{}", first.text);
    let moved = two.world.post_as(&two.bob, &format!("{path}/approve"), &[("base", &read)]).await;
    assert_eq!((moved.status, two.version().await.as_str()), (412, "1.1"), "{}", moved.text);
    assert!(moved.text.contains("What became other meanwhile"), "{}", moved.text);
    assert!(
        moved.text.contains("not what you read") && moved.text.contains("Approve and make"),
        "{}",
        moved.text
    );
}

#[tokio::test]
async fn requests_are_rejected_by_others_and_withdrawn_by_their_author() {
    let two = Two::start().await;
    let path = two.ask(EXTERNAL).await;
    let theirs = two.world.post_as(&two.bob, &format!("{path}/withdraw"), &[]).await;
    assert_eq!(theirs.status, 403, "{}", theirs.text);
    let rejected = two.world.post_as(&two.bob, &format!("{path}/reject"), &[("comment", "too loose")]).await;
    assert_eq!(rejected.status, 303, "{}", rejected.text);
    assert!(two.world.get_as(&two.ada, &path).await.text.contains("too loose"));
    let path = two.ask(EXTERNAL).await;
    let withdrawn = two.world.post_as(&two.ada, &format!("{path}/withdraw"), &[]).await;
    assert_eq!((withdrawn.status, two.version().await.as_str()), (303, "1.0"), "{}", withdrawn.text);
}

#[tokio::test]
async fn settings_and_environments_are_asked_for_where_four_eyes_are_on() {
    let two = Two::start().await;
    let page = two.world.get_as(&two.ada, &format!("{REALM}/settings")).await.text;
    assert!(page.contains("becomes a <a") && page.contains("Ask for this change"), "said before: {page}");
    let revision =
        page.split("name=\"revision\" value=\"").nth(1).and_then(|it| it.split('"').next()).expect("one");
    let form = [("revision", revision), ("days", "90"), ("four_eyes_policies", "on")];
    let asked = two.world.post_as(&two.ada, &format!("{REALM}/settings"), &form).await;
    assert!(asked.header("location").contains("/change-requests/chg_"), "{}", asked.text);
    let shown = two.world.get_as(&two.ada, asked.header("location")).await.text;
    assert!(
        shown.contains("Nothing was changed yet") && shown.contains("<ins>90 days</ins>"),
        "said after: {shown}"
    );
    assert!(shown.contains("Four eyes for waivers") && !shown.contains("Four eyes for policies<"), "{shown}");

    let new = two.world.get_as(&two.ada, &format!("{REALM}/new-environment")).await.text;
    assert!(new.contains("Ask for this environment"), "{new}");
    let form = [
        ("name", "staging"),
        ("external", "127.0.0.1:7003"),
        ("external-api-access", "any"),
        ("internal-api-access", "any"),
    ];
    let asked = two.world.post_as(&two.ada, &format!("{REALM}/environments"), &form).await;
    let path = asked.header("location").split('?').next().expect("a path").to_owned();
    let shown = two.world.get_as(&two.bob, &path).await;
    assert!(shown.text.contains("staging comes"), "{}", shown.text);
    let approved = two.world.post_as(&two.bob, &format!("{path}/approve"), &[("base", &base(&shown))]).await;
    assert_eq!(approved.status, 303, "{}", approved.text);
    assert!(two.world.get(&format!("{REALM}/environments")).await.text.contains("127.0.0.1:7003"));
    let moved = two.ask(EXTERNAL).await;
    assert!(two.world.get_as(&two.bob, &moved).await.text.contains("Policy version 1.1 becomes 1.2"));
}

#[tokio::test]
async fn whoever_may_read_and_not_decide_is_told_what_it_takes() {
    let two = Two::start().await;
    let path = two.ask(EXTERNAL).await;
    two.world.group("auditors", "auditor").await;
    let auditor = two.world.person("eve", &["auditors"]).await;
    let page = two.world.get_as(&auditor, &path).await.text;
    assert!(page.contains("change-request:approve") && !page.contains("Approve and make"), "{page}");
    let forged = two.world.post_as(&auditor, &format!("{path}/approve"), &[("base", "1")]).await;
    assert_eq!((forged.status, two.version().await.as_str()), (403, "1.0"));
    let nobody = two.world.person("mallory", &[]).await;
    let closed = two.world.get_as(&nobody, &path).await;
    assert_eq!(closed.status, 403);
    assert!(!closed.text.contains("partner"), "{}", closed.text);
}
