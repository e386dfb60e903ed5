//! How many calls run at once: of all pipelines together, and of those that bound it themselves.
//!
//! A place is taken after all checks and before the body is read: whoever shows no good credentials takes none, and a body
//! that comes slowly cannot be begun while there is no place. It is given back when the call ends, also when its caller
//! hangs up, or was never given when they hung up in the queue.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tollgate_model::triggers::Concurrency;
use tollgate_snapshot::{ApiId, CallPlace, CallPlaces, Endpoint};

use crate::problem::{Code, Problem};
use crate::why::Why;

/// Places of all calls, and of the calls to each pipeline that bounds them.
#[derive(Debug)]
pub(crate) struct Overload {
    all: CallPlaces,
    /// Kept by what endpoints hold, so that a version that is deployed anew has no more places than the one before.
    apis: Mutex<HashMap<(ApiId, Concurrency), Weak<CallPlaces>>>,
}

/// What a call holds while it runs.
#[derive(Debug)]
pub(crate) struct Running {
    _of_pipeline: Option<CallPlace>,
    _of_all: CallPlace,
}

// === impl Overload ===

impl Overload {
    /// At most `limit` calls run, and `queue` more wait for as long as `patience`.
    pub(crate) fn new(limit: usize, queue: usize, patience: Duration) -> Self {
        Self { all: CallPlaces::new(limit, queue, patience), apis: Mutex::default() }
    }

    /// Takes a place for a call to an endpoint.
    pub(crate) async fn begin(&self, endpoint: &Endpoint) -> Result<Running, Problem> {
        let of_pipeline = match endpoint.trigger.concurrency {
            None => None,
            Some(concurrency) => {
                let places = endpoint.places.get_or_init(|| self.of_api(endpoint.api, concurrency));
                let full = "as many calls to this pipeline run and wait as may";
                Some(places.take().await.map_err(|_| overloaded(full))?)
            }
        };
        let full = "as many calls run and wait in this process as may";
        let of_all = self.all.take().await.map_err(|_| overloaded(full))?;
        Ok(Running { _of_pipeline: of_pipeline, _of_all: of_all })
    }

    /// Returns how many calls run and how many wait, for a place of their pipeline or among all.
    pub(crate) fn load(&self) -> (usize, usize) {
        let (running, mut waiting) = self.all.load();
        let apis = self.apis.lock().unwrap_or_else(PoisonError::into_inner);
        for places in apis.values().filter_map(Weak::upgrade) {
            waiting += places.load().1;
        }
        (running, waiting)
    }

    /// Returns the places of a pipeline. Takes a lock: an endpoint asks once.
    fn of_api(&self, api: ApiId, concurrency: Concurrency) -> Arc<CallPlaces> {
        let mut apis = self.apis.lock().unwrap_or_else(PoisonError::into_inner);
        apis.retain(|_, places| places.strong_count() > 0);
        if let Some(places) = apis.get(&(api, concurrency)).and_then(Weak::upgrade) {
            return places;
        }
        let number = |it: u32| usize::try_from(it).unwrap_or(usize::MAX);
        let patience = Duration::from_millis(concurrency.queue_timeout_ms.get().into());
        let places =
            Arc::new(CallPlaces::new(number(concurrency.limit.get()), number(concurrency.queue), patience));
        apis.insert((api, concurrency), Arc::downgrade(&places));
        places
    }
}

fn overloaded(why: &'static str) -> Problem {
    Problem::new(Code::Overloaded).because(Why::Said(why)).retry_after(1)
}
