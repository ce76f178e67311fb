//! The rules of this repository as tests: which crates and modules a room may use, how long a file may be, where names are
//! defined, which words are used.
//!
//! Each rule is a pure function from sources to complaints. It runs over the repository, and over a snippet that breaks it,
//! which shows that the rule can fail. A complaint says how to fix it.

#![cfg(test)]

mod compatibility;
mod docs;
mod modules;
mod rooms;
mod shape;
mod source;
mod spelling;
mod terminal;
mod vocabulary;
mod words;

/// Fails with all complaints, one per line.
#[track_caller]
fn hold(complaints: &[String]) {
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}
