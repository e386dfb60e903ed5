//! Limits of the gateway: what it takes at once, and from whom.

use std::num::NonZeroU32;
use std::time::Duration;

use clap::Args;
use tollgate_gateway::{GatewaySettings, Sample};

/// Arguments about what the gateway takes at once.
#[derive(Args)]
pub(crate) struct LimitArguments {
    /// Calls that run at once, of all pipelines together, beyond their checks; further ones wait, or are answered 503.
    #[arg(long, value_name = "NUMBER", default_value = "10000", env = "TOLLGATE_MAX_CALLS")]
    max_calls: NonZeroU32,
    /// Calls that wait for a place; those beyond it are answered 503 at once.
    #[arg(long, value_name = "NUMBER", default_value = "1000", env = "TOLLGATE_CALL_QUEUE")]
    call_queue: u32,
    /// Longest wait for a place, in milliseconds.
    #[arg(long, value_name = "MILLISECONDS", default_value = "1000", env = "TOLLGATE_CALL_QUEUE_TIMEOUT")]
    call_queue_timeout: NonZeroU32,
    /// Bad API keys and tokens that one address may send at once, before further bad ones are answered 429; it gets one
    /// back every second. A wrong password counts five, and is counted apart.
    #[arg(long, value_name = "NUMBER", default_value = "60", env = "TOLLGATE_BAD_CREDENTIALS_PER_ADDRESS")]
    bad_credentials_per_address: NonZeroU32,
    /// Of how many calls that went well the log has a line, 0 to 1. Refusals, errors and calls whose caller hung up always
    /// have one.
    #[arg(long, value_name = "PART", default_value = "1", value_parser = part, env = "TOLLGATE_ACCESS_LOG_SAMPLE")]
    access_log_sample: f64,
}

fn part(text: &str) -> Result<f64, String> {
    let part = text.parse().ok().filter(|part| (0.0..=1.0).contains(part));
    part.ok_or_else(|| format!("`{text}` is no part of all: write a number from 0 to 1, for example 0.01"))
}

// === impl LimitArguments ===

impl LimitArguments {
    /// Puts the limits into the gateway's settings.
    pub(crate) fn apply(&self, settings: &mut GatewaySettings) {
        let number = |it: u32| usize::try_from(it).unwrap_or(usize::MAX);
        settings.max_calls = number(self.max_calls.get());
        settings.call_queue = number(self.call_queue);
        settings.call_queue_timeout = Duration::from_millis(self.call_queue_timeout.get().into());
        settings.log_sample = Sample::of(self.access_log_sample);
        settings.bad_credentials_per_address = self.bad_credentials_per_address.get();
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Only {
        #[command(flatten)]
        limits: LimitArguments,
    }

    #[test]
    fn what_is_not_given_is_what_the_gateway_does_by_itself() {
        let (default, mut settings) = (GatewaySettings::default(), GatewaySettings::default());
        Only::parse_from(["x"]).limits.apply(&mut settings);
        assert_eq!(format!("{settings:?}"), format!("{default:?}"));
        let given = [
            "x",
            "--max-calls=7",
            "--call-queue=0",
            "--call-queue-timeout=250",
            "--bad-credentials-per-address=3",
        ];
        Only::parse_from(given).limits.apply(&mut settings);
        assert_eq!((settings.max_calls, settings.call_queue), (7, 0));
        assert_eq!(settings.call_queue_timeout, Duration::from_millis(250));
        assert_eq!(settings.bad_credentials_per_address, 3);
        for bad in ["-0.1", "1.1", "NaN", "many"] {
            assert!(Only::try_parse_from(["x", &format!("--access-log-sample={bad}")]).is_err(), "{bad}");
        }
    }
}
