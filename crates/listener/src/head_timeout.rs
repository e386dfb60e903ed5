//! The time within which the head of a request must have come, counted anew for each request.
//!
//! hyper asks for a timer before each head and gives it back when the head is there. A timer of tokio is entered into a
//! wheel that all threads share, and taken out again, under a lock: twice for each call of a busy connection, whose timers
//! never fire. So a connection has one entry, which is moved when it fires and not when it is set: the deadlines of a
//! connection only get later.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use hyper::rt::{Sleep, Timer};
use tokio::time::{Instant, sleep_until};

/// The timer of one connection. Clones are the same timer.
#[derive(Debug, Clone, Default)]
pub(crate) struct HeadTimer(Arc<Mutex<Option<Armed>>>);

/// The entry in the wheel.
#[derive(Debug)]
struct Armed {
    sleep: Pin<Box<tokio::time::Sleep>>,
    /// Who is woken when it fires.
    waker: Waker,
}

/// A deadline that somebody may wait for.
#[derive(Debug)]
struct Deadline {
    timer: HeadTimer,
    at: Instant,
}

// === impl HeadTimer ===

impl Timer for HeadTimer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Sleep>> {
        self.sleep_until(self.now() + duration)
    }

    fn sleep_until(&self, deadline: std::time::Instant) -> Pin<Box<dyn Sleep>> {
        Box::pin(Deadline { timer: self.clone(), at: deadline.into() })
    }

    fn now(&self) -> std::time::Instant {
        Instant::now().into()
    }

    fn reset(&self, sleep: &mut Pin<Box<dyn Sleep>>, new_deadline: std::time::Instant) {
        match sleep.as_mut().downcast_mut_pin::<Deadline>() {
            Some(deadline) => deadline.get_mut().at = new_deadline.into(),
            None => *sleep = self.sleep_until(new_deadline),
        }
    }
}

// === impl Deadline ===

impl Sleep for Deadline {}

impl Future for Deadline {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let at = self.at;
        let mut slot = self.timer.0.lock().unwrap_or_else(PoisonError::into_inner);
        let armed = slot
            .get_or_insert_with(|| Armed { sleep: Box::pin(sleep_until(at)), waker: Waker::noop().clone() });
        // It fires in time, and wakes whoever asks: what it wakes asks again, and moves it.
        if !armed.sleep.is_elapsed() && armed.sleep.deadline() <= at && armed.waker.will_wake(context.waker())
        {
            return Poll::Pending;
        }
        if armed.sleep.is_elapsed() || armed.sleep.deadline() > at {
            armed.sleep.as_mut().reset(at);
        }
        armed.waker.clone_from(context.waker());
        armed.sleep.as_mut().poll(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn each_deadline_is_kept_to_whatever_came_before_it() {
        let timer = HeadTimer::default();
        let started = Instant::now();
        let seconds = |seconds| (started + Duration::from_secs(seconds)).into();
        // Three that nobody waits for to their end, as of heads that came in time.
        for end in [30, 31, 32] {
            let mut deadline = timer.sleep_until(seconds(end));
            assert!(polled(deadline.as_mut()).await.is_pending());
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        timer.sleep_until(seconds(40)).await;
        assert_eq!(started.elapsed().as_secs(), 40);
        timer.sleep_until(seconds(35)).await;
        assert_eq!(started.elapsed().as_secs(), 40, "what is over is over");
        let mut deadline = timer.sleep_until(seconds(90));
        assert!(polled(deadline.as_mut()).await.is_pending());
        timer.sleep_until(seconds(50)).await;
        assert_eq!(started.elapsed().as_secs(), 50, "an earlier one after a later one");
        timer.reset(&mut deadline, seconds(70));
        deadline.await;
        assert_eq!(started.elapsed().as_secs(), 70);
    }

    #[tokio::test(start_paused = true)]
    async fn a_deadline_that_moves_to_another_task_wakes_that_task() {
        let timer = HeadTimer::default();
        let started = Instant::now();
        let mut deadline = timer.sleep(Duration::from_secs(30));
        assert!(polled(deadline.as_mut()).await.is_pending());
        tokio::spawn(deadline).await.expect("no panic");
        assert_eq!(started.elapsed().as_secs(), 30);
    }

    async fn polled(mut deadline: Pin<&mut dyn Sleep>) -> Poll<()> {
        std::future::poll_fn(|context| Poll::Ready(deadline.as_mut().poll(context))).await
    }
}
