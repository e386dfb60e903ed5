//! The console through its router, over a real store.

mod account;
mod audit;
mod change_requests;
mod credentials;
mod editor;
mod failures;
mod governance;
mod guards;
mod issuers;
mod journey;
mod monitor;
mod people;
mod policies;
mod settings;
mod waivers;
mod world;
