//! Empty room.

pub mod team;
