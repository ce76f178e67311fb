//! The rules of this repository as tests: what a room may name, how long a file may be, who spells what.
//!
//! Each rule is a pure function from sources to complaints. It is run over the repository, and over a snippet that
//! breaks it, because a rule that cannot fail is none. A complaint says what to do.

#![cfg(test)]

mod compatibility;
mod docs;
mod modules;
mod rooms;
mod shape;
mod source;
mod spelling;
mod vocabulary;
mod words;

/// Fails with every complaint, one a line.
#[track_caller]
fn hold(complaints: &[String]) {
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}
