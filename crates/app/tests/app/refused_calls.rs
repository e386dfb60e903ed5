//! Explanations and refused calls, with a gateway that says what it is told to.

use std::net::IpAddr;
use std::sync::{Arc, Mutex};

use jiff::{SignedDuration, Timestamp};
use tollgate_app::access::{Extent, Op, Permission, Reach, Rights};
use tollgate_app::calls::Days;
use tollgate_app::errors::ErrorKind;
use tollgate_app::explanations::{Listener, NotExplained, ThisGateway};
use tollgate_app::keys::Expiry;
use tollgate_app::lists::ListRequest;
use tollgate_app::refused_calls::{DroppedCount, RefusalFilter};
use tollgate_app::trials::{NotTried, PreparedTrial};
use tollgate_flow::BoxFuture;
use tollgate_model::environments::Exposure;
use tollgate_model::explanations::{
    CallToExplain, Check, CheckOutcome, CheckReport, ExplainedAnswer, Explanation, Reached, Refusal,
    SentCredentials,
};
use tollgate_model::ids::{KeyId, RequestId};
use tollgate_model::names::{EnvironmentName, RealmName};
use tollgate_model::recent_calls::RecentCalls;
use tollgate_model::trials::{TrialReport, TriedAnswer};
use tollgate_store::RecordTable;

use crate::world::{KEYED, World, consumer, pipeline};

pub(crate) fn any_call() -> CallToExplain {
    CallToExplain {
        environment: EnvironmentName::test(),
        exposure: Exposure::External,
        method: "GET".to_owned(),
        url: "/".to_owned(),
        headers: Vec::new(),
        body_length: None,
        certificate: None,
        remote: IpAddr::from([127, 0, 0, 1]),
    }
}

/// A gateway that knows some refusals and one key.
#[derive(Default)]
pub(crate) struct FakeGateway {
    pub(crate) refusals: Mutex<Vec<Arc<Refusal>>>,
    pub(crate) key: Option<KeyId>,
    pub(crate) recent: RecentCalls,
    pub(crate) expiring: Vec<Expiry>,
    /// The flow that was tried last.
    pub(crate) tried: Mutex<Option<String>>,
}

impl ThisGateway for FakeGateway {
    fn explain<'a>(
        &'a self,
        _: &'a RealmName,
        call: &'a CallToExplain,
    ) -> BoxFuture<'a, Result<Explanation, NotExplained>> {
        let explanation = match call.url.as_str() {
            "/invalid" => Err(NotExplained::Invalid("this is no call".to_owned())),
            "/elsewhere" => Err(NotExplained::OtherRealm),
            _ => Ok(Explanation {
                at: Timestamp::UNIX_EPOCH,
                revision: Some(7),
                answer: ExplainedAnswer { status: Some(401), code: Some("api-key-invalid".to_owned()) },
                reached: Reached { key: self.key, ..Reached::default() },
                sent: SentCredentials::default(),
                checks: Vec::new(),
            }),
        };
        Box::pin(std::future::ready(explanation))
    }

    fn try_flow<'a>(&'a self, trial: PreparedTrial<'a>) -> BoxFuture<'a, Result<TrialReport, NotTried>> {
        let answer = TriedAnswer { status: 200, code: None, headers: Vec::new(), body: None };
        let _ = self.tried.lock().expect("lock").insert(format!("{}@{}", trial.pipeline, trial.version));
        Box::pin(async { Ok(TrialReport { steps: Vec::new(), answer, upstream_calls: 0, micros: 1 }) })
    }

    fn refusal(&self, _: &RealmName, id: RequestId) -> Option<Arc<Refusal>> {
        self.refusals.lock().unwrap().iter().find(|it| it.request_id == id).cloned()
    }

    fn refusals(&self, _: &RealmName) -> Vec<Arc<Refusal>> {
        self.refusals.lock().unwrap().clone()
    }

    fn recent_calls(&self, _: &RealmName) -> RecentCalls {
        self.recent.clone()
    }

    fn expiring_keys(&self, _: &RealmName, now: Timestamp, until: Timestamp) -> Vec<Expiry> {
        self.expiring.iter().filter(|it| now < it.at && it.at <= until).cloned().collect()
    }

    fn listeners(&self) -> Vec<Listener> {
        let at = |environment: &str, port: u16| Listener {
            environment: environment.parse().unwrap(),
            exposure: Exposure::External,
            mtls: false,
            address: ([127, 0, 0, 1], port).into(),
            tls: false,
        };
        vec![at("test", 7001), at("of-another-realm", 7009)]
    }
}

/// A refusal so many seconds ago, of a pipeline, with a code.
fn refused(world: &World, seconds_ago: i64, n: u8, name: &str, code: &str) -> Arc<Refusal> {
    let at = world.op.now - SignedDuration::from_secs(seconds_ago);
    Arc::new(Refusal {
        request_id: RequestId::new(at, [n; 10]),
        at,
        environment: EnvironmentName::test(),
        exposure: Exposure::External,
        method: "GET".to_owned(),
        path: "/a".to_owned(),
        remote: IpAddr::from([192, 0, 2, 1]),
        status: 401,
        code: code.to_owned(),
        reached: Reached {
            pipeline: Some(pipeline(name)),
            consumer: (n.is_multiple_of(2)).then(|| consumer("ann")),
            ..Reached::default()
        },
        sent: SentCredentials::default(),
        revision: 3,
        checks: vec![CheckReport {
            check: Check::ApiKeyKnown,
            outcome: CheckOutcome::Failed,
            why: Some("no".to_owned()),
        }],
    })
}

async fn keep(world: &World, refusals: &[Arc<Refusal>]) {
    let realm = world.op.realm.clone();
    let batch: Vec<_> = refusals.iter().map(|it| (realm.clone(), it.clone())).collect();
    world.app.refused_calls().keep(&batch).await.unwrap();
}

#[tokio::test]
async fn an_explanation_names_the_key_and_says_what_cannot_be_explained() {
    let world = World::start().await;
    world.save("shop", KEYED).await;
    let key = world.consumer("ann").await.key.unwrap().key;
    let (explanations, op) = (world.app.explanations(), &world.op);
    let error = explanations.explain(op, &any_call()).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unavailable, "there is no gateway yet");
    world.app.set_gateway(Arc::new(FakeGateway { key: Some(key.id), ..FakeGateway::default() }));

    let named = explanations.explain(op, &any_call()).await.unwrap();
    let shown = named.key.unwrap();
    assert_eq!((shown.id, shown.hint), (key.id.to_string(), Some(key.hint)));
    let call = |url: &str| CallToExplain { url: url.to_owned(), ..any_call() };
    let error = explanations.explain(op, &call("/invalid")).await.unwrap_err();
    assert_eq!((error.kind, error.code), (ErrorKind::Invalid, "call-invalid"));
    let error = explanations.explain(op, &call("/elsewhere")).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::NotFound);
    let nowhere = CallToExplain { environment: "nowhere".parse().unwrap(), ..any_call() };
    assert_eq!(explanations.explain(op, &nowhere).await.unwrap_err().kind, ErrorKind::NotFound);
    let listeners = explanations.listeners(op).await.unwrap();
    assert_eq!(listeners.len(), 1, "of the environments of the realm: {listeners:?}");
}

#[tokio::test]
async fn a_refused_call_is_found_in_memory_or_in_the_store_of_its_realm_for_three_days() {
    let world = World::start().await;
    let (refusals, op) = (world.app.refused_calls(), &world.op);
    let (fresh, stored) =
        (refused(&world, 0, 1, "shop", "jwt-missing"), refused(&world, 60, 2, "shop", "jwt-missing"));
    let old = refused(&world, 72 * 3_600, 3, "shop", "jwt-missing");
    keep(&world, &[stored.clone(), old.clone()]).await;
    let gateway = FakeGateway { refusals: Mutex::new(vec![fresh.clone()]), ..FakeGateway::default() };
    world.app.set_gateway(Arc::new(gateway));
    for known in [&fresh, &stored] {
        assert_eq!(refusals.get(op, known.request_id).await.unwrap().refusal, *known);
    }
    let error = refusals.get(op, old.request_id).await.unwrap_err();
    assert!(error.kind == ErrorKind::NotFound && error.message.contains("kept for 3 days"), "{error}");
    let error = refusals.get(op, RequestId::new(op.now, [9; 10])).await.unwrap_err();
    assert!(error.code == "not-found" && error.message.contains("there is no refused call"), "{error}");

    // Another realm finds nothing of what is stored.
    let other = RealmName::parse("other").unwrap();
    world.app.realms().create(op, other.clone()).await.unwrap();
    let elsewhere = Op { realm: other, ..op.clone() };
    assert_eq!(refusals.get(&elsewhere, stored.request_id).await.unwrap_err().kind, ErrorKind::NotFound);

    assert_eq!(refusals.forget_old().await.unwrap(), 1);
    let record = world.store.get_record(RecordTable::Refusals, &op.realm, &old.request_id.to_string()).await;
    assert_eq!(record.unwrap(), None);
}

#[tokio::test]
async fn a_list_is_filtered_and_paged_across_memory_and_store_newest_first() {
    let world = World::start().await;
    let (refusals, op) = (world.app.refused_calls(), &world.op);
    let make = |n: u8| {
        let (name, code) =
            if n.is_multiple_of(3) { ("shop", "jwt-missing") } else { ("login", "api-key-invalid") };
        refused(&world, 100 - i64::from(n), n, name, code)
    };
    let stored: Vec<_> = (0..20).map(make).collect();
    keep(&world, &stored).await;
    // The newest are in memory only, others in both.
    let in_memory: Vec<_> = (10..25).rev().map(make).collect();
    world
        .app
        .set_gateway(Arc::new(FakeGateway { refusals: Mutex::new(in_memory), ..FakeGateway::default() }));

    let all = async |filter: RefusalFilter, limit: u32| {
        let (mut found, mut cursor) = (Vec::new(), None);
        loop {
            let request = ListRequest { limit: Some(limit), cursor };
            let page = refusals.list(op, &filter, request).await.unwrap().page;
            assert!(page.items.len() <= limit as usize);
            found.extend(page.items);
            cursor = page.next;
            if cursor.is_none() {
                return found.iter().map(|it| 100 - (op.now - it.at).get_seconds()).collect::<Vec<_>>();
            }
        }
    };
    for limit in [1, 7, 500] {
        assert_eq!(all(RefusalFilter::default(), limit).await, (0..25).rev().collect::<Vec<_>>());
        let shop = RefusalFilter { pipeline: Some(pipeline("shop")), ..RefusalFilter::default() };
        assert_eq!(all(shop, limit).await, [24, 21, 18, 15, 12, 9, 6, 3, 0]);
        let code = RefusalFilter { code: Some("jwt-missing".to_owned()), ..RefusalFilter::default() };
        let code = RefusalFilter { consumer: Some(consumer("ann")), ..code };
        assert_eq!(all(code, limit).await, [24, 18, 12, 6, 0]);
        let since =
            RefusalFilter { since: Some(op.now - SignedDuration::from_secs(80)), ..RefusalFilter::default() };
        assert_eq!(all(since, limit).await, [24, 23, 22, 21, 20]);
        let prod = RefusalFilter { environment: Some(EnvironmentName::prod()), ..RefusalFilter::default() };
        assert_eq!(all(prod, limit).await, [0_i64; 0]);
    }
    let nowhere = RefusalFilter { environment: Some("nowhere".parse().unwrap()), ..RefusalFilter::default() };
    let error = refusals.list(op, &nowhere, ListRequest::default()).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::NotFound);
    let request = ListRequest { cursor: Some("req_%".to_owned()), limit: None };
    let error = refusals.list(op, &RefusalFilter::default(), request).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Invalid);
}

#[tokio::test]
async fn a_filter_that_passes_over_many_is_answered_in_bounded_pages() {
    let world = World::start().await;
    let (refusals, op) = (world.app.refused_calls(), &world.op);
    let rare = refused(&world, 7_000, 1, "shop", "jwt-missing");
    let mut many: Vec<_> = (0..6_000).map(|n| refused(&world, n, 2, "login", "jwt-missing")).collect();
    many.push(rare.clone());
    for batch in many.chunks(500) {
        keep(&world, batch).await;
    }
    let filter = RefusalFilter { pipeline: Some(pipeline("shop")), ..RefusalFilter::default() };
    let first = refusals.list(op, &filter, ListRequest::default()).await.unwrap().page;
    assert_eq!(first.items.len(), 0);
    let request = ListRequest { cursor: Some(first.next.expect("there are more")), limit: None };
    let second = refusals.list(op, &filter, request).await.unwrap().page;
    assert_eq!((second.items, second.next), (vec![rare], None));
}

#[tokio::test]
async fn what_was_not_kept_is_said() {
    let world = World::start().await;
    let (refusals, op) = (world.app.refused_calls(), &world.op);
    let minute = op.now.as_second() / 60;
    let count = |writer: &str, minute, count| DroppedCount {
        realm: op.realm.clone(),
        minute,
        count,
        writer: writer.to_owned(),
    };
    refusals.keep_dropped(&[count("a", minute, 3), count("b", minute, 4)]).await.unwrap();
    refusals.keep_dropped(&[count("a", minute, 5), count("a", minute - 60, 100)]).await.unwrap();
    let error = refusals.get(op, RequestId::new(op.now, [1; 10])).await.unwrap_err();
    assert_eq!((error.kind, error.code), (ErrorKind::NotFound, "refusal-not-kept"));
    assert!(error.message.contains("9 of that minute"), "{error}");
    let not_kept = async |filter: &RefusalFilter| {
        refusals.list(op, filter, ListRequest::default()).await.unwrap().not_kept
    };
    assert_eq!(not_kept(&RefusalFilter::default()).await, 109);
    let since = RefusalFilter { since: Some(op.now), ..RefusalFilter::default() };
    assert_eq!(not_kept(&since).await, 9);
}

#[tokio::test]
async fn what_lies_in_another_environment_than_the_right_is_not_there() {
    let world = World::start().await;
    let known = refused(&world, 1, 1, "shop", "jwt-missing");
    keep(&world, std::slice::from_ref(&known)).await;
    world.app.set_gateway(Arc::new(FakeGateway::default()));
    let of = |environment: EnvironmentName| {
        let environments = Extent::Only([environment].into());
        let reach = Reach { environments, projects: Extent::All };
        world.with(Rights::of([Permission::CallExplain, Permission::AccessRead], &reach))
    };
    let (test, prod) = (of(EnvironmentName::test()), of(EnvironmentName::prod()));
    let (explanations, refusals) = (world.app.explanations(), world.app.refused_calls());
    assert!(explanations.explain(&test, &any_call()).await.is_ok());
    assert_eq!(explanations.explain(&prod, &any_call()).await.unwrap_err().kind, ErrorKind::Forbidden);
    let found = async |op: &Op| {
        let all = refusals.list(op, &RefusalFilter::default(), ListRequest::default()).await.unwrap();
        (all.page.items.len(), refusals.get(op, known.request_id).await.map(|_| ()).map_err(|it| it.kind))
    };
    assert_eq!(found(&test).await, (1, Ok(())));
    assert_eq!(found(&prod).await, (0, Err(ErrorKind::NotFound)));
    assert_eq!(explanations.listeners(&test).await.unwrap().len(), 1);
    assert_eq!(explanations.listeners(&prod).await.unwrap().len(), 0);

    world.save("shop", KEYED).await;
    let consumer = world.consumer("ann").await.consumer;
    let with = [pipeline("shop")].into();
    world.app.consumers().associate(&world.op, &world.test, &consumer.name, with, None).await.unwrap();
    let reach = world.app.reach();
    let waiting =
        async |op: &Op| reach.callers(op, &pipeline("shop"), None).await.unwrap().not_deployed.len();
    assert_eq!((waiting(&test).await, waiting(&prod).await), (1, 0));
    let error = reach.of_consumer(&prod, &world.test, &consumer.name).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Forbidden);
    let unused = reach.unused(&prod, Days::parse(None).unwrap(), None).await.unwrap();
    assert_eq!((unused.associations.len(), unused.keys.len()), (0, 0));
}
