//! Flows: compiles a pipeline's steps and expressions, and runs them.
//!
//! Compiling finds every mistake that can be found without a call: expressions that do not parse, unknown names,
//! URLs whose host a caller could choose. Running needs the outside only through [`Host`]: upstreams, tokens, slow
//! work, logs.

mod budget;
mod compile;
mod expressions;
mod forward;
mod health;
mod host;
mod messages;
mod run;
mod sensitive;
mod targets;
mod templates;
mod upstreams;
mod value_names;
mod values;
mod watch;

pub use compile::{Flow, FlowError, compile};
pub use forward::{Forward, ForwardSettings};
pub use health::{Entered, Heard, Tried, Upstream};
pub use host::{
    BoxFuture, Host, IssueTokenError, Overloaded, UpstreamCall, UpstreamError, UpstreamRequest,
    UpstreamResponse, VerifyError,
};
pub use messages::{Call, CallConsumer, CallMetadata, Message, parse_body};
pub use run::{FlowFailure, FlowResponse};
pub use value_names::{Names, Reading, ValueNames};
pub use values::{AccountFields, Values};
pub use watch::Watcher;
