//! What became of calls.

use tokio::task::JoinSet;
use tollgate_model::traffic::{AnswerClass, CountedTraffic, Measure, TrafficCaller};
use tollgate_store::{TrafficBatch, TrafficFilter, TrafficGrouping, TrafficSum};

use crate::{Database, realm};

contracts! {
    traffic_of_several_gateways_adds_up_and_a_batch_counts_once
    traffic_is_summed_up_by_what_is_asked_for
    old_traffic_is_folded_into_longer_steps_and_loses_no_call
}

const ALL: TrafficFilter<'_> = TrafficFilter {
    since_minute: 0,
    until_minute: i64::MAX,
    environment: None,
    pipelines: &[],
    consumer: None,
};

fn ok() -> Measure {
    Measure::Answer(AnswerClass::Successful)
}

fn traffic(minute: i64, pipeline: Option<&str>, caller: TrafficCaller, measure: Measure) -> CountedTraffic {
    CountedTraffic {
        realm: realm(),
        environment: "test".parse().unwrap(),
        pipeline: pipeline.map(|name| (name.parse().unwrap(), 1)),
        minute,
        caller,
        measure,
    }
}

fn ann() -> TrafficCaller {
    TrafficCaller::Consumer("ann".parse().unwrap())
}

fn batch(id: &str, rows: &[(CountedTraffic, u64)]) -> TrafficBatch {
    TrafficBatch { id: id.into(), at: "2026-01-01T00:00:00Z".parse().unwrap(), rows: rows.to_vec() }
}

fn shown(sums: &[TrafficSum]) -> Vec<(String, i64, String, u64)> {
    let pipeline =
        |sum: &TrafficSum| sum.of.pipeline.as_ref().map_or("-".to_owned(), |(name, _)| name.to_string());
    sums.iter().map(|sum| (pipeline(sum), sum.of.minute, sum.of.measure.to_string(), sum.calls)).collect()
}

async fn traffic_of_several_gateways_adds_up_and_a_batch_counts_once(database: Database) {
    let (one, other) = (database.store().await, database.store().await);
    let mut writers = JoinSet::new();
    for n in 0..8 {
        let store = if n % 2 == 0 { one.clone() } else { other.clone() };
        let mut mine = vec![
            (traffic(7, Some("a"), ann(), ok()), 2),
            (
                traffic(7, None, TrafficCaller::Unknown, Measure::Code(AnswerClass::ClientError, "x".into())),
                3,
            ),
        ];
        mine.rotate_left(n % 2);
        writers.spawn(async move {
            let batch = batch(&format!("batch-{n}"), &mine);
            store.add_traffic(&batch).await.unwrap();
            store.add_traffic(&batch).await.unwrap();
        });
    }
    writers.join_all().await;
    let apart = TrafficGrouping { pipelines: true, callers: true, step_minutes: Some(1) };
    let sums = other.sum_traffic(&realm(), &ALL, apart).await.unwrap();
    let expected = [("-", 7, "code/4xx/x", 24), ("a", 7, "answer/2xx", 16)];
    let expected = expected.map(|(of, minute, what, calls)| (of.to_owned(), minute, what.to_owned(), calls));
    assert_eq!(shown(&sums), expected);
    assert_eq!(one.head().await.unwrap(), 0, "counting is no change");
}

async fn traffic_is_summed_up_by_what_is_asked_for(database: Database) {
    let store = database.store().await;
    let mut of_prod = traffic(61, Some("a"), ann(), ok());
    of_prod.environment = "prod".parse().unwrap();
    let mut of_other_realm = of_prod.clone();
    of_other_realm.realm = "other".parse().unwrap();
    let rows = [
        (traffic(60, Some("a"), ann(), ok()), 1),
        (traffic(61, Some("a"), ann(), Measure::Took(3)), 2),
        (traffic(64, Some("a"), TrafficCaller::Unknown, ok()), 4),
        (traffic(65, Some("a"), TrafficCaller::Others, ok()), 8),
        (traffic(66, Some("b"), ann(), ok()), 16),
        (of_prod, 32),
        (of_other_realm, 64),
    ];
    store.add_traffic(&batch("all", &rows)).await.unwrap();
    let sums = async |filter: &TrafficFilter<'_>, grouping| {
        let sums = store.sum_traffic(&realm(), filter, grouping).await.unwrap();
        sums.iter().map(|sum| sum.calls).collect::<Vec<_>>()
    };
    let (test, a, ann) = ("test".parse().unwrap(), "a".parse().unwrap(), "ann".parse().unwrap());
    let of_test = TrafficFilter { environment: Some(&test), ..ALL };
    let together = TrafficGrouping::default();
    assert_eq!(sums(&ALL, together).await, [32, 29, 2], "by environment and measure");
    assert_eq!(sums(&of_test, TrafficGrouping { pipelines: true, ..together }).await, [13, 2, 16]);
    assert_eq!(sums(&of_test, TrafficGrouping { callers: true, ..together }).await, [4, 8, 17, 2]);
    let by_five = TrafficGrouping { step_minutes: Some(5), ..together };
    assert_eq!(sums(&of_test, by_five).await, [5, 2, 24]);
    let of_a = TrafficFilter { pipelines: std::slice::from_ref(&a), ..of_test.clone() };
    assert_eq!(sums(&of_a, together).await, [13, 2]);
    let of_ann = TrafficFilter { consumer: Some(&ann), ..of_a.clone() };
    assert_eq!(sums(&of_ann, together).await, [1, 2]);
    let early = TrafficFilter { since_minute: 61, until_minute: 65, ..of_a };
    assert_eq!(sums(&early, together).await, [4, 2]);

    database.tamper("UPDATE traffic SET measure = 'secret' WHERE measure = 'took/03'").await;
    let error = store.sum_traffic(&realm(), &of_test, together).await.unwrap_err();
    assert!(
        error.to_string().starts_with("column `measure` of row `default/test/a/1/ann/61/secret`"),
        "{error}"
    );
}

async fn old_traffic_is_folded_into_longer_steps_and_loses_no_call(database: Database) {
    let store = database.store().await;
    // Beside each other: a minute that begins an hour, others of it, hours far apart, and what is too new.
    let minutes = [60, 61, 119, 120, 121, 6_000, 6_001, 60_000, 60_059, 60_060, 60_061];
    let rows = minutes.map(|minute| (traffic(minute, Some("a"), ann(), ok()), 1));
    store.add_traffic(&batch("all", &rows)).await.unwrap();
    let by_minute = async || {
        let apart = TrafficGrouping { step_minutes: Some(1), ..TrafficGrouping::default() };
        let sums = store.sum_traffic(&realm(), &ALL, apart).await.unwrap();
        sums.iter().map(|sum| (sum.of.minute, sum.calls)).collect::<Vec<_>>()
    };
    store.fold_traffic_before(1_000, 15).await.unwrap();
    let quarters = [(60, 2), (105, 1), (120, 2), (6_000, 1), (6_001, 1)];
    assert_eq!(by_minute().await.get(..5), Some(quarters.as_slice()));
    for _ in 0..2 {
        store.fold_traffic_before(60_080, 60).await.unwrap();
        let folded = [(60, 3), (120, 2), (6_000, 2), (60_000, 2), (60_060, 1), (60_061, 1)];
        assert_eq!(by_minute().await, folded, "the hour that has begun stays");
    }
    // What a gateway hands over late is folded, too.
    store.add_traffic(&batch("late", &[(traffic(70, Some("a"), ann(), ok()), 5)])).await.unwrap();
    let other = database.store().await;
    let (one, two) =
        tokio::join!(store.fold_traffic_before(60_080, 60), other.fold_traffic_before(60_080, 60));
    assert!(one.is_ok() || two.is_ok());
    assert_eq!(by_minute().await.first(), Some(&(60, 8)));
    assert_eq!(store.delete_traffic_before(6_000).await.unwrap(), 2);
    assert_eq!(by_minute().await.len(), 4);
}
