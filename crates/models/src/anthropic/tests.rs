//! What comes by this wire, and what is sent.

mod requests;
mod streams;
