//! Finding objects by something other than their keys.

use serde_json::json;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _};
use tollgate_model::consumers::{ApiKey, BasicAuth, Consumer};
use tollgate_model::names::RealmName;
use tollgate_store::{Change, Expect, Mutation, Page, RecordTable, Store};

use crate::{Database, change, realm};

contracts! {
    credentials_are_found_by_their_consumer
    credentials_and_consumers_are_found_by_what_callers_show
    names_are_searched_a_page_at_a_time
    a_word_is_found_where_it_stands_alone
    a_lookup_follows_every_change_and_reads_the_past
    records_are_read_by_many_keys
    whose_a_credential_is_cannot_be_set_beside_it
}

fn consumer(n: u32, name: &str, pipelines: &[&str]) -> Mutation {
    let value: Consumer = serde_json::from_value(json!({ "id": format!("con_{n:032x}"), "name": name,
        "environment": "test", "description": "calls \"orders\"", "pipelines": pipelines,
        "createdAt": "2026-01-01T00:00:00Z" }))
    .unwrap();
    Mutation::put(&value, Expect::Any).unwrap()
}

fn key(n: u32, consumer: u32, environment: &str) -> Mutation {
    let value: ApiKey = serde_json::from_value(json!({ "id": format!("key_{n:032x}"),
        "consumer": format!("con_{consumer:032x}"), "environment": environment, "name": "k",
        "digest": format!("{n:064x}"), "hint": "abcd", "createdAt": "2026-01-01T00:00:00Z" }))
    .unwrap();
    Mutation::put(&value, Expect::Any).unwrap()
}

fn login(n: u32, consumer: u32, username: &str) -> Mutation {
    let value: BasicAuth = serde_json::from_value(json!({ "id": format!("bas_{n:032x}"),
        "consumer": format!("con_{consumer:032x}"), "environment": "test", "username": username,
        "passwordHash": "$argon2id$", "createdAt": "2026-01-01T00:00:00Z" }))
    .unwrap();
    Mutation::put(&value, Expect::Any).unwrap()
}

fn id(n: u32) -> String {
    format!("con_{n:032x}")
}

fn page(prefix: &str, after: Option<&str>, limit: u32) -> Page {
    Page { prefix: prefix.to_owned(), after: after.map(str::to_owned), limit }
}

async fn filled(database: &Database) -> Store {
    let store = database.store().await;
    let mut mutations = vec![
        consumer(1, "shop", &["orders", "order-lines"]),
        consumer(2, "shop-2", &[]),
        consumer(3, "web", &["order-lines"]),
        key(1, 1, "test"),
        key(2, 1, "test"),
        key(3, 2, "test"),
        key(4, 9, "prod"),
        login(1, 2, "o'neill"),
        login(2, 2, "shop"),
    ];
    mutations.extend((100..350).map(|n| key(n, n, "test")));
    store.commit(change(mutations)).await.unwrap();
    store
}

async fn credentials_are_found_by_their_consumer(database: Database) {
    let store = filled(&database).await;
    let keys = async |ids: &[String]| {
        let found = store.owned::<ApiKey>(&realm(), ids).await.unwrap();
        found.iter().map(|it| it.value.digest.trim_start_matches('0').to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(keys(&[id(1)]).await, ["1", "2"]);
    assert_eq!(keys(&[id(2), id(9)]).await, ["4", "3"], "prod comes before test");
    assert!(keys(&[id(3), "'; --".to_owned()]).await.is_empty());
    assert!(keys(&[]).await.is_empty());
    let many: Vec<String> = (100..350).map(id).collect();
    assert_eq!(keys(&many).await.len(), 250);
    assert_eq!(store.owned::<BasicAuth>(&realm(), &[id(2)]).await.unwrap().len(), 2);
    let elsewhere = RealmName::parse("other").unwrap();
    assert!(store.owned::<ApiKey>(&elsewhere, &[id(1)]).await.unwrap().is_empty());
}

async fn credentials_and_consumers_are_found_by_what_callers_show(database: Database) {
    let store = filled(&database).await;
    let digest = format!("{:064x}", 4);
    assert_eq!(store.with_handle::<ApiKey>(&realm(), "prod/", &digest).await.unwrap().len(), 1);
    assert!(store.with_handle::<ApiKey>(&realm(), "test/", &digest).await.unwrap().is_empty());
    assert_eq!(store.with_handle::<BasicAuth>(&realm(), "test/", "o'neill").await.unwrap().len(), 1);
    assert!(store.with_handle::<BasicAuth>(&realm(), "test/", "%").await.unwrap().is_empty());
    assert!(store.with_handle::<BasicAuth>(&realm(), "test/", "a\0").await.unwrap().is_empty());
    let found = store.with_handle::<Consumer>(&realm(), "test/", &id(3)).await.unwrap();
    assert_eq!(found[0].value.name.as_str(), "web");
}

async fn names_are_searched_a_page_at_a_time(database: Database) {
    let store = filled(&database).await;
    let names = async |page: Page, text: &str| {
        let found = store.search::<Consumer>(&realm(), &page, text).await.unwrap();
        found.iter().map(|it| it.value.name.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(names(page("test/", None, 10), "ho").await, ["shop", "shop-2"]);
    assert_eq!(names(page("test/", None, 1), "ho").await, ["shop"]);
    assert_eq!(names(page("test/", Some("test/shop"), 10), "ho").await, ["shop-2"]);
    assert_eq!(names(page("test/", None, 10), "").await, ["shop", "shop-2", "web"]);
    for none in ["tes", "%", "_", "'", "\0"] {
        assert!(names(page("test/", None, 10), none).await.is_empty(), "{none:?}");
    }
    assert!(names(page("prod/", None, 10), "ho").await.is_empty());
}

async fn a_word_is_found_where_it_stands_alone(database: Database) {
    let store = filled(&database).await;
    let names = async |word: &str| {
        let found = store.mentioning::<Consumer>(&realm(), &page("", None, 10), word).await.unwrap();
        found.iter().map(|it| it.value.name.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(names("orders").await, ["shop"], "neither in a description nor in another word");
    assert_eq!(names("order-lines").await, ["shop", "web"]);
    assert!(names("order").await.is_empty());
}

async fn a_lookup_follows_every_change_and_reads_the_past(database: Database) {
    let store = filled(&database).await;
    let then = store.head().await.unwrap();
    store.commit(change(vec![key(1, 2, "test"), consumer(1, "shop", &[])])).await.unwrap();
    store
        .commit(Change {
            mutations: vec![Mutation::delete::<ApiKey>(
                "test/key_00000000000000000000000000000002",
                Expect::Exists,
            )],
            ..change(Vec::new())
        })
        .await
        .unwrap();
    let past = store.as_of(then);
    for (store, of_one, mentioned) in [(&store, 0, 0), (&past, 2, 1)] {
        assert_eq!(store.owned::<ApiKey>(&realm(), &[id(1)]).await.unwrap().len(), of_one);
        let mentioning = store.mentioning::<Consumer>(&realm(), &page("test/", None, 10), "orders").await;
        assert_eq!(mentioning.unwrap().len(), mentioned);
        let found =
            store.search::<Consumer>(&realm(), &page("test/", Some("test/shop"), 1), "sho").await.unwrap();
        assert_eq!(found[0].value.name.as_str(), "shop-2");
        assert_eq!(store.with_handle::<Consumer>(&realm(), "test/", &id(3)).await.unwrap().len(), 1);
    }
}

async fn whose_a_credential_is_cannot_be_set_beside_it(database: Database) {
    let store = filled(&database).await;
    store.verify_journal().await.unwrap();
    let set = format!("UPDATE objects SET owner = '{}' WHERE owner = '{}'", id(2), id(1));
    let mut connection = database.connect().await;
    connection.execute(AssertSqlSafe(set.clone())).await.unwrap_err();
    connection.close().await.unwrap();
    // Whoever may change the schema can make it a column like others, on PostgreSQL; then it is compared.
    if !database.is_sqlite() {
        database.tamper("ALTER TABLE objects ALTER COLUMN owner DROP EXPRESSION").await;
        database.tamper(&set).await;
        let error = store.verify_journal().await.unwrap_err();
        assert!(error.to_string().contains("is found as that of another"), "{error}");
    }
}

async fn records_are_read_by_many_keys(database: Database) {
    let store = database.store().await;
    for n in 0..120 {
        let (key, body) = (format!("k{n}"), format!("b{n}"));
        store.put_record(RecordTable::LastUse, &realm(), &key, &body, None).await.unwrap();
    }
    let keys: Vec<String> = (0..130).map(|n| format!("k{n}")).collect();
    let found = store.get_records(RecordTable::LastUse, &realm(), &keys).await.unwrap();
    assert_eq!((found.len(), found["k119"].as_str()), (120, "b119"));
    assert!(store.get_records(RecordTable::Idempotency, &realm(), &keys).await.unwrap().is_empty());
    assert!(store.get_records(RecordTable::LastUse, &realm(), &[]).await.unwrap().is_empty());
}
