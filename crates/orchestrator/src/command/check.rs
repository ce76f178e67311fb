//! `legwork check FILE…`: parses and resolves agent files and reports every mistake.

use legwork_common::error::ExitStatus;
use legwork_common::team;
use serde_json::json;

use crate::cli::CheckArgs;
use crate::context::Context;
use crate::context::read;
use crate::failure::Failure;

/// Checks each file, also after a bad one; the exit status is 0 when all are good.
pub(super) fn check(context: &Context, args: &CheckArgs) -> Result<ExitStatus, Failure> {
    let mut status = ExitStatus::Success;
    for file in &args.files {
        let name = file.display().to_string();
        let parsed = read(file).map(|bytes| team::parse(&name, &bytes));
        let good = match parsed {
            Ok(Ok(parsed)) => good(context, &name, &parsed)?,
            Ok(Err(errors)) => bad(context, &name, &errors)?,
            Err(failure) => {
                context.output.note(failure.text(context.output.json).trim_end());
                false
            }
        };
        if !good {
            status = ExitStatus::AgentFile;
        }
    }
    Ok(status)
}

fn good(context: &Context, name: &str, parsed: &team::Parsed) -> Result<bool, Failure> {
    if context.output.json {
        let warnings: Vec<_> = parsed
            .warnings
            .iter()
            .map(
                |warning| json!({"line": warning.line, "column": warning.column, "message": warning.message}),
            )
            .collect();
        context.output.object(&json!({"file": name, "good": true, "warnings": warnings, "errors": []}))?;
        return Ok(true);
    }
    for warning in &parsed.warnings {
        context
            .output
            .line(&format!("{name}:{}:{}: warning: {}", warning.line, warning.column, warning.message))?;
    }
    let agents = parsed.team.agents().len();
    let plural = if agents == 1 { "" } else { "s" };
    context.output.line(&format!("{name}: good, {agents} agent{plural}"))?;
    Ok(true)
}

fn bad(context: &Context, name: &str, errors: &team::TeamErrors) -> Result<bool, Failure> {
    if context.output.json {
        let errors: Vec<_> = errors
            .iter()
            .map(|error| {
                json!({"line": error.line(), "column": error.column(), "message": error.message(), "hint": error.hint()})
            })
            .collect();
        context.output.object(&json!({"file": name, "good": false, "warnings": [], "errors": errors}))?;
    } else {
        context.output.text(&errors.report())?;
    }
    Ok(false)
}
