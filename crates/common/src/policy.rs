//! What a fleet decides apart from agent files: where agents run, and how much its model providers take.
//!
//! ```yaml
//! agents:
//!   code_analyst: { queue: code, priority: high, timeout: 30m, retries: 2, retry_delay: 10s }
//! limits:
//!   anthropic: { requests_per_minute: 50, tokens_per_minute: 40000 }
//!   openai/gpt-4o: { concurrent: 8 }
//! ```

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use serde::Deserializer;
use thiserror::Error;

use crate::duration;
use crate::error::Coded;
use crate::error::ExitStatus;
use crate::job::Placement;
use crate::job::Priority;

/// The longest file in bytes.
const MAX_BYTES: usize = 1 << 20;

/// What a fleet decides. The default decides nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// By agent: where, when and how often its jobs run, unless who dispatches them says otherwise.
    #[serde(default)]
    agents: BTreeMap<String, AgentPolicy>,
    /// By `provider` or `provider/model`.
    #[serde(default)]
    limits: BTreeMap<String, Limit>,
}

/// What a fleet decides for the jobs of one agent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct AgentPolicy {
    #[serde(default, deserialize_with = "queue_name")]
    queue: Option<String>,
    priority: Option<Priority>,
    #[serde(default, deserialize_with = "time")]
    timeout: Option<Duration>,
    retries: Option<u32>,
    #[serde(default, deserialize_with = "time")]
    retry_delay: Option<Duration>,
}

/// How much a model provider takes from the whole fleet. What is not set is not limited.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limit {
    /// Calls a minute, evenly spaced; one second's worth may come at once. At least 1.
    pub requests_per_minute: Option<u32>,
    /// Tokens a minute, read and written. At least 1.
    pub tokens_per_minute: Option<u32>,
    /// Calls at once. At least 1.
    pub concurrent: Option<u32>,
}

/// Why a text is no policy.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PolicyError {
    /// The file is wrong.
    #[error("{name}: {detail}")]
    File {
        /// The file.
        name: String,
        /// What is wrong, with line and column where they are known.
        detail: String,
    },
    /// A limit of the command line is wrong.
    #[error("`{text}` is no limit")]
    Limit {
        /// What was written.
        text: String,
    },
}

impl Coded for PolicyError {
    fn code(&self) -> &'static str {
        "policy"
    }

    fn exit(&self) -> ExitStatus {
        ExitStatus::Usage
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::File { .. } => Some("docs/operations.md shows what a policy may say".to_owned()),
            Self::Limit { .. } => {
                Some("write for example anthropic=requests:50,tokens:40000,concurrent:4".to_owned())
            }
        }
    }
}

/// Reads a policy file; `name` is for messages.
///
/// # Errors
///
/// [`PolicyError`] that says where and what is wrong.
pub fn parse(name: &str, bytes: &[u8]) -> Result<Policy, PolicyError> {
    let wrong = |detail: String| PolicyError::File { name: name.to_owned(), detail };
    if bytes.len() > MAX_BYTES {
        return Err(wrong("is longer than 1 MiB".to_owned()));
    }
    let text = std::str::from_utf8(bytes).map_err(|error| wrong(error.to_string()))?;
    if text.trim().is_empty() {
        return Ok(Policy::default());
    }
    let policy: Policy =
        serde_saphyr::from_str(text).map_err(|error| wrong(first_line(&error.to_string())))?;
    for (of, limit) in &policy.limits {
        if !limit.is_sound() {
            return Err(wrong(format!("a limit of {of} is 0: leave it out for no limit")));
        }
    }
    Ok(policy)
}

impl Policy {
    /// Adds a limit as the command line writes it: `anthropic=requests:50,tokens:40000,concurrent:4`.
    ///
    /// # Errors
    ///
    /// [`PolicyError`] for a text that is none.
    pub fn add_limit(&mut self, text: &str) -> Result<(), PolicyError> {
        let wrong = || PolicyError::Limit { text: text.to_owned() };
        let (of, parts) = text.split_once('=').ok_or_else(wrong)?;
        let mut limit = Limit::default();
        for part in parts.split(',') {
            let (what, number) = part.split_once(':').ok_or_else(wrong)?;
            let number = Some(number.trim().parse().map_err(|_| wrong())?);
            match what.trim() {
                "requests" => limit.requests_per_minute = number,
                "tokens" => limit.tokens_per_minute = number,
                "concurrent" => limit.concurrent = number,
                _ => return Err(wrong()),
            }
        }
        if of.trim().is_empty() || !limit.is_sound() {
            return Err(wrong());
        }
        self.limits.insert(of.trim().to_owned(), limit);
        Ok(())
    }

    /// Where, when and how often a job of this agent runs if who dispatches it does not say.
    pub fn placement(&self, agent: &str) -> Placement {
        let defaults = Placement::default();
        let Some(policy) = self.agents.get(agent) else { return defaults };
        Placement {
            queue: policy.queue.clone().unwrap_or(defaults.queue),
            priority: policy.priority.unwrap_or(defaults.priority),
            delay: defaults.delay,
            timeout: policy.timeout.or(defaults.timeout),
            retries: policy.retries.unwrap_or(defaults.retries),
            retry_delay: policy.retry_delay.unwrap_or(defaults.retry_delay),
            budget: defaults.budget,
        }
    }

    /// The limits that a call of this model counts against, by name: always its provider's, which may be paused,
    /// and its own where there is one.
    pub fn limits(&self, provider: &str, model: &str) -> Vec<(String, Limit)> {
        let whole = format!("{provider}/{model}");
        let own = self.limits.get(&whole).map(|limit| (whole.clone(), *limit));
        let provider = (provider.to_owned(), self.limits.get(provider).copied().unwrap_or_default());
        own.into_iter().chain([provider]).collect()
    }
}

impl Limit {
    fn is_sound(&self) -> bool {
        ![self.requests_per_minute, self.tokens_per_minute, self.concurrent].contains(&Some(0))
    }
}

/// The parser's message without its picture of the place, which does not fit into one line.
fn first_line(message: &str) -> String {
    let line = message.lines().next().unwrap_or_default();
    line.strip_prefix("error: ").unwrap_or(line).to_owned()
}

fn time<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    text.map(|text| duration::parse(&text)).transpose().map_err(serde::de::Error::custom)
}

fn queue_name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let name = Option::<String>::deserialize(deserializer)?;
    name.map(|name| crate::job::parse_name(&name)).transpose().map_err(serde::de::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "
agents:
  coder: { queue: code, priority: high, timeout: 30m, retries: 2, retry_delay: 10s }
  other: {}
limits:
  anthropic: { requests_per_minute: 50, tokens_per_minute: 40000 }
  openai/gpt-4o: { concurrent: 8 }
";

    #[test]
    fn agents_and_models_find_their_rules() {
        let policy = parse("fleet.yaml", FILE.as_bytes()).unwrap();
        let coder = policy.placement("coder");
        assert_eq!((coder.queue.as_str(), coder.priority, coder.retries), ("code", Priority::High, 2));
        assert_eq!(coder.timeout, Some(Duration::from_secs(1800)));
        assert_eq!(policy.placement("other"), Placement::default());
        assert_eq!(policy.placement("unknown"), Placement::default());
        let names = |provider, model| -> Vec<String> {
            policy.limits(provider, model).into_iter().map(|(name, _)| name).collect()
        };
        assert_eq!(names("openai", "gpt-4o"), ["openai/gpt-4o", "openai"]);
        assert_eq!(names("anthropic", "claude"), ["anthropic"]);
        assert_eq!(policy.limits("anthropic", "claude")[0].1.requests_per_minute, Some(50));
        assert_eq!(parse("empty.yaml", b" \n").unwrap(), Policy::default());
    }

    #[test]
    fn a_limit_of_the_command_line_is_read() {
        let mut policy = Policy::default();
        policy.add_limit("anthropic=requests:50,tokens:40000,concurrent:4").unwrap();
        let limit =
            Limit { requests_per_minute: Some(50), tokens_per_minute: Some(40_000), concurrent: Some(4) };
        assert_eq!(policy.limits("anthropic", "m"), [("anthropic".to_owned(), limit)]);
        for wrong in
            ["", "anthropic", "=requests:5", "a=requests:0", "a=requests:x", "a=speed:5", "a=", "a=requests"]
        {
            assert!(policy.add_limit(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_mistake_is_told_with_its_place() {
        let said = |text: &str| parse("fleet.yaml", text.as_bytes()).unwrap_err().to_string();
        let all = [
            "agents:\n  coder: { queue: a b }\n",
            "agents:\n  coder: { quue: code }\n",
            "agents:\n  coder: { timeout: soon }\n",
            "agents:\n  coder: { priority: urgent }\n",
            "limits:\n  anthropic: { requests_per_minute: 0 }\n",
            "limits:\n  anthropic: { requests_per_minute: -5 }\n",
            "limit: {}\n",
            "[1, 2]\n",
        ]
        .map(said)
        .join("\n");
        insta::assert_snapshot!(all);
    }
}
