//! Finds what an agent needs and the machine lacks, before the agent runs.

use std::fmt;

use legwork_common::team::Agent;
use legwork_common::team::RequiredKey;
use legwork_common::team::RequiredProgram;
use legwork_common::variables;
use thiserror::Error;

use crate::environment::Environment;

/// Environment variables that an agent needs and that are not set.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("agent `{agent}` lacks {}", listed(missing))]
pub struct MissingKeys {
    /// The agent's name.
    pub agent: String,
    /// The missing keys, each with what needs it; never empty.
    pub missing: Vec<RequiredKey>,
}

/// Checks that every variable that `agent` requires is set.
///
/// # Errors
///
/// [`MissingKeys`] with all that are missing, not only the first.
pub fn preflight(agent: &Agent, environment: &Environment) -> Result<(), MissingKeys> {
    let missing = unset(agent.required_keys(), environment);
    if missing.is_empty() { Ok(()) } else { Err(MissingKeys { agent: agent.name.clone(), missing }) }
}

/// Something that an agent needs and this machine lacks. `Display` is one line that names it and the agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lack {
    /// Variables without which the agent is not run.
    Keys(MissingKeys),
    /// Variables without which it runs, probably not as its author meant.
    Variables(MissingKeys),
    /// A program that is not found.
    Program {
        /// The agent's name.
        agent: String,
        /// The program, and what starts it.
        program: RequiredProgram,
    },
}

impl fmt::Display for Lack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Keys(missing) | Self::Variables(missing) => missing.fmt(f),
            Self::Program { agent, program: RequiredProgram { program, needed_by } } => {
                let absent = if program.contains('/') { "does not exist" } else { "is not on the PATH" };
                write!(f, "agent `{agent}` needs {program} ({needed_by}), which {absent}")
            }
        }
    }
}

/// Everything that an agent needs and this machine lacks; empty where it can run. Looks for programs on the PATH of the
/// environment, as the system would.
pub fn lacks(agent: &Agent, environment: &Environment) -> Vec<Lack> {
    let mut lacks = Vec::new();
    lacks.extend(preflight(agent, environment).err().map(Lack::Keys));
    let missing = unset(agent.optional_keys(), environment);
    if !missing.is_empty() {
        lacks.push(Lack::Variables(MissingKeys { agent: agent.name.clone(), missing }));
    }
    let absent =
        agent.required_programs().into_iter().filter(|needed| !is_found(&needed.program, environment));
    lacks.extend(absent.map(|program| Lack::Program { agent: agent.name.clone(), program }));
    lacks
}

/// Whether a program is found: by its path, or on the PATH.
fn is_found(program: &str, environment: &Environment) -> bool {
    if program.contains('/') {
        return environment.resolve(program).is_file();
    }
    let path = environment.variable(variables::PATH).unwrap_or_default();
    std::env::split_paths(path).any(|folder| environment.working_dir.join(folder).join(program).is_file())
}

/// Those of which no alternative is set.
fn unset(keys: Vec<RequiredKey>, environment: &Environment) -> Vec<RequiredKey> {
    let is_set = |name: &String| environment.variable(name).is_some();
    keys.into_iter().filter(|key| !key.any_of.iter().any(is_set)).collect()
}

/// `OPENAI_API_KEY (model openai/gpt-4o), A or B (…)`.
fn listed(missing: &[RequiredKey]) -> String {
    let each: Vec<String> =
        missing.iter().map(|key| format!("{} ({})", key.any_of.join(" or "), key.needed_by)).collect();
    each.join(", ")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use legwork_common::team::ModelSettings;
    use serde_json::json;

    use super::*;
    use crate::testing::team;

    #[test]
    fn names_every_variable_and_program_that_is_missing() {
        let mcp =
            |server: serde_json::Value| json!({"kind": {"type": "mcp", "name": null, "server": server}});
        let launch = |command: &str, args: &[&str]| json!({"command": {"command": command, "args": args, "env": {}, "version": null}});
        let remote = json!({"remote": {
            "url": "http://${env.HOST}", "transport": "streamable_http", "headers": {"Authorization": "${env.TOKEN}"},
        }});
        let toolsets =
            json!([mcp(launch("pythonx", &["${env.SRV}"])), mcp(launch("./absent", &[])), mcp(remote)]);
        let team = team(&[("a", &[], json!({"kind": "auto", "toolsets": toolsets}))]);
        let agent = team.agent("a").unwrap();
        let shown = |environment: &Environment| -> Vec<String> {
            lacks(agent, environment).iter().map(ToString::to_string).collect()
        };
        assert_eq!(
            shown(&Environment::new(BTreeMap::new(), "/".into())),
            [
                "agent `a` lacks HOST (the URL of toolset mcp)",
                "agent `a` lacks SRV (the arguments of mcp pythonx), TOKEN (the header Authorization of toolset mcp)",
                "agent `a` needs ./absent (mcp ./absent), which does not exist",
                "agent `a` needs pythonx (mcp pythonx), which is not on the PATH",
            ]
        );
        let folder = tempfile::tempdir().unwrap();
        for name in ["pythonx", "absent"] {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        let path = folder.path().display().to_string();
        let set = [("HOST", "h"), ("SRV", "s"), ("TOKEN", "t"), ("PATH", path.as_str())];
        let set: BTreeMap<_, _> =
            set.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        assert_eq!(shown(&Environment::new(set, folder.path().into())), Vec::<String>::new());
    }

    #[test]
    fn names_all_missing_keys_at_once() {
        let models = ["openai/gpt-4o", "google/gemini", "ollama/llama"].map(|reference| {
            let (provider, model) = reference.split_once('/').unwrap();
            ModelSettings::inline(provider, model).unwrap()
        });
        let toolsets = json!([{"kind": {"type": "shell", "env": {"A": "${TOKEN}", "B": "${env.MAYBE}"}}}]);
        let team = team(&[("a", &[], json!({"kind": {"models": models}, "toolsets": toolsets}))]);
        let agent = team.agent("a").unwrap();
        let check = |names: &[&str]| {
            let set = names.iter().map(|&name| (name.to_owned(), "x".to_owned()));
            preflight(agent, &Environment::new(set.collect::<BTreeMap<_, _>>(), "/".into()))
        };
        assert_eq!(
            check(&[]).unwrap_err().to_string(),
            "agent `a` lacks GOOGLE_API_KEY or GEMINI_API_KEY (model google/gemini), OPENAI_API_KEY (model \
             openai/gpt-4o), TOKEN (toolset shell)"
        );
        assert_eq!(check(&["OPENAI_API_KEY", "GEMINI_API_KEY"]).unwrap_err().missing.len(), 1);
        assert_eq!(check(&["OPENAI_API_KEY", "GEMINI_API_KEY", "TOKEN"]), Ok(()));
    }
}
