//! Traffic: what became of calls, minute by minute, and how long they took.
//!
//! Counted calls ([`crate::calls`]) tell who called with which credentials, of calls that passed. Traffic tells of all
//! calls how they ended, so that somebody sees errors, refusals and delays.

use std::fmt;
use std::str::FromStr;

use crate::names::{ConsumerName, EnvironmentName, PipelineName, RealmName};

/// Upper bounds of the classes of durations, in microseconds; one more class has none.
pub const DURATION_BOUNDS_US: [u64; 14] = [
    1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000, 5_000_000,
    10_000_000, 30_000_000,
];

/// How many classes of durations there are.
pub const DURATION_CLASSES: usize = DURATION_BOUNDS_US.len() + 1;

/// The code under which errors are counted that the author of a flow made up: callers must not be able to make entries.
pub const FLOW_CODE: &str = "flow-error";

/// What something was counted for: one deployment, one caller, one minute, one property of calls.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CountedTraffic {
    /// Whose.
    pub realm: RealmName,
    /// Where.
    pub environment: EnvironmentName,
    /// What was called, and in which major; `None` for calls that came to no pipeline.
    pub pipeline: Option<(PipelineName, u32)>,
    /// When: minutes since 1970. What is older than seven hours is told by the quarter of an hour,
    /// what is older than two days by the hour.
    pub minute: i64,
    /// Who called.
    pub caller: TrafficCaller,
    /// What of the calls.
    pub measure: Measure,
}

/// Who called, as far as their credentials told before the call ended.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TrafficCaller {
    /// Nobody knows: no good credentials were shown, or none are demanded.
    Unknown,
    /// A consumer, also when it was refused later.
    Consumer(ConsumerName),
    /// Whoever came when there were too many callers to tell them apart.
    Others,
}

/// A property of a call that is counted. Each call has one of each but [`Measure::Code`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Measure {
    /// The class of its status.
    Answer(AnswerClass),
    /// The code of a problem, with the class of its status.
    Code(AnswerClass, String),
    /// The class of its duration, as a place in [`DURATION_BOUNDS_US`].
    Took(u8),
}

/// The class of a status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AnswerClass {
    /// Nobody was left to answer: the caller hung up.
    None,
    /// 1xx.
    Informational,
    /// 2xx.
    Successful,
    /// 3xx.
    Redirect,
    /// 4xx.
    ClientError,
    /// 5xx.
    ServerError,
}

/// Why a text names nothing that is counted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is nothing that is counted of a call")]
pub struct ParseMeasureError(String);

// === impl AnswerClass ===

impl AnswerClass {
    /// Every class.
    pub const ALL: [Self; 6] = [
        Self::None,
        Self::Informational,
        Self::Successful,
        Self::Redirect,
        Self::ClientError,
        Self::ServerError,
    ];

    /// Returns how it is written: `none`, `2xx`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Informational => "1xx",
            Self::Successful => "2xx",
            Self::Redirect => "3xx",
            Self::ClientError => "4xx",
            Self::ServerError => "5xx",
        }
    }

    /// Returns the class of that text.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|class| class.as_str() == text)
    }

    /// Returns the class of a status; of none, when there was no answer.
    pub fn of(status: Option<u16>) -> Self {
        match status {
            None => Self::None,
            Some(..200) => Self::Informational,
            Some(200..300) => Self::Successful,
            Some(300..400) => Self::Redirect,
            Some(400..500) => Self::ClientError,
            Some(500..) => Self::ServerError,
        }
    }
}

// === impl Measure ===

impl fmt::Display for Measure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Answer(class) => write!(f, "answer/{}", class.as_str()),
            Self::Code(class, code) => write!(f, "code/{}/{code}", class.as_str()),
            Self::Took(class) => write!(f, "took/{class:02}"),
        }
    }
}

impl FromStr for Measure {
    type Err = ParseMeasureError;

    fn from_str(text: &str) -> Result<Self, ParseMeasureError> {
        let error = || ParseMeasureError(text.chars().take(80).collect());
        let (kind, rest) = text.split_once('/').ok_or_else(error)?;
        match kind {
            "answer" => AnswerClass::parse(rest).map(Self::Answer).ok_or_else(error),
            "code" => {
                let (class, code) = rest.split_once('/').ok_or_else(error)?;
                let class = AnswerClass::parse(class).ok_or_else(error)?;
                Ok(Self::Code(class, code.to_owned()))
            }
            "took" => match rest.parse() {
                Ok(class) if usize::from(class) < DURATION_CLASSES => Ok(Self::Took(class)),
                _ => Err(error()),
            },
            _ => Err(error()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_counted_reads_back() {
        let answers = AnswerClass::ALL.map(Measure::Answer);
        let codes = AnswerClass::ALL.map(|class| Measure::Code(class, "api-key-missing".to_owned()));
        let took = (0..DURATION_CLASSES).map(|class| Measure::Took(u8::try_from(class).expect("small")));
        for measure in answers.into_iter().chain(codes).chain(took) {
            assert_eq!(measure.to_string().parse(), Ok(measure));
        }
        for bad in ["", "answer", "answer/6xx", "code/4xx", "took/15", "took/x", "other/2xx"] {
            assert!(bad.parse::<Measure>().is_err(), "{bad}");
        }
    }

    #[test]
    fn every_status_has_a_class() {
        let of = |status| AnswerClass::of(Some(status)).as_str();
        assert_eq!(
            [100, 200, 299, 304, 404, 500, 999].map(of),
            ["1xx", "2xx", "2xx", "3xx", "4xx", "5xx", "5xx"]
        );
        assert_eq!(AnswerClass::of(None), AnswerClass::None);
        assert!(DURATION_BOUNDS_US.is_sorted_by(|one, other| one < other));
    }
}
