//! Writing pipelines.

use crate::world::World;

const NEW: &str = "/realms/default/new-pipeline";
const FILE: &str = "kind: Pipeline\nname: orders\nproject: store\ntrigger: { type: rest, externalApi: true, basicAuth: true }\nsteps: [{ json: { ok: true } }]\n";

/// Returns the file that a page's editor holds.
fn file(page: &str) -> String {
    let text = page
        .split("<textarea id=\"document\"")
        .nth(1)
        .and_then(|rest| rest.split_once('>'))
        .expect("an editor")
        .1;
    let text = text.split("</textarea>").next().expect("its end");
    text.replace("&#34;", "\"")
        .replace("&#39;", "'")
        .replace("&#60;", "<")
        .replace("&#62;", ">")
        .replace("&#38;", "&")
}

#[tokio::test]
async fn the_verdict_stands_beside_the_file_and_turns_with_a_switch() {
    let world = World::start().await;
    let opinion = world.post(&format!("{NEW}/beside"), &[("document", FILE)]).await;
    assert_eq!(opinion.status, 200);
    assert!(opinion.text.contains("Missing external API Key"), "{}", opinion.text);
    assert!(opinion.text.contains("Would be saved as orders 1.0"), "{}", opinion.text);

    let turned = world.post(&format!("{NEW}/turn"), &[("document", FILE), ("turn", "apiKey=on")]).await;
    assert!(!turned.text.contains("Missing external API Key"), "{}", turned.text);
    let turned =
        world.post(&format!("{NEW}/turn"), &[("document", &file(&turned.text)), ("turn", "jwt=on")]).await;
    let file = file(&turned.text);
    assert!(
        file.contains("apiKey: true") && file.contains("basicAuth: false"),
        "one use of Authorization: {file}"
    );

    let saved = world.post(NEW, &[("document", &file)]).await;
    assert_eq!(
        (saved.status, saved.header("location")),
        (303, "/realms/default/pipelines/orders?version=1.0")
    );
}

#[tokio::test]
async fn a_switch_that_takes_more_than_itself_out_of_the_file_says_so() {
    let world = World::start().await;
    let scoped = FILE.replace("basicAuth: true", "jwt: { scopes: [orders.read] }");
    let turned =
        async |turn| world.post(&format!("{NEW}/turn"), &[("document", &scoped), ("turn", turn)]).await;
    let off = turned("jwt=off").await.text;
    assert!(file(&off).contains("jwt: false") && off.contains("Token JWT is off, and {"), "{off}");
    assert!(off.contains("is no longer in the file"), "{off}");
    let other = turned("basicAuth=on").await.text;
    assert!(file(&other).contains("basicAuth: true") && file(&other).contains("jwt: false"), "{other}");
    assert!(other.contains("Token JWT is off, and {"), "{other}");
    let again = turned("jwt=on").await.text;
    assert!(file(&again).contains("orders.read") && !again.contains("is no longer"), "{again}");
    let certificate = turned("mtls=on").await.text;
    assert!(file(&certificate).contains("mtls: true") && file(&certificate).contains("orders.read"));
}

#[tokio::test]
async fn what_is_wrong_is_shown_at_its_line_and_nothing_is_saved() {
    let world = World::start().await;
    let broken = FILE.replace("externalApi", "externalAPI");
    let reply = world.post(NEW, &[("document", &broken)]).await;
    assert_eq!(reply.status, 422);
    assert!(reply.text.contains("Line 4") && reply.text.contains("externalApi"), "{}", reply.text);
    assert_eq!(file(&reply.text), broken, "what was written stays");
    for junk in ["", "]", "kind: Pipeline", "{\"a\":1}", "&a [*a]", "<script>alert(1)</script>"] {
        let opinion = world.post(&format!("{NEW}/beside"), &[("document", junk)]).await;
        assert_eq!(opinion.status, 200, "{junk}: {}", opinion.text);
        assert!(opinion.text.contains("Cannot be saved yet") && !opinion.text.contains("<script>"), "{junk}");
        for switch in ["apiKey=on", "made-up=on", "apiKey", "method=GET"] {
            let turned = world.post(&format!("{NEW}/turn"), &[("document", junk), ("turn", switch)]).await;
            assert_eq!(file(&turned.text), junk, "{switch}");
        }
    }
    assert_eq!(world.get("/realms/default/pipelines/orders").await.status, 404);
}

/// Opens the editor of `orders`, and returns the revision that its form carries along.
async fn read(world: &World) -> String {
    let page = world.get("/realms/default/pipelines/orders/edit").await.text;
    let revision = page.split("name=\"revision\" value=\"").nth(1).and_then(|rest| rest.split('"').next());
    revision.expect("a revision").to_owned()
}

/// Saves the next version of `orders`.
async fn change(world: &World, document: &str) {
    let revision = read(world).await;
    let saved = world.post(NEW, &[("document", document), ("revision", &revision)]).await;
    assert_eq!(saved.status, 303, "{}", saved.text);
}

#[tokio::test]
async fn somebody_elses_version_is_not_written_over() {
    let world = World::start().await;
    world.post(NEW, &[("document", FILE)]).await;
    let revision = read(&world).await;
    let mine = FILE.replace("ok: true", "ok: mine");
    change(&world, &FILE.replace("ok: true", "ok: theirs")).await;
    let late = world.post(NEW, &[("document", &mine), ("revision", &revision)]).await;
    assert_eq!(late.status, 412);
    assert!(late.text.contains("changed by somebody else"), "{}", late.text);
    assert_eq!(file(&late.text), mine, "what was written stays");
    assert!(
        late.text.contains("admin saved 1.1 meanwhile") && late.text.contains("ok: theirs"),
        "{}",
        late.text
    );

    // Whoever has seen what changed and saves again means it.
    let revision =
        late.text.split("name=\"revision\" value=\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap();
    let again = world.post(NEW, &[("document", &mine), ("revision", revision)]).await;
    assert_eq!(
        (again.status, again.header("location")),
        (303, "/realms/default/pipelines/orders?version=1.2")
    );
}

const COMMENTED: &str = "kind: Pipeline
name: orders
project: store
trigger:
  type: rest
  externalApi: true # for the shop
  apiKey: true
steps:
  # Says hello.
  - json: { ok: true }
  - log: { message: hello }
";

/// Sends what a form with these fields sends: for each what was shown, and what stands there now.
async fn fill(
    world: &World,
    document: &str,
    open: &str,
    turn: &str,
    fields: &[(&str, &str, &str)],
) -> String {
    let names: Vec<_> = fields.iter().map(|(id, ..)| (format!("was:{id}"), format!("set:{id}"))).collect();
    let mut sent = vec![("document", document), ("open", open), ("turn", turn), ("kind", "assert")];
    for ((_, was, now), (was_name, set_name)) in fields.iter().zip(&names) {
        sent.push((was_name, was));
        if !now.is_empty() {
            sent.push((set_name, now));
        }
    }
    let reply = world.post(&format!("{NEW}/turn"), &sent).await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    reply.text
}

#[tokio::test]
async fn a_form_changes_its_setting_and_keeps_the_rest_of_the_file() {
    let world = World::start().await;
    let page = fill(
        &world,
        COMMENTED,
        "/trigger",
        "",
        &[
            ("/trigger/timeoutMs", "", "5000"),
            ("/trigger/rateLimit/limits#minute", "", "60"),
            ("/trigger/cors/allowOrigins", "", "https://shop.example\r\nhttps://b.example"),
        ],
    )
    .await;
    let added = "  apiKey: true\n  rateLimit:\n    limits:\n      - interval: minute\n        limit: 60\n  timeoutMs: 5000\n  cors:\n    allowOrigins: [https://shop.example, https://b.example]\n";
    assert_eq!(file(&page), COMMENTED.replace("  apiKey: true\n", added));

    let page = fill(
        &world,
        COMMENTED,
        "/steps/1",
        "",
        &[
            ("/steps/1/log/level", "info", "warn"),
            ("/steps/1/failOnError", "yes", ""),
            ("/steps/1/log/message", "hello", "hello"),
        ],
    )
    .await;
    let after = file(&page);
    assert_eq!(
        after,
        COMMENTED.replace(
            "  - log: { message: hello }\n",
            "  - log: { message: hello, level: warn }\n    failOnError: false\n"
        )
    );
    // What nobody changed in the form takes nothing back that was written into the file.
    let page = fill(&world, &after, "/steps/1", "", &[("/steps/1/log/level", "info", "info")]).await;
    assert_eq!(file(&page), after);
}

#[tokio::test]
async fn steps_are_added_moved_and_removed() {
    let world = World::start().await;
    let page = fill(&world, COMMENTED, "/steps/0", "add=/steps@1", &[]).await;
    assert!(page.contains("Step 2: assert") && page.contains("An expression that must give true."), "{page}");
    let added = file(&page);
    assert!(
        added.contains("  # Says hello.\n  - json: { ok: true }\n  - assert:\n      condition: "),
        "{added}"
    );
    let moved = file(&fill(&world, &added, "/steps/1", "up=/steps/1", &[]).await);
    assert!(moved.find("- assert").expect("it") < moved.find("# Says hello.").expect("it"), "{moved}");
    let back = file(&fill(&world, &moved, "/steps/0", "down=/steps/0", &[]).await);
    assert_eq!(back, added);
    let removed = file(&fill(&world, &added, "/steps/1", "remove=/steps/1", &[]).await);
    assert_eq!(removed, COMMENTED);
    for nonsense in [
        "up=/steps/0",
        "down=/steps/1",
        "remove=/trigger",
        "add=/trigger@0",
        "when=/steps/0",
        "up=/steps/x",
        "add=/steps",
    ] {
        assert_eq!(file(&fill(&world, COMMENTED, "/steps/0", nonsense, &[]).await), COMMENTED, "{nonsense}");
    }
}

#[tokio::test]
async fn what_is_wrong_with_a_field_stands_at_the_field_and_at_its_line() {
    let world = World::start().await;
    let page = fill(&world, COMMENTED, "/trigger", "", &[("/trigger/timeoutMs", "", "soon")]).await;
    assert!(file(&page).contains("  timeoutMs: soon\n"));
    let field = page
        .split("id=\"f:/trigger/timeoutMs\"")
        .nth(1)
        .and_then(|rest| rest.split("</div>").next())
        .expect("it");
    assert!(field.contains("aria-invalid") && field.contains("✕"), "{field}");
    assert!(page.contains("data-line=\"8\""), "{page}");
    let lines = page.split("id=\"lines\"").nth(1).and_then(|rest| rest.split("</ol>").next()).expect("lines");
    assert_eq!(lines.split("<li").skip(1).position(|li| li.contains("wrong")), Some(7), "{lines}");

    // YAML that cannot stand in the file stays in its field, and is not saved past.
    let fields = [
        ("document", COMMENTED),
        ("open", "/steps/0"),
        ("was:/steps/0/json", "ok: true"),
        ("set:/steps/0/json", "{ <b>"),
    ];
    let reply = world.post(NEW, &fields).await;
    assert_eq!(reply.status, 422);
    assert_eq!(file(&reply.text), COMMENTED);
    assert!(reply.text.contains("This is no YAML") && reply.text.contains("{ &#60;b&#62;"), "{}", reply.text);
}

#[tokio::test]
async fn versions_are_compared() {
    let world = World::start().await;
    world.post(NEW, &[("document", COMMENTED)]).await;
    change(&world, &COMMENTED.replace("ok: true", "ok: maybe")).await;
    change(&world, &COMMENTED.replace("message: hello", "message: bye")).await;
    let page = world.get("/realms/default/pipelines/orders/versions").await.text;
    assert!(
        page.contains("From 1.1 to 1.2") && page.contains("ok: maybe") && page.contains("message: bye"),
        "{page}"
    );
    let page = world.get("/realms/default/pipelines/orders/versions?from=1.0&to=1.1").await.text;
    assert!(page.contains("ok: maybe") && !page.contains("message: bye"), "{page}");
    assert_eq!(world.get("/realms/default/pipelines/orders/versions?from=9.9&to=1.0").await.status, 404);
}

#[tokio::test]
async fn pipelines_are_found_by_a_part_of_their_name_and_by_project() {
    let world = World::start().await;
    for (name, project) in [("orders", "store"), ("order-lines", "store"), ("invoices", "books")] {
        let document = COMMENTED.replace("name: orders", &format!("name: {name}")).replace("store", project);
        world.post(NEW, &[("document", &document)]).await;
    }
    let page = world.get("/realms/default/pipelines?q=ORDER").await.text;
    assert!(
        page.contains(">orders<") && page.contains(">order-lines<") && !page.contains(">invoices<"),
        "{page}"
    );
    let page = world.get("/realms/default/pipelines?q=order&project=books").await.text;
    assert!(page.contains("No pipeline is like that"), "{page}");
    let page = world.get("/realms/default/pipelines/orders").await.text;
    assert!(page.contains("/realms/default/pipelines/orders/edit?step=/steps/1"), "{page}");
    assert!(page.contains("2 log, info: hello"), "the flow in words: {page}");
}

#[tokio::test]
async fn a_trial_that_is_not_made_says_why_beside_the_sample() {
    let world = World::start().await;
    let tried = async |document: &str, sample: &str| {
        let fields = [("document", document), ("sample", sample), ("try-environment", "test")];
        let reply = world.post(&format!("{NEW}/try"), &fields).await;
        assert_eq!(reply.status, 200, "{}", reply.text);
        reply.text
    };
    assert!(tried(COMMENTED, "bdoy: 1").await.contains("This is no sample message: unknown field `bdoy`"));
    assert!(tried(COMMENTED, "{ <b>").await.contains("{ &#60;b&#62;"), "what was written stays");
    let refused = tried(&COMMENTED.replace("apiKey: true", "apiKey: false"), "").await;
    assert!(refused.contains("Missing external API Key: set /trigger/apiKey to true"), "{refused}");
    assert!(tried(COMMENTED, "").await.contains("This process has no gateway"));
}
