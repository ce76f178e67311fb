//! What comes by chat completions, and what is sent.

mod oddities;
mod requests;
mod streams;
