//! Runs of the real binary: a home directory, a server in it, its command line, and calls over HTTP.

mod browser;
mod home;
mod person;
mod server;

pub use browser::{Browser, Look};
pub use home::{Home, Outcome};
pub use person::Person;
pub use server::{Reply, Server};
