//! The policy file of a fleet: default scheduling options for each agent, and rate limits of model providers.
//!
//! ```yaml
//! agents:
//!   code_analyst: { queue: code, priority: high, timeout: 30m, retries: 2, retry_delay: 10s }
//! limits:
//!   anthropic: { requests_per_minute: 50, tokens_per_minute: 40000 }
//!   openai/gpt-4o: { concurrent: 8 }
//! prices:
//!   openai/gpt-4o: { input: 2.5, output: 10, cache_read: 1.25 }
//! recursion: true
//! approvals: park
//! approvals_expire: 3d
//! notify: https://example.org/hooks
//! ```

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use serde::Deserializer;
use thiserror::Error;

use crate::duration;
use crate::error::Coded;
use crate::error::ExitStatus;
use crate::job::JobOptions;
use crate::job::Priority;
use crate::money::Prices;
use crate::question::Approvals;
use crate::question::DEFAULT_EXPIRY;
use crate::webhook::WebhookUrl;

/// The maximum size of a policy file in bytes. A real one has a few kilobytes; the limit protects against a
/// wrong path.
const MAX_BYTES: usize = 1 << 20;

/// The policy of a fleet. Every program reads its own copy of the file, so all must be given the same one.
/// The default has no options and no limits.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// The default scheduling options of an agent's jobs, by agent name. The dispatcher's own options win.
    #[serde(default)]
    agents: BTreeMap<String, AgentPolicy>,
    /// Rate limits, by `provider` or `provider/model`.
    #[serde(default)]
    limits: BTreeMap<String, RateLimit>,
    /// Prices in dollars for a million tokens, by `provider/model`.
    #[serde(default)]
    prices: Prices,
    /// Whether an agent that is on the way down from the root may be dispatched again. The depth is limited either way.
    #[serde(default)]
    recursion: bool,
    /// What becomes of calls in the background that need a person's approval. The dispatcher's own setting wins.
    #[serde(default)]
    approvals: Approvals,
    /// How long a question waits for a person.
    #[serde(default, deserialize_with = "optional_limit")]
    approvals_expire: Option<Duration>,
    /// Where the ends of all jobs are reported. The agent's setting wins, and the dispatcher's over both.
    notify: Option<WebhookUrl>,
}

/// The default scheduling options of one agent's jobs. An option that is not set has the default of [`JobOptions`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct AgentPolicy {
    #[serde(default, deserialize_with = "queue_name")]
    queue: Option<String>,
    priority: Option<Priority>,
    #[serde(default, deserialize_with = "optional_limit")]
    timeout: Option<Duration>,
    retries: Option<u32>,
    #[serde(default, deserialize_with = "optional_duration")]
    retry_delay: Option<Duration>,
    notify: Option<WebhookUrl>,
}

/// The rate limits of a model provider, or of one of its models, for the whole fleet. `None` means unlimited.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RateLimit {
    /// Calls per minute, at least 1. They are spaced evenly; bursts of up to one second's worth are allowed.
    pub requests_per_minute: Option<u32>,
    /// Input and output tokens per minute, at least 1.
    pub tokens_per_minute: Option<u32>,
    /// Concurrent calls, at least 1.
    pub concurrent: Option<u32>,
}

/// Why a policy file or a `--rate-limit` is invalid.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PolicyError {
    /// The policy file is invalid.
    #[error("{name}: {detail}")]
    File {
        /// The file name, as the user gave it.
        name: String,
        /// The error, with line and column where they are known.
        detail: String,
    },
    /// A rate limit on the command line is invalid.
    #[error("`{text}` is not a rate limit")]
    RateLimit {
        /// The rejected text.
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
            Self::File { .. } => Some("see docs/operations.md for the format of a policy file".to_owned()),
            Self::RateLimit { .. } => {
                Some("example: anthropic=requests:50,tokens:40000,concurrent:4".to_owned())
            }
        }
    }
}

/// Parses the contents of a policy file. `name` appears in messages only. A file without text is an empty policy.
///
/// # Errors
///
/// [`PolicyError::File`] with the first error and its position.
pub fn parse(name: &str, bytes: &[u8]) -> Result<Policy, PolicyError> {
    let invalid = |detail: String| PolicyError::File { name: name.to_owned(), detail };
    if bytes.len() > MAX_BYTES {
        return Err(invalid("the file is larger than 1 MiB".to_owned()));
    }
    let text = std::str::from_utf8(bytes).map_err(|error| invalid(error.to_string()))?;
    if text.trim().is_empty() {
        return Ok(Policy::default());
    }
    let policy: Policy =
        serde_saphyr::from_str(text).map_err(|error| invalid(first_line(&error.to_string())))?;
    for (name, limit) in &policy.limits {
        if !limit.is_valid() {
            return Err(invalid(format!("a limit of {name} is 0; omit it for no limit")));
        }
    }
    Ok(policy)
}

impl Policy {
    /// Adds a rate limit of the command line: `anthropic=requests:50,tokens:40000,concurrent:4`. It replaces
    /// the limits that the file has for the same provider or model.
    ///
    /// # Errors
    ///
    /// [`PolicyError::RateLimit`] for any other text, and for a limit of 0.
    pub fn add_limit(&mut self, text: &str) -> Result<(), PolicyError> {
        let invalid = || PolicyError::RateLimit { text: text.to_owned() };
        let (name, parts) = text.split_once('=').ok_or_else(invalid)?;
        let mut limit = RateLimit::default();
        for part in parts.split(',') {
            let (unit, number) = part.split_once(':').ok_or_else(invalid)?;
            let number = Some(number.trim().parse().map_err(|_| invalid())?);
            match unit.trim() {
                "requests" => limit.requests_per_minute = number,
                "tokens" => limit.tokens_per_minute = number,
                "concurrent" => limit.concurrent = number,
                _ => return Err(invalid()),
            }
        }
        if name.trim().is_empty() || !limit.is_valid() {
            return Err(invalid());
        }
        self.limits.insert(name.trim().to_owned(), limit);
        Ok(())
    }

    /// The prices of models: the file's, then the table's.
    pub fn prices(&self) -> Prices {
        self.prices.clone()
    }

    /// Whether an agent may be dispatched below itself.
    pub fn allows_recursion(&self) -> bool {
        self.recursion
    }

    /// What becomes of calls in the background that need a person's approval, where their dispatcher set nothing.
    pub fn approvals(&self) -> Approvals {
        self.approvals
    }

    /// How long a question waits for a person before it counts as denied.
    pub fn approvals_expire(&self) -> Duration {
        self.approvals_expire.unwrap_or(DEFAULT_EXPIRY)
    }

    /// The default scheduling options of this agent's jobs.
    pub fn job_options(&self, agent: &str) -> JobOptions {
        let defaults = JobOptions { notify: self.notify.clone(), ..JobOptions::default() };
        let Some(policy) = self.agents.get(agent) else { return defaults };
        JobOptions {
            queue: policy.queue.clone().unwrap_or(defaults.queue),
            priority: policy.priority.unwrap_or(defaults.priority),
            delay: defaults.delay,
            timeout: policy.timeout.or(defaults.timeout),
            retries: policy.retries.unwrap_or(defaults.retries),
            retry_delay: policy.retry_delay.unwrap_or(defaults.retry_delay),
            budget: defaults.budget,
            notify: policy.notify.clone().or(defaults.notify),
        }
    }

    /// The rate limits that a call of this model counts against, by name: the model's, then the provider's.
    pub fn limits(&self, provider: &str, model: &str) -> Vec<(String, RateLimit)> {
        let names = [format!("{provider}/{model}"), provider.to_owned()];
        names
            .into_iter()
            .filter_map(|name| self.limits.get(&name).map(|limit| (name.clone(), *limit)))
            .collect()
    }
}

impl RateLimit {
    /// Whether no limit is 0, which would block every call forever.
    fn is_valid(&self) -> bool {
        ![self.requests_per_minute, self.tokens_per_minute, self.concurrent].contains(&Some(0))
    }
}

/// The first line of the parser's message. The other lines show the position in the file and do not fit into
/// an error of one line.
fn first_line(message: &str) -> String {
    let line = message.lines().next().unwrap_or_default();
    line.strip_prefix("error: ").unwrap_or(line).to_owned()
}

/// Deserializes an optional limit such as `30m`; zero is refused.
fn optional_limit<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    text.map(|text| duration::parse_limit(&text)).transpose().map_err(serde::de::Error::custom)
}

/// Deserializes an optional duration such as `30m`.
fn optional_duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    text.map(|text| duration::parse(&text)).transpose().map_err(serde::de::Error::custom)
}

/// Deserializes an optional queue name.
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
    fn options_and_limits_are_found_by_name() {
        let policy = parse("fleet.yaml", FILE.as_bytes()).unwrap();
        let coder = policy.job_options("coder");
        assert_eq!((coder.queue.as_str(), coder.priority, coder.retries), ("code", Priority::High, 2));
        assert_eq!(coder.timeout, Some(Duration::from_secs(1800)));
        assert_eq!(policy.job_options("other"), JobOptions::default());
        assert_eq!(policy.job_options("unknown"), JobOptions::default());
        let names = |provider, model| -> Vec<String> {
            policy.limits(provider, model).into_iter().map(|(name, _)| name).collect()
        };
        assert_eq!(names("openai", "gpt-4o"), ["openai/gpt-4o"]);
        assert!(names("google", "gemini").is_empty());
        assert_eq!(names("anthropic", "claude"), ["anthropic"]);
        assert_eq!(policy.limits("anthropic", "claude")[0].1.requests_per_minute, Some(50));
        assert_eq!(parse("empty.yaml", b" \n").unwrap(), Policy::default());
    }

    #[test]
    fn approvals_are_denied_unless_the_file_parks_them() {
        let policy = parse("fleet.yaml", b"approvals: park\napprovals_expire: 2h\n").unwrap();
        assert_eq!(
            (policy.approvals(), policy.approvals_expire()),
            (Approvals::Park, Duration::from_secs(7200))
        );
        let policy = Policy::default();
        assert_eq!((policy.approvals(), policy.approvals_expire()), (Approvals::Deny, DEFAULT_EXPIRY));
    }

    #[test]
    fn an_agents_webhook_wins_over_that_of_all() {
        let file =
            b"notify: https://a.example\nagents: {coder: {notify: 'https://b.example/x'}, other: {}}\n";
        let policy = parse("fleet.yaml", file).unwrap();
        let notify = |agent| policy.job_options(agent).notify.map(String::from);
        assert_eq!(notify("coder").as_deref(), Some("https://b.example/x"));
        assert_eq!(notify("other").as_deref(), Some("https://a.example"));
        assert_eq!(notify("unknown").as_deref(), Some("https://a.example"));
        assert!(Policy::default().job_options("coder").notify.is_none());
    }

    #[test]
    fn rate_limits_of_the_command_line_are_parsed() {
        let mut policy = Policy::default();
        policy.add_limit("anthropic=requests:50,tokens:40000,concurrent:4").unwrap();
        let limit =
            RateLimit { requests_per_minute: Some(50), tokens_per_minute: Some(40_000), concurrent: Some(4) };
        assert_eq!(policy.limits("anthropic", "m"), [("anthropic".to_owned(), limit)]);
        for invalid in
            ["", "anthropic", "=requests:5", "a=requests:0", "a=requests:x", "a=speed:5", "a=", "a=requests"]
        {
            assert!(policy.add_limit(invalid).is_err(), "{invalid}");
        }
    }

    #[test]
    fn errors_are_reported_with_their_position() {
        let message = |text: &str| parse("fleet.yaml", text.as_bytes()).unwrap_err().to_string();
        let all = [
            "agents:\n  coder: { queue: a b }\n",
            "agents:\n  coder: { quue: code }\n",
            "agents:\n  coder: { timeout: soon }\n",
            "agents:\n  coder: { timeout: 0s }\n",
            "agents:\n  coder: { priority: urgent }\n",
            "limits:\n  anthropic: { requests_per_minute: 0 }\n",
            "limits:\n  anthropic: { requests_per_minute: -5 }\n",
            "limit: {}\n",
            "approvals: later\n",
            "notify: example.org\n",
            "[1, 2]\n",
        ]
        .map(message)
        .join("\n");
        insta::assert_snapshot!(all);
    }
}
