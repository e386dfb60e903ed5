//! Judging everything that runs: away from the threads that serve, and on every core.

use std::thread;

use tollgate_model::names::EnvironmentName;

use crate::errors::Error;

/// Environments that are judged at once.
const AT_ONCE: usize = 8;

/// Deployments that are worth a thread of their own.
const WORTH_A_THREAD: usize = 500;

/// Runs work that takes a core for a while.
///
/// Dropping the future does not end the work, which changes nothing.
pub(crate) async fn away<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    tokio::task::spawn_blocking(work).await.map_err(Error::internal)?
}

/// Judges each environment, in the order given.
pub(crate) fn in_each<T: Send>(
    environments: &[EnvironmentName],
    judge: impl Fn(&EnvironmentName) -> Result<T, Error> + Sync,
) -> Result<Vec<T>, Error> {
    let mut judged = Vec::with_capacity(environments.len());
    for environments in environments.chunks(AT_ONCE) {
        thread::scope(|scope| {
            let judge = &judge;
            let threads: Vec<_> = environments.iter().map(|name| scope.spawn(move || judge(name))).collect();
            for thread in threads {
                judged.push(thread.join().map_err(|_| Error::internal("judging panicked"))??);
            }
            Ok::<_, Error>(())
        })?;
    }
    Ok(judged)
}

/// Judges items in as many shares as there are cores, and returns what each share gives, in the order of the items.
pub(crate) fn in_shares<T: Sync, U: Send>(
    items: &[T],
    judge: impl Fn(&[T]) -> U + Sync,
) -> Result<Vec<U>, Error> {
    let at_once = thread::available_parallelism().map_or(1, usize::from);
    let share = items.len().div_ceil(at_once).max(WORTH_A_THREAD);
    thread::scope(|scope| {
        let judge = &judge;
        let threads: Vec<_> = items.chunks(share).map(|share| scope.spawn(move || judge(share))).collect();
        let judged = threads.into_iter().map(|thread| thread.join());
        judged.map(|it| it.map_err(|_| Error::internal("judging panicked"))).collect()
    })
}
