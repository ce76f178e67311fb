//! Why the limits of commands cannot be set.

use legwork_common::error::Coded;
use legwork_common::error::ExitStatus;
use thiserror::Error;

use super::RefusedFolder;

/// Why commands cannot be limited as asked for.
#[derive(Debug, Error)]
pub enum ControlGroupError {
    /// This process is in no group whose children can have the limit.
    #[error("{option}: this process is in no control group with the controller {controller}")]
    NoController {
        /// The option that asks for the limit.
        option: &'static str,
        /// The system's name of what it limits.
        controller: &'static str,
    },
    /// The group of this process is not its own: other processes are in it, or it may not be changed.
    #[error("the commands of jobs cannot be limited: the control group of this process is not its own: {0}")]
    NotDelegated(#[source] RefusedFolder),
    /// No group can be made, or not with the limits.
    #[error("the commands of jobs cannot be limited: no control group can be made: {0}")]
    NotPermitted(#[source] RefusedFolder),
}

impl Coded for ControlGroupError {
    fn code(&self) -> &'static str {
        "no_control_group"
    }

    fn exit(&self) -> ExitStatus {
        ExitStatus::Usage
    }

    fn hint(&self) -> Option<String> {
        Some(
            "run the worker as a service with `Delegate=yes`, with `systemd-run --user --scope -p Delegate=yes legwork-worker …`, \
             or as root where the control groups are of version 1; or leave out --command-memory and --command-processes"
                .to_owned(),
        )
    }
}
