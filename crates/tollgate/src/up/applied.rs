//! What was changed works here before the change is answered: whoever makes a key and calls with it is let in, and whoever
//! revokes one has it refused.
//!
//! A commit is durable when it is answered; the gateway of this process follows it within a millisecond. Without this the
//! next call could overtake it. Gateways elsewhere follow by themselves: `tollgate key revoke --wait` waits for those.

use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{self, Next};
use axum::response::Response;
use tokio::sync::watch;

/// Longest wait. What is committed is answered all the same: a follower that is held up is said by `/readyz`.
const LONGEST: Duration = Duration::from_secs(1);

/// How far the store is, as this process knows it, and how far its gateway.
#[derive(Clone)]
pub(crate) struct Applied {
    pub(crate) head: watch::Receiver<u64>,
    pub(crate) followed: watch::Receiver<Option<u64>>,
}

/// Has a router answer changes once they are applied.
pub(crate) fn once_applied(router: Router, applied: Applied) -> Router {
    router.layer(middleware::from_fn_with_state(applied, answer))
}

async fn answer(State(mut applied): State<Applied>, request: Request, next: Next) -> Response {
    let may_change = !request.method().is_safe();
    let response = next.run(request).await;
    // A form is answered with a redirection.
    if may_change && (response.status().is_success() || response.status().is_redirection()) {
        let head = *applied.head.borrow_and_update();
        let is_there = applied.followed.wait_for(|followed| followed.is_some_and(|seq| seq >= head));
        let _ = tokio::time::timeout(LONGEST, is_there).await;
    }
    response
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::routing::post;
    use http::{Method, StatusCode};
    use tokio::time::Instant;
    use tower::ServiceExt as _;

    use super::*;

    struct World {
        router: Router,
        followed: watch::Sender<Option<u64>>,
    }

    /// A router whose changes are entry 7 of the journal.
    fn world(status: StatusCode) -> World {
        let (head, of_head) = watch::channel(6);
        let (followed, of_followed) = watch::channel(Some(6));
        let handler = move || async move {
            head.send_replace(7);
            status
        };
        let router = Router::new().route("/", post(handler.clone()).get(handler));
        World { router: once_applied(router, Applied { head: of_head, followed: of_followed }), followed }
    }

    async fn send(router: Router, method: Method) -> StatusCode {
        let request = http::Request::builder().method(method).uri("/").body(Body::empty());
        router.oneshot(request.expect("a request")).await.expect("an answer").status()
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_is_answered_once_the_gateway_knows_it() {
        for status in [StatusCode::CREATED, StatusCode::SEE_OTHER] {
            let World { router, followed } = world(status);
            let answer = tokio::spawn(send(router, Method::POST));
            tokio::time::sleep(LONGEST / 2).await;
            assert!(!answer.is_finished());
            followed.send_replace(Some(7));
            assert_eq!(answer.await.expect("no panic"), status);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_is_answered_in_the_end_when_the_gateway_is_held_up() {
        let World { router, followed } = world(StatusCode::CREATED);
        let began = Instant::now();
        assert_eq!(send(router, Method::POST).await, StatusCode::CREATED);
        assert_eq!(began.elapsed(), LONGEST);
        drop(followed);
    }

    #[tokio::test(start_paused = true)]
    async fn what_changes_nothing_waits_for_nothing() {
        let began = Instant::now();
        for (status, method) in [
            (StatusCode::OK, Method::GET),
            (StatusCode::CONFLICT, Method::POST),
            (StatusCode::UNAUTHORIZED, Method::POST),
        ] {
            let World { router, followed } = world(status);
            assert_eq!(send(router, method).await, status);
            drop(followed);
        }
        assert_eq!(began.elapsed(), Duration::ZERO);
    }
}
