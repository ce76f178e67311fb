//! What comes by chat completions, and what is sent.

mod requests;
mod streams;
