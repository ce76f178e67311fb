//! Values of options that are one of a few names: their parsers list the names, suggest the nearest, and complete them
//! in a shell.

use clap::builder::PossibleValuesParser;
use clap::builder::TypedValueParser;
use legwork_common::job::Cause;
use legwork_common::job::Priority;
use legwork_common::lifecycle::State;
use legwork_common::question::Approvals;

/// Parses the state of a job.
pub(super) fn state() -> impl TypedValueParser<Value = State> {
    PossibleValuesParser::new(State::ALL.map(State::as_str)).try_map(|name| name.parse())
}

/// Parses the cause of a job's end, of those that this release knows.
pub(super) fn cause() -> impl TypedValueParser<Value = Cause> {
    PossibleValuesParser::new(Cause::ALL.map(Cause::as_str)).map(|name| Cause::from_stored(&name))
}

/// Parses what becomes of calls that need a person's approval.
pub(super) fn approvals() -> impl TypedValueParser<Value = Approvals> {
    PossibleValuesParser::new(Approvals::ALL.map(Approvals::as_str)).try_map(|name| name.parse())
}

/// Parses the priority of a job.
pub(super) fn priority() -> impl TypedValueParser<Value = Priority> {
    PossibleValuesParser::new(Priority::ALL.map(Priority::as_str)).try_map(|name| name.parse())
}
