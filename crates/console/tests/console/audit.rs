//! The journal on pages.

use crate::world::World;

const AUDIT: &str = "/realms/default/audit";

#[tokio::test]
async fn entries_are_found_by_what_is_asked_for_and_stay_readable() {
    let world = World::start().await;
    world.person("ada", &[]).await;
    let all = world.get(AUDIT).await;
    assert_eq!(all.status, 200);
    assert!(
        all.text.contains("realm.create") && all.text.contains("more<span"),
        "a long entry is cut: {}",
        all.text
    );
    let first = world.get(&format!("{AUDIT}?action=realm.create")).await.text;
    assert_eq!(first.matches("class=\"object\"").count(), 3, "two objects, and how many more: {first}");
    let found = world.get(&format!("{AUDIT}?action=user.create&actor=admin")).await.text;
    assert!(found.contains("user.create") && !found.contains("realm.create"), "{found}");
    assert!(found.contains("export?actor=admin&#38;action=user%2Ecreate&#38;format=csv"), "{found}");
    let none = world.get(&format!("{AUDIT}?actor=%3Cscript%3E")).await.text;
    assert!(none.contains("No such entry") && !none.contains("<script>"), "{none}");
    for (query, field) in [
        ("kind=none", "kind"),
        ("key=ada", "kind"),
        ("since=yesterday", "since"),
        ("since=2026-01-02&until=2026-01-01", "until"),
    ] {
        let wrong = world.get(&format!("{AUDIT}?{query}")).await;
        assert_eq!(wrong.status, 422, "{query}");
        assert!(wrong.text.contains(&format!("id=\"{field}-problem\"")), "{query}: {}", wrong.text);
    }
}

#[tokio::test]
async fn an_entry_shows_what_was_before_and_after_and_no_secret() {
    let world = World::start().await;
    world.person("ada", &[]).await;
    let list = world.get(&format!("{AUDIT}?action=password.change")).await.text;
    let seq = list
        .split(&format!("{AUDIT}/"))
        .find_map(|rest| rest.split('"').next()?.parse::<u64>().ok())
        .expect("an entry");
    let entry = world.get(&format!("{AUDIT}/{seq}")).await;
    assert_eq!(entry.status, 200, "{}", entry.text);
    assert!(entry.text.contains("/passwordHash") && entry.text.contains("(masked)"), "{}", entry.text);
    assert!(entry.text.contains("<del>true</del>") && !entry.text.contains("argon2"), "{}", entry.text);
    assert_eq!(world.get(&format!("{AUDIT}/999999")).await.status, 404);
    assert_eq!(world.get(&format!("{AUDIT}/x")).await.status, 400);
}

#[tokio::test]
async fn verifying_tells_up_to_where_and_the_last_checkpoint() {
    let world = World::start().await;
    assert!(world.get(AUDIT).await.text.contains("No checkpoint has been signed yet"));
    let kept = world.app.evidence().checkpoint(&world.op).await.expect("made");
    let page = world.get(AUDIT).await.text;
    assert!(page.contains(&format!("entry <strong>{}</strong>", kept.checkpoint.entries)), "{page}");
    let verified = world.post(&format!("{AUDIT}/verify"), &[]).await;
    assert_eq!(verified.status, 200, "{}", verified.text);
    assert!(
        verified.text.contains(&format!("Verified up to entry {}", kept.checkpoint.entries)),
        "{}",
        verified.text
    );
    assert!(verified.text.contains("1 signed checkpoint lies on the chain"), "{}", verified.text);
}

#[tokio::test]
async fn exports_are_downloads_of_what_the_filter_finds_without_secrets() {
    let world = World::start().await;
    world.person("ada", &[]).await;
    let jsonl = world.get(&format!("{AUDIT}/export?format=jsonl")).await;
    assert_eq!((jsonl.status, jsonl.header("content-type")), (200, "application/jsonl"));
    let name = jsonl.header("content-disposition");
    assert!(
        name.starts_with("attachment; filename=\"journal-default-") && name.ends_with(".jsonl\""),
        "{name}"
    );
    let lines: Vec<serde_json::Value> =
        jsonl.text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert!(lines.len() > 5 && !jsonl.text.contains("argon2"), "{}", lines.len());
    let csv = world.get(&format!("{AUDIT}/export?format=csv&action=user.create&actor=admin")).await;
    let rows: Vec<_> = csv.text.trim_end().split("\r\n").collect();
    assert!(
        rows[0].starts_with("seq,at,realm") && rows.len() == 2 && rows[1].contains("user.create"),
        "{}",
        csv.text
    );
    assert_eq!(world.get(&format!("{AUDIT}/export?since=yesterday")).await.status, 422);
}
