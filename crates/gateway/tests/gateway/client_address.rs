//! What flows see of where a call comes from, and what callers can make them see.

use std::net::SocketAddr;
use std::sync::Arc;

use http::StatusCode;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tollgate_flow::compile;
use tollgate_gateway::FlowTrial;
use tollgate_listener::{Entrance, ForwardedHeader, TrustedProxies};
use tollgate_model::document::parse_pipeline;
use tollgate_model::environments::Exposure;
use tollgate_model::ids::RequestId;
use tollgate_model::names::{EnvironmentName, PipelineName, RealmName};
use tollgate_model::trials::SampleMessage;
use tollgate_testkit::{Answer, Upstream};

use crate::world::{World, get};

/// The message is replaced before the address is read, so that it cannot be part of the message.
const WHERE: &str = "{kind: Pipeline, name: where, project: store, trigger: {type: rest, methods: [GET], \
    externalApi: true}, steps: [{json: {told: '{{ message.headers }}'}}, {json: {client: '{{ client.address }}', \
    told: \"{{ 'x-forwarded-for' in message.told ? message.told['x-forwarded-for'] : '' }}\", \
    inside: \"{{ client.address.startsWith('10.') }}\"}}]}";

fn behind(network: &str, header: ForwardedHeader) -> Entrance {
    let networks = vec![network.parse().expect("a network")];
    Entrance { proxies: Arc::new(TrustedProxies::new(networks, header)), ..Entrance::default() }
}

/// Returns what the flow saw of a call that begins with these bytes and has these header fields.
async fn seen(entrance: Entrance, bind: &str, before: &[u8], fields: &str) -> Value {
    let mut world = World::new();
    world.deploy(WHERE);
    world.publish();
    let listener = TcpListener::bind(bind).await.expect("a port");
    let address: SocketAddr = listener.local_addr().expect("bound");
    let (stop, shutdown) = watch::channel(false);
    let gateway = world.gateway.clone();
    let serving = tokio::spawn(async move {
        gateway.serve(listener, entrance, EnvironmentName::test(), Exposure::External, shutdown).await;
    });
    let mut stream = TcpStream::connect(address).await.expect("listening");
    let head =
        format!("GET /pipeline/default/v1/where HTTP/1.1\r\nhost: a\r\nconnection: close\r\n{fields}\r\n");
    stream.write_all(&[before, head.as_bytes()].concat()).await.expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("answered");
    stop.send(true).expect("serving");
    serving.await.expect("ends");
    let (_, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{answer:?}"));
    serde_json::from_str(body).unwrap_or_else(|_| panic!("{answer:?}"))
}

#[tokio::test]
async fn a_flow_sees_the_address_that_limits_count_and_not_what_a_caller_writes() {
    let forged = "x-forwarded-for: 10.0.0.1\r\nforwarded: for=10.0.0.1\r\nx-real-ip: 10.0.0.1\r\n";
    let elsewhere = || behind("198.51.100.0/24", ForwardedHeader::XForwardedFor);
    let here = || behind("127.0.0.0/8", ForwardedHeader::XForwardedFor);
    for (entrance, fields, client) in [
        (Entrance::default(), forged, "127.0.0.1"),
        (elsewhere(), forged, "127.0.0.1"),
        (here(), "x-forwarded-for: 10.0.0.1, 203.0.113.9\r\n", "203.0.113.9"),
        (here(), "x-forwarded-for: 2001:db8::9\r\n", "2001:db8::9"),
        (here(), "x-forwarded-for: ::ffff:203.0.113.9\r\n", "203.0.113.9"),
        (here(), "forwarded: for=10.0.0.1\r\n", "127.0.0.1"),
        (
            behind("127.0.0.0/8", ForwardedHeader::Forwarded),
            "forwarded: for=\"[2001:db8::9]:1\"\r\n",
            "2001:db8::9",
        ),
    ] {
        let what = format!("{entrance:?} {fields}");
        let found = seen(entrance, "127.0.0.1:0", b"", fields).await;
        assert_eq!((&found["client"], &found["inside"]), (&json!(client), &json!(false)), "{what}: {found}");
    }
    // What the caller wrote is where it was: among the headers.
    let found = seen(Entrance::default(), "127.0.0.1:0", b"", forged).await;
    assert_eq!(found["told"], "10.0.0.1");
    let found = seen(elsewhere(), "[::1]:0", b"", forged).await;
    assert_eq!(found["client"], "::1");
}

#[tokio::test]
async fn a_flow_sees_the_address_that_the_proxy_protocol_tells() {
    let behind =
        || Entrance { proxy_protocol: true, ..behind("127.0.0.0/8", ForwardedHeader::XForwardedFor) };
    let told = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xcb\0\x71\x09\x7f\0\0\x01\x12\x67\x01\xbb";
    let found = seen(behind(), "127.0.0.1:0", told, "x-forwarded-for: 10.0.0.1\r\n").await;
    assert_eq!(found["client"], "203.0.113.9");
    let mut told = b"\r\n\r\n\0\r\nQUIT\n\x21\x21\0\x24".to_vec();
    let source: std::net::Ipv6Addr = "2001:db8::9".parse().expect("an address");
    told.extend([source.octets(), source.octets()].concat());
    told.extend(b"\x12\x67\x01\xbb");
    assert_eq!(seen(behind(), "127.0.0.1:0", &told, "").await["client"], "2001:db8::9");
}

#[tokio::test]
async fn an_upstream_step_can_pass_the_address_on() {
    let upstream = Upstream::start().await.expect("a port");
    upstream.answer(Answer::new(StatusCode::OK, "fine"));
    let mut world = World::new();
    world.deploy(&format!(
        "{{kind: Pipeline, name: where, project: store, trigger: {{type: rest, methods: [GET], externalApi: true}}, \
         steps: [{{http: {{url: '{}', headers: {{x-client: '{{{{ client.address }}}}'}}}}}}]}}",
        upstream.url("/x")
    ));
    world.publish();
    let call = get("/pipeline/default/v1/where", &[("x-forwarded-for", "10.0.0.1")]);
    let reply = world.call(&EnvironmentName::test(), call).await;
    assert_eq!(reply.status, StatusCode::OK);
    let requests = upstream.requests();
    assert_eq!(requests.first().expect("called").headers["x-client"], "192.0.2.1");
}

#[tokio::test]
async fn a_schedule_has_no_client_and_can_say_so() {
    let mut world = World::new();
    for (name, step) in [
        ("asks", "{json: {from: '{{ client == null ? \"nobody\" : client.address }}'}}"),
        ("demands", "{json: {from: '{{ client.address }}'}}"),
    ] {
        world.deploy(&format!(
            "{{kind: Pipeline, name: {name}, project: store, steps: [{step}], \
             trigger: {{type: scheduler, cron: '0 6 * * *'}}}}"
        ));
    }
    let snapshot = world.publish();
    for schedule in snapshot.schedules().iter().filter(|it| it.environment == EnvironmentName::test()) {
        let run = world.gateway.run_scheduled(&snapshot, schedule).await;
        let expected = if schedule.pipeline.as_str() == "asks" { 200 } else { 500 };
        assert_eq!(run.status.as_u16(), expected, "{}", schedule.pipeline);
    }
}

#[tokio::test]
async fn a_trial_says_whose_address_it_is() {
    let world = World::new();
    world.publish();
    let pipeline = parse_pipeline(WHERE).expect("a pipeline").value;
    let flow = compile(&pipeline).expect("compiles");
    let told = |address: Option<&str>| SampleMessage {
        client_address: address.map(|it| it.parse().expect("an address")),
        ..SampleMessage::default()
    };
    for (message, client) in [
        (SampleMessage::default(), Some("192.0.2.1")),
        (told(Some("2001:db8::9")), Some("2001:db8::9")),
        (told(None), None),
    ] {
        let trial = FlowTrial {
            realm: &RealmName::default(),
            environment: &EnvironmentName::test(),
            pipeline: &PipelineName::parse("where").expect("a name"),
            version: "draft",
            flow: &flow,
            timeout: std::time::Duration::from_secs(5),
            message,
            request_id: RequestId::new(world.now(), [1; 10]),
        };
        let report = world.gateway.try_flow(trial).await.expect("tried");
        let body = report.answer.body.map(|body| body.value["client"].clone());
        assert_eq!(body, client.map(Value::from), "{:?}", report.answer.code);
    }
}
