//! Writing pipelines.

use crate::world::World;

const NEW: &str = "/realms/default/new-pipeline";
const FILE: &str = "kind: Pipeline\nname: orders\nproject: store\ntrigger: { type: rest, externalApi: true, basicAuth: true }\nsteps: [{ json: { ok: true } }]\n";

/// Returns the file that a page's editor holds.
fn file(page: &str) -> String {
    let text = page.split("<textarea").nth(1).and_then(|rest| rest.split_once('>')).expect("an editor").1;
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

#[tokio::test]
async fn somebody_elses_version_is_not_written_over() {
    let world = World::start().await;
    world.post(NEW, &[("document", FILE)]).await;
    let page = world.get("/realms/default/pipelines/orders/edit").await.text;
    let revision =
        page.split("name=\"revision\" value=\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap();
    let mine = FILE.replace("ok: true", "ok: mine");
    world.post(NEW, &[("document", &FILE.replace("ok: true", "ok: theirs"))]).await;
    let late = world.post(NEW, &[("document", &mine), ("revision", revision)]).await;
    assert_eq!(late.status, 412);
    assert!(late.text.contains("changed by somebody else"), "{}", late.text);
    assert_eq!(file(&late.text), mine, "what was written stays");
}
