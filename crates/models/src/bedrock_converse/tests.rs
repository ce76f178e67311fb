//! What is sent to Converse, and what comes back.

mod oddities;
mod requests;
mod streams;
