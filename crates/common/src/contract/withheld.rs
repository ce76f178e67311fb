//! What a model reads in the place of a text of another job that no trusted worker signed.

use crate::job::Cause;

/// In the place of a result.
pub const RESULT_WITHHELD: &str = "[The result of this task is withheld: no trusted worker signed it.]";

/// In the place of output of a job that runs, was stopped, or failed.
pub const OUTPUT_WITHHELD: &str =
    "[The output of this task is withheld: only how a task ended is signed by its worker.]";

/// In the place of an error and of the output before it.
pub fn error_withheld(cause: Option<Cause>) -> String {
    let cause = cause.map(|cause| format!(" Its cause: {cause}.")).unwrap_or_default();
    format!("[The error of this task is withheld: no trusted worker signed it.{cause}]")
}
