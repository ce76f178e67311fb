//! `legwork top`: the fleet on a full screen.
//!
//! [`state`] decides what a key does, [`screen`] draws, [`loader`] reads from Redis in a task of its own, so that a slow
//! Redis never holds up a key. Data flow one way: the loader's snapshots and the keys change the state, the screen shows it.

pub mod loader;
pub mod screen;
pub mod state;
