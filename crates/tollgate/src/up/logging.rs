//! The log: JSON, a line per event, on stderr.

use anyhow::Context as _;
use tracing_subscriber::EnvFilter;

/// Starts logging what a filter lets through.
pub(crate) fn start(filter: &str) -> anyhow::Result<()> {
    let filter =
        EnvFilter::builder().parse(filter).with_context(|| format!("`{filter}` is no log filter"))?;
    tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_current_span(false)
        .with_span_list(false)
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .try_init()
        .map_err(|error| anyhow::anyhow!("cannot start the log: {error}"))
}
