//! What comes by this wire, and what is sent.

mod oddities;
mod requests;
mod streams;
