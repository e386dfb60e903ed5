//! First start, and one's own account.

use axum::body::Body;
use http::Request;
use tollgate_testkit::totp_code;

use crate::world::{PASSWORD, Reply, World};

const ACCOUNT: &str = "/realms/default/account";
const LATER: &str = "tranquil otter bicycle";

/// Returns what stands between two texts of a page.
fn between<'a>(page: &'a str, before: &str, after: &str) -> &'a str {
    let rest = page.split(before).nth(1).unwrap_or_else(|| panic!("no `{before}` in {page}"));
    rest.split(after).next().expect("its end")
}

/// Sets a second factor up, and returns its secret and the recovery codes.
async fn enrol(world: &World, cookie: &str) -> (String, Vec<String>) {
    let shown =
        world.post_as(cookie, "/account/second-factor", &[("password", PASSWORD), ("back", ACCOUNT)]).await;
    assert_eq!(shown.status, 200, "{}", shown.text);
    assert!(shown.text.contains("<svg class=\"qr\""), "{}", shown.text);
    let secret = between(&shown.text, "<code id=\"secret\">", "</code>").replace(' ', "");
    let uri = between(&shown.text, "name=\"uri\" value=\"", "\"").replace("&#38;", "&");
    let wrong = [("code", "000000"), ("uri", &uri), ("back", ACCOUNT)];
    let again = world.post_as(cookie, "/account/second-factor/confirm", &wrong).await;
    assert_eq!(again.status, 403, "{}", again.text);
    assert!(
        again.text.contains("The code is wrong") && again.text.contains("<svg class=\"qr\""),
        "{}",
        again.text
    );
    let code = totp_code(&secret, world.op.now);
    let right = [("code", code.as_str()), ("uri", &uri), ("back", ACCOUNT)];
    let done = world.post_as(cookie, "/account/second-factor/confirm", &right).await;
    assert_eq!(done.status, 200, "{}", done.text);
    (secret, recovery_codes(&done))
}

fn recovery_codes(shown: &Reply) -> Vec<String> {
    let codes = between(&shown.text, "aria-label=\"Recovery codes\">", "</pre>");
    let codes: Vec<_> = codes.split_whitespace().map(str::to_owned).collect();
    assert_eq!(codes.len(), 10, "{}", shown.text);
    codes
}

#[tokio::test]
async fn a_temporary_password_is_changed_first_and_leads_back() {
    let world = World::start().await;
    let made = world.post("/realms/default/users", &[("name", "ada")]).await;
    assert_eq!(made.status, 200, "{}", made.text);
    let temporary = between(&made.text, "<code id=\"password\">", "</code>").to_owned();
    let cookie = world.sign_in("ada", &temporary).await;
    let away = world.get_as(&cookie, ACCOUNT).await;
    assert_eq!(away.header("location"), "/account/password?back=%2Frealms%2Fdefault%2Faccount");
    let form = world.get_as(&cookie, away.header("location")).await;
    assert!(
        form.text.contains("Choose your own password") && form.text.contains("Sign out"),
        "{}",
        form.text
    );
    assert!(!form.text.contains(">Cancel<"), "there is no way around it");

    let change = async |current: &str, new: &str, again: &str| {
        let fields = [("current", current), ("new", new), ("again", again), ("back", ACCOUNT)];
        world.post_as(&cookie, "/account/password", &fields).await
    };
    for (reply, status, words) in [
        (change("a wrong one", LATER, LATER).await, 403, "id=\"current-problem\""),
        (change(&temporary, "short", "short").await, 422, "id=\"new-problem\""),
        (change(&temporary, LATER, "another").await, 422, "id=\"again-problem\""),
    ] {
        assert_eq!(reply.status, status, "{}", reply.text);
        assert!(reply.text.contains(words), "{words}: {}", reply.text);
        assert!(
            !reply.text.contains(LATER) && !reply.text.contains(&temporary),
            "no password is shown again"
        );
    }
    let done = change(&temporary, LATER, LATER).await;
    assert_eq!((done.status, done.header("location")), (303, ACCOUNT));
    assert_eq!(world.get_as(&cookie, ACCOUNT).await.status, 200);
}

#[tokio::test]
async fn a_changed_password_ends_the_other_sessions_and_nobody_is_sent_elsewhere() {
    let world = World::start().await;
    let other = world.sign_in("admin", PASSWORD).await;
    let fields = |back| [("current", PASSWORD), ("new", LATER), ("again", LATER), ("back", back)];
    let done = world.post("/account/password", &fields("https://evil.example/realms/")).await;
    assert_eq!((done.status, done.header("location")), (303, "/"));
    assert_eq!(
        world.get_as(&other, ACCOUNT).await.header("location"),
        "/sign-in?back=%2Frealms%2Fdefault%2Faccount"
    );
    assert_eq!(world.get(ACCOUNT).await.status, 200, "this one goes on");
}

#[tokio::test]
async fn where_a_second_factor_is_demanded_nothing_else_goes_until_it_is_on() {
    let world = World::start().await;
    let cookie = world.person("ada", &["administrators"]).await;
    let (_, codes) = enrol(&world, &world.cookie).await;
    assert!(codes.iter().all(|code| code.len() > 10), "{codes:?}");
    let page = world.get("/realms/default/settings").await.text;
    let revision = between(&page, "name=\"revision\" value=\"", "\"").to_owned();
    let set = [("revision", revision.as_str()), ("days", "30"), ("second_factor", "on")];
    assert_eq!(world.post("/realms/default/settings", &set).await.status, 303);

    for page in ["/realms/default/overview", ACCOUNT, "/"] {
        let away = world.get_as(&cookie, page).await;
        assert!(away.header("location").starts_with("/account/second-factor?back=%2F"), "{page}: {away:?}");
    }
    let begin = world.get_as(&cookie, "/account/second-factor?back=/realms/default/overview").await.text;
    assert!(begin.contains("demands a second factor of everybody") && !begin.contains(">Cancel<"), "{begin}");
    enrol(&world, &cookie).await;
    assert_eq!(world.get_as(&cookie, ACCOUNT).await.status, 200);
    let manage = world.get_as(&cookie, "/account/second-factor").await.text;
    assert!(!manage.contains("Turn it off"), "it is demanded: {manage}");
}

#[tokio::test]
async fn a_second_factor_is_replaced_and_taken_away_with_password_and_code_alone() {
    let world = World::start().await;
    let (_, codes) = enrol(&world, &world.cookie).await;
    let manage = async |what: &str, password: &str, code: &str| {
        let fields = [("do", what), ("password", password), ("code", code), ("back", ACCOUNT)];
        world.post("/account/second-factor/manage", &fields).await
    };
    let wrong = manage("remove", "another password", &codes[0]).await;
    assert_eq!(wrong.status, 403, "{}", wrong.text);
    let fresh = recovery_codes(&manage("renew", PASSWORD, &codes[1]).await);
    assert_eq!(manage("remove", PASSWORD, &codes[2]).await.status, 403, "those from before are gone");
    let replaced = manage("replace", PASSWORD, &fresh[0]).await;
    assert!(replaced.header("location").starts_with("/account/second-factor?back="), "{replaced:?}");
    let (_, codes) = enrol(&world, &world.cookie).await;
    assert_eq!(manage("remove", PASSWORD, &codes[0]).await.header("location"), ACCOUNT);
    assert!(world.get(ACCOUNT).await.text.contains("Set up second factor"));
}

#[tokio::test]
async fn what_a_form_says_to_be_a_secret_is_drawn_only_when_it_looks_like_one() {
    let world = World::start().await;
    world.post("/account/second-factor", &[("password", PASSWORD), ("back", ACCOUNT)]).await;
    for uri in
        ["javascript:alert(1)", "https://evil.example/?secret=A", &"otpauth://totp/x".repeat(60), "\u{1}"]
    {
        let fields = [("code", "000000"), ("uri", uri), ("back", ACCOUNT)];
        let reply = world.post("/account/second-factor/confirm", &fields).await;
        assert_eq!(reply.status, 403, "{}", reply.text);
        assert!(!reply.text.contains("<svg class=\"qr\"") && !reply.text.contains("evil.example"), "{uri}");
    }
}

#[tokio::test]
async fn sessions_are_told_apart_and_ended() {
    let world = World::start().await;
    let other = world.sign_in("admin", PASSWORD).await;
    let page = world.get(ACCOUNT).await.text;
    assert_eq!(
        page.matches("Firefox on Linux").count(),
        3,
        "two, and the name for the button of one: {page}"
    );
    assert_eq!(page.matches("this one").count(), 1);
    let id = between(&page, "sessions/end\"><input type=\"hidden\" name=\"id\" value=\"", "\"").to_owned();
    let stranger = world.person("ada", &[]).await;
    let theirs = world.post_as(&stranger, &format!("{ACCOUNT}/sessions/end"), &[("id", &id)]).await;
    assert_eq!(theirs.status, 404, "a session of somebody else is not there");
    assert_eq!(world.post(&format!("{ACCOUNT}/sessions/end"), &[("id", &id)]).await.status, 303);
    assert_eq!(world.get_as(&other, ACCOUNT).await.status, 303);
    world.sign_in("admin", PASSWORD).await;
    world.post(&format!("{ACCOUNT}/sessions/end-others"), &[]).await;
    assert!(world.get(ACCOUNT).await.text.contains("signed in nowhere else"));
    assert_eq!(world.get_as(&stranger, ACCOUNT).await.status, 200, "and nobody else's ended");
}

#[tokio::test]
async fn an_api_token_is_shown_once_does_what_was_ticked_and_is_revoked() {
    let world = World::start().await;
    let tokens = format!("{ACCOUNT}/tokens");
    let base = [("name", "ci <b>"), ("days", "30"), ("limited", "yes"), ("permission", "pipeline:read")];
    let made = world
        .post(
            &tokens,
            &[&base[..], &[("permission", "deployment:create"), ("environments", "test")]].concat(),
        )
        .await;
    // `pipeline:read` does not count within environments.
    assert_eq!(made.status, 422, "{}", made.text);
    assert!(
        made.text.contains("id=\"permissions-problem\"") && made.text.contains("value=\"ci &#60;b&#62;\""),
        "{}",
        made.text
    );
    assert!(made.text.contains("value=\"deployment:create\" checked"), "what was ticked stays ticked");
    let made = world.post(&tokens, &base).await;
    assert_eq!(made.status, 200, "{}", made.text);
    let token = between(&made.text, "<code id=\"token\">", "</code>").to_owned();
    let me = world.app.users().authenticate(&token, world.op.now).await.expect("works");
    assert_eq!(me.token.scopes.as_ref().map(Vec::len), Some(1));
    let page = world.get(ACCOUNT).await.text;
    assert!(page.contains("ci &#60;b&#62;") && page.contains("<code>pipeline:read</code>"), "{page}");
    assert!(!page.contains(&token), "nobody can show it again");
    for (fields, field) in [
        ([("name", ""), ("days", "30"), ("limited", "no")], "name"),
        ([("name", "x"), ("days", "400"), ("limited", "no")], "days"),
        ([("name", "x"), ("days", "soon"), ("limited", "no")], "days"),
        ([("name", "x"), ("days", "30"), ("limited", "yes")], "permissions"),
    ] {
        let refused = world.post(&tokens, &fields).await;
        assert_eq!(refused.status, 422, "{fields:?}");
        assert!(refused.text.contains(&format!("id=\"{field}-problem\"")), "{fields:?}: {}", refused.text);
    }
    let id = me.token.id.to_string();
    assert_eq!(world.post(&format!("{tokens}/revoke"), &[("id", &id)]).await.status, 303);
    assert!(world.app.users().authenticate(&token, world.op.now).await.is_err());
}

#[tokio::test]
async fn an_api_token_in_a_cookie_opens_no_account() {
    let world = World::start().await;
    let made =
        world.post(&format!("{ACCOUNT}/tokens"), &[("name", "ci"), ("days", "30"), ("limited", "no")]).await;
    let cookie = format!("tollgate_session={}", between(&made.text, "<code id=\"token\">", "</code>"));
    for page in [ACCOUNT, "/account/second-factor"] {
        assert_eq!(world.get_as(&cookie, page).await.status, 403, "{page}");
    }
    let fields = [("current", PASSWORD), ("new", LATER), ("again", LATER)];
    assert_eq!(world.post_as(&cookie, "/account/password", &fields).await.status, 403);
}

#[tokio::test]
async fn a_link_from_elsewhere_claims_nothing() {
    let world = World::start().await;
    let path = format!("{ACCOUNT}?done=second-factor-removed");
    assert!(world.get(&path).await.text.contains("Your second factor is off"));
    for site in ["cross-site", "same-site", "none"] {
        let request = Request::get(&path).header("cookie", &world.cookie).header("sec-fetch-site", site);
        let page = world.send(request.body(Body::empty()).expect("a request")).await;
        assert!(page.status == 200 && !page.text.contains("Your second factor is off"), "{site}");
    }
    let signed_in =
        world.post("/sign-in", &[("user", "admin"), ("password", PASSWORD), ("back", &path)]).await;
    assert_eq!(signed_in.header("location"), ACCOUNT);
}

#[tokio::test]
async fn whoever_guesses_too_often_is_told_how_long_to_wait() {
    let world = World::start().await;
    let guess = async || world.post("/sign-in", &[("user", "ada"), ("password", "guess-guess-guess")]).await;
    for _ in 0..5 {
        assert_eq!(guess().await.status, 401);
    }
    let paused = loop {
        let reply = guess().await;
        if reply.status == 429 {
            break reply;
        }
        assert_eq!(reply.status, 401);
    };
    assert!(
        paused.text.contains("Wait ") && paused.text.contains("Nothing is locked for good"),
        "{}",
        paused.text
    );
    assert!(!paused.header("retry-after").is_empty());
}
