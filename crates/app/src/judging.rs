//! Judging everything that runs: away from the threads that serve, environments beside each other.

use tollgate_model::names::EnvironmentName;

use crate::errors::Error;

/// Environments that are judged at once.
const AT_ONCE: usize = 8;

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
        std::thread::scope(|scope| {
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
