//! Values, secrets and signing keys.

use crate::world::World;

#[tokio::test]
async fn a_global_is_shown_and_a_secret_is_not() {
    let world = World::start().await;
    let global = [("environment", "test"), ("name", "region"), ("value", "<eu>")];
    let set = world.post("/realms/default/globals", &global).await;
    assert_eq!((set.status, set.header("location")), (303, "/realms/default/globals?environment=test"));
    let page = world.get(set.header("location")).await.text;
    assert!(page.contains("region") && page.contains("&#60;eu&#62;"), "{page}");
    for kept_as in ["hash", "secret"] {
        let account = [
            ("environment", "test"),
            ("name", "portal"),
            ("field", "password"),
            ("secret", "not-to-be-seen"),
            ("kept_as", kept_as),
        ];
        let set = world.post("/realms/default/accounts", &account).await;
        assert_eq!(set.status, 303, "{}", set.text);
        let page = world.get(set.header("location")).await.text;
        assert!(page.contains("portal") && page.contains("password") && !page.contains("not-to-be-seen"));
    }
    let empty = [
        ("environment", "test"),
        ("name", "portal"),
        ("field", "password"),
        ("secret", ""),
        ("kept_as", "hash"),
    ];
    let refused = world.post("/realms/default/accounts", &empty).await;
    assert_eq!(refused.status, 422, "{}", refused.text);
    for (list, name) in [("globals", "region"), ("accounts", "portal")] {
        let path = format!("/realms/default/{list}/delete");
        assert_eq!(world.post(&path, &[("environment", "test"), ("name", name)]).await.status, 303);
        assert_eq!(world.post(&path, &[("environment", "test"), ("name", name)]).await.status, 404);
    }
}

#[tokio::test]
async fn a_signing_key_is_rotated_and_revoked() {
    let world = World::start().await;
    let path = "/realms/default/signing-keys";
    let kid = |page: &str| {
        page.split("name=\"kid\" value=\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap().to_owned()
    };
    let before = world.get(&format!("{path}?environment=test")).await.text;
    let first = kid(&before);
    let rotate = [("environment", "test"), ("overlap_hours", "1")];
    assert_eq!(world.post(&format!("{path}/rotate"), &rotate).await.status, 303);
    let after = world.get(&format!("{path}?environment=test")).await.text;
    assert!(after.contains("verifies until") && after.contains("in 1 hour"), "{after}");
    let revoke = [("environment", "test"), ("kid", first.as_str())];
    assert_eq!(world.post(&format!("{path}/revoke"), &revoke).await.status, 303);
    assert!(world.get(&format!("{path}?environment=test")).await.text.contains("revoked"));
    assert_eq!(
        world
            .post(&format!("{path}/rotate"), &[("environment", "none"), ("overlap_hours", "1")])
            .await
            .status,
        404
    );
}
