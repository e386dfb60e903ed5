//! Answers that are there at once: most calls wait for nothing.
//!
//! hyper moves the future of an answer, which carries all that a call may ever need, to where it is polled, and looks for a
//! caller who hangs up before it polls it: with the request still there, so that its buffer cannot be read into again and
//! another one is allocated for every call. Here a call is polled when it begins, in a place that is kept for the calls of
//! its connection. hyper gets what came of it, or, where the call waits, a handle to that place.

use std::pin::Pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// Where the calls of a connection are, one after the other.
#[derive(Debug)]
pub(crate) struct AtOnce<F>(Mutex<Kept<F>>);

/// Both are used by the task of the connection alone: nobody ever waits for the lock.
#[derive(Debug)]
struct Kept<F> {
    /// `None` before the first call, and while one waits.
    place: Option<Place<F>>,
    /// Wakes the task of the connection.
    waker: Waker,
    /// How often that task has polled the connection.
    round: u64,
}

type Place<F> = Pin<Box<Option<F>>>;

/// A call that has begun: its answer, or what waits for it.
#[derive(Debug)]
pub(crate) struct Begun<'a, F: Future> {
    all: &'a AtOnce<F>,
    /// `None` once it was taken.
    answer: Option<F::Output>,
    /// While the call waits.
    place: Option<Place<F>>,
    /// In which round it was polled as it began. To whoever polls it in the same round there is nothing new to say: what has
    /// happened since wakes the task for the next round.
    round: Option<u64>,
}

// === impl AtOnce ===

impl<F> AtOnce<F> {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(Kept { place: None, waker: Waker::noop().clone(), round: 0 }))
    }

    /// Says who polls the connection, each time anew.
    pub(crate) fn polled_by(&self, context: &Context<'_>) {
        let mut kept = self.kept();
        kept.waker.clone_from(context.waker());
        kept.round += 1;
    }

    fn kept(&self) -> MutexGuard<'_, Kept<F>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<F: Future> AtOnce<F> {
    /// Begins a call, within a poll that was told by [`AtOnce::polled_by`].
    pub(crate) fn begin(&self, call: F) -> Begun<'_, F> {
        let mut kept = self.kept();
        let mut place = kept.place.take().unwrap_or_else(|| Box::pin(None));
        place.set(Some(call));
        match poll(&mut place, &mut Context::from_waker(&kept.waker)) {
            Poll::Ready(answer) => {
                kept.place = Some(place);
                Begun { all: self, answer: Some(answer), place: None, round: None }
            }
            Poll::Pending => Begun { all: self, answer: None, place: Some(place), round: Some(kept.round) },
        }
    }
}

/// Polls the call in a place, and drops it when it has ended.
fn poll<F: Future>(place: &mut Place<F>, context: &mut Context<'_>) -> Poll<F::Output> {
    let Some(call) = place.as_mut().as_pin_mut() else { return Poll::Pending };
    let polled = call.poll(context);
    if polled.is_ready() {
        place.set(None);
    }
    polled
}

// === impl Begun ===

// Nothing in it is pinned but what is behind its box.
impl<F: Future> Unpin for Begun<'_, F> {}

impl<F: Future> Future for Begun<'_, F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let this = &mut *self;
        if let Some(answer) = this.answer.take() {
            return Poll::Ready(answer);
        }
        if let Some(round) = this.round.take() {
            let kept = this.all.kept();
            // hyper may ask first in a later one, where the answer before this has not been taken: a wake may have come and gone.
            if kept.round == round && kept.waker.will_wake(context.waker()) {
                return Poll::Pending;
            }
        }
        let Some(place) = &mut this.place else { return Poll::Pending };
        let answer = std::task::ready!(poll(place, context));
        this.all.kept().place = this.place.take();
        Poll::Ready(answer)
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, poll_fn, ready};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use tokio::sync::oneshot;

    use super::*;

    type Call = Pin<Box<dyn Future<Output = u8> + Send>>;

    /// Counts how often it is woken.
    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    impl Woken {
        fn count(&self) -> usize {
            self.0.load(Ordering::Relaxed)
        }
    }

    /// A call that says when it was dropped.
    struct Dropped(Arc<AtomicUsize>);

    impl Drop for Dropped {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn poll_by(begun: &mut Begun<'_, Call>, woken: &Arc<Woken>) -> Poll<u8> {
        Pin::new(begun).poll(&mut Context::from_waker(&woken.clone().into()))
    }

    fn at_once(woken: &Arc<Woken>) -> AtOnce<Call> {
        let all = AtOnce::new();
        all.polled_by(&Context::from_waker(&woken.clone().into()));
        all
    }

    #[test]
    fn a_call_that_waits_for_nothing_has_ended_before_anybody_polls_it() {
        let (woken, dropped) = (Arc::default(), Arc::new(AtomicUsize::new(0)));
        let all = at_once(&woken);
        for n in 1..=3 {
            let guard = Dropped(dropped.clone());
            let mut begun = all.begin(Box::pin(async move {
                let _guard = guard;
                7
            }));
            assert_eq!(dropped.load(Ordering::Relaxed), usize::from(n as u8));
            assert_eq!(poll_by(&mut begun, &woken), Poll::Ready(7));
        }
    }

    #[test]
    fn a_call_that_waits_wakes_whoever_polls_and_its_place_serves_the_next() {
        let woken = Arc::default();
        let all = at_once(&woken);
        for n in 1..=2 {
            let (tell, told) = oneshot::channel();
            let mut begun = all.begin(Box::pin(async { told.await.unwrap_or_default() }));
            assert_eq!(poll_by(&mut begun, &woken), Poll::Pending);
            assert!(tell.send(9).is_ok());
            assert_eq!(woken.count(), n);
            assert_eq!(poll_by(&mut begun, &woken), Poll::Ready(9));
        }
        assert_eq!(poll_by(&mut all.begin(Box::pin(ready(1))), &woken), Poll::Ready(1));
    }

    #[test]
    fn a_call_that_is_asked_for_in_a_later_round_has_missed_nothing() {
        let woken = Arc::default();
        let all = at_once(&woken);
        let (tell, told) = oneshot::channel();
        let mut begun = all.begin(Box::pin(async { told.await.unwrap_or_default() }));
        assert!(tell.send(9).is_ok());
        assert_eq!(woken.count(), 1, "the wake is spent on a round in which nobody asks");
        all.polled_by(&Context::from_waker(&woken.clone().into()));
        assert_eq!(poll_by(&mut begun, &woken), Poll::Ready(9));
    }

    #[test]
    fn a_call_is_polled_again_at_once_by_somebody_else() {
        let (first, second) = (Arc::default(), Arc::default());
        let all = at_once(&first);
        let (tell, told) = oneshot::channel();
        let mut begun = all.begin(Box::pin(async { told.await.unwrap_or_default() }));
        assert_eq!(poll_by(&mut begun, &second), Poll::Pending);
        assert!(tell.send(9).is_ok());
        assert_eq!((first.count(), second.count()), (0, 1));
        assert_eq!(poll_by(&mut begun, &second), Poll::Ready(9));
    }

    #[test]
    fn a_call_that_wakes_itself_is_polled_once_more_when_that_is_seen() {
        let woken: Arc<Woken> = Arc::default();
        let all = at_once(&woken);
        let mut polls = 0;
        let mut begun = all.begin(Box::pin(poll_fn(move |context| {
            polls += 1;
            context.waker().wake_by_ref();
            if polls < 3 { Poll::Pending } else { Poll::Ready(polls) }
        })));
        assert_eq!(woken.count(), 1);
        let answers = [(); 3].map(|()| poll_by(&mut begun, &woken));
        assert_eq!(answers, [Poll::Pending, Poll::Pending, Poll::Ready(3)]);
    }

    #[test]
    fn a_call_is_dropped_with_whoever_wanted_its_answer() {
        let (woken, dropped) = (Arc::default(), Arc::new(AtomicUsize::new(0)));
        let all = at_once(&woken);
        let guard = Dropped(dropped.clone());
        let begun = all.begin(Box::pin(async move {
            let _guard = guard;
            pending().await
        }));
        assert_eq!(dropped.load(Ordering::Relaxed), 0);
        drop(begun);
        assert_eq!(dropped.load(Ordering::Relaxed), 1);
        assert_eq!(poll_by(&mut all.begin(Box::pin(ready(1))), &woken), Poll::Ready(1));
    }
}
