//! The console through its router, over a real store.

mod guards;
mod journey;
mod policies;
mod world;
