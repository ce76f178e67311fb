//! What is sent as Responses, and what comes back.

mod events;
mod failures;
mod oddities;
mod requests;
mod streams;
