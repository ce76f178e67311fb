//! What is sent to Converse, and what comes back.

mod requests;
mod streams;
