//! Waiting for what other tasks and processes do.

use std::net::TcpListener;
use std::time::Duration;

/// How often [`wait_until`] looks.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Waits until a condition holds.
///
/// It looks again and again, because what tests wait for (another process, a port, a file) has nothing that
/// could wake them. The deadline only bounds how long a failing test takes: a passing one ends as soon as the
/// condition holds.
///
/// # Panics
///
/// When the condition does not hold by the deadline; the message says what was waited for.
pub async fn wait_until(what: &str, deadline: Duration, mut condition: impl AsyncFnMut() -> bool) {
    let wait = async {
        while !condition().await {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    if tokio::time::timeout(deadline, wait).await.is_err() {
        panic!("waited {deadline:?} in vain: {what}");
    }
}

/// Returns a loopback port on which nothing listens at the moment.
///
/// Another process can take it before it is used: bind port 0 instead where that is possible.
///
/// # Panics
///
/// When the system has no free port.
pub fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0))
        .and_then(|listener| listener.local_addr())
        .expect("a free loopback port")
        .port()
}
