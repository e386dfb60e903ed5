//! The console through its router, over a real store.

mod guards;
mod policies;
mod world;
