//! The console through its router, over a real store.

mod editor;
mod guards;
mod journey;
mod policies;
mod settings;
mod world;
