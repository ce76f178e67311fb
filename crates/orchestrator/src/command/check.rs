//! `legwork check FILE…`: parses and resolves agent files and reports every mistake, and what the files need that is not
//! set or installed here; `--explain KEY` says what happens with a key.

use legwork_agent::Environment;
use legwork_agent::model::provider::adapted_settings;
use legwork_agent::preflight::lacks;
use legwork_common::error::ExitStatus;
use legwork_common::team;
use legwork_common::team::AgentKind;
use legwork_common::team::Found;
use legwork_common::team::ModelSettings;
use legwork_common::team::Support;
use legwork_common::team::Team;
use legwork_common::waits_for::counted;
use serde_json::Value;
use serde_json::json;

use crate::cli::CheckArgs;
use crate::context::Context;
use crate::context::parse;
use crate::context::read;
use crate::context::working_dir;
use crate::failure::Failure;

/// Checks each file, also after a bad one; the exit status is 0 when all are good.
pub(super) fn check(context: &Context, args: &CheckArgs) -> Result<ExitStatus, Failure> {
    if let Some(key) = &args.explain {
        explain(context, key)?;
    }
    let mut status = ExitStatus::Success;
    for file in &args.files {
        let name = file.display().to_string();
        let parsed = read(file).map(|bytes| parse(file, &bytes));
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

/// What no request to a model of the file can carry.
#[derive(Debug, Default)]
struct Adapted {
    /// Settings that are left out or changed, each with its model.
    notes: Vec<String>,
    /// Settings with which no request is made, each with its model.
    refused: Vec<String>,
}

impl Adapted {
    fn of(team: &Team, environment: &Environment) -> Self {
        let mut adapted = Self::default();
        for (name, models) in team.models() {
            for model in models {
                adapted.add(&format!("model `{name}`"), model, None, environment);
            }
        }
        for agent in team.agents().iter().filter(|agent| agent.structured_output.is_some()) {
            let AgentKind::Models(models) = &agent.kind else { continue };
            for model in models {
                let shown = format!("agent `{}`, model {}", agent.name, model.reference());
                adapted.add(&shown, model, agent.structured_output.as_ref(), environment);
            }
        }
        adapted
    }

    fn add(&mut self, shown: &str, model: &ModelSettings, form: Option<&Value>, environment: &Environment) {
        // What is true of the model alone is told with the model.
        let is_new = |note: &String| form.is_none() || note.contains("structured_output");
        match adapted_settings(model, form, environment) {
            Ok(notes) => {
                let notes = notes.into_iter().filter(is_new);
                self.notes.extend(notes.map(|note| format!("{shown}: {note}")));
            }
            Err(why) if form.is_none() => self.refused.push(format!("{shown}: {why}")),
            Err(_) => {}
        }
    }
}

/// Prints the warnings. What the file needs and this machine lacks is a warning too: it may run elsewhere.
fn good(context: &Context, name: &str, parsed: &team::Parsed) -> Result<bool, Failure> {
    let environment = context.agent_environment(working_dir()?);
    let agents = parsed.team.agents();
    let lacking: Vec<String> =
        agents.iter().flat_map(|agent| lacks(agent, &environment)).map(|lack| lack.to_string()).collect();
    let Adapted { notes, refused } = Adapted::of(&parsed.team, &environment);
    let is_good = refused.is_empty();
    if context.output.json {
        let warnings: Vec<_> = parsed
            .warnings
            .iter()
            .map(
                |warning| json!({"line": warning.line, "column": warning.column, "message": warning.message}),
            )
            .collect();
        let errors: Vec<_> = refused
            .iter()
            .map(|message| json!({"line": null, "column": null, "class": "value", "message": message, "hint": null}))
            .collect();
        let found = by_support(&parsed.found);
        context.output.object(&json!({
            "file": name,
            "good": is_good,
            "warnings": warnings,
            "notes": notes,
            "lacks": lacking,
            "errors": errors,
            "found": found,
        }))?;
        return Ok(is_good);
    }
    for warning in &parsed.warnings {
        context
            .output
            .line(&format!("{name}:{}:{}: warning: {}", warning.line, warning.column, warning.message))?;
    }
    for lack in &lacking {
        context.output.line(&format!("{name}: warning: {lack} here"))?;
    }
    for note in &notes {
        context.output.line(&format!("{name}: note: {note}"))?;
    }
    for message in &refused {
        context.output.line(&format!("{name}: error: {message}"))?;
    }
    if !is_good {
        return Ok(false);
    }
    context.output.line(&verdict(name, agents.len(), parsed.warnings.len() + lacking.len()))?;
    Ok(true)
}

/// The last line about a file without mistakes.
fn verdict(name: &str, agents: usize, warnings: usize) -> String {
    let counted = |count: usize, noun: &str| counted(count as u64, noun);
    let with = if warnings == 0 { String::new() } else { format!(", with {}", counted(warnings, "warning")) };
    format!("{name}: good, {}{with}", counted(agents, "agent"))
}

fn bad(context: &Context, name: &str, errors_of: &team::TeamErrors) -> Result<bool, Failure> {
    if context.output.json {
        let errors: Vec<_> = errors_of
            .iter()
            .map(|error| {
                json!({
                    "line": error.line(),
                    "column": error.column(),
                    "class": error.class().as_str(),
                    "message": error.message(),
                    "hint": error.hint(),
                })
            })
            .collect();
        let found = by_support(errors_of.found());
        context.output.object(&json!({
            "file": name,
            "good": false,
            "warnings": [],
            "notes": [],
            "lacks": [],
            "errors": errors,
            "found": found,
        }))?;
    } else {
        context.output.text(&errors_of.report())?;
    }
    Ok(false)
}

/// The known keys of a file, grouped by what Legwork does with them.
fn by_support(found: &[Found]) -> Value {
    let of = |support: Support| -> Vec<Value> {
        let these = found.iter().filter(|found| found.support == support);
        these
            .map(|found| {
                json!({"key": found.key, "in": found.map, "lines": found.lines, "what_happens": found.note})
            })
            .collect()
    };
    json!({
        "yes": of(Support::Yes),
        "partly": of(Support::Partly),
        "no": of(Support::No),
        "refused": of(Support::Refused),
    })
}

/// Prints what happens with a key, for each map that has it.
fn explain(context: &Context, key: &str) -> Result<(), Failure> {
    let rows = team::explain(key).map_err(|near| Failure {
        hint: near.map(|near| format!("did you mean `{near}`?")),
        ..Failure::usage(format!("no map of the agent file has the key `{key}`"))
    })?;
    for row in rows {
        let word = row.support.as_str();
        if context.output.json {
            context.output.object(&json!({
                "key": row.key,
                "in": row.map,
                "supported": word,
                "what_happens": row.what_happens(),
            }))?;
        } else {
            let what = row.what_happens();
            let note = if what.is_empty() { String::new() } else { format!(": {what}") };
            context.output.line(&format!("`{}` in {}: {word}{note}", row.key, row.map))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_verdict_counts_the_warnings() {
        for (agents, warnings, text) in [
            (1, 0, "a.yaml: good, 1 agent"),
            (1, 1, "a.yaml: good, 1 agent, with 1 warning"),
            (3, 2, "a.yaml: good, 3 agents, with 2 warnings"),
        ] {
            assert_eq!(verdict("a.yaml", agents, warnings), text);
        }
    }
}
