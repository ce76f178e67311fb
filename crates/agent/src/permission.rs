//! Which tool calls a team allows, denies, or has a person approve.
//!
//! A pattern is `tool` or `tool:argument=glob[:argument=glob]`, where the tool's name is a glob too. Case is
//! ignored; `*` matches any characters, `?` matches one.

use legwork_common::question::Answer;
use legwork_common::team::Permissions;
use legwork_common::team::SafetyMode;
use serde_json::Map;
use serde_json::Value;

use crate::safety;
use crate::safety::Label;
use crate::tool::text_of;

/// The decision of a team's permissions about a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The call is made.
    Allowed,
    /// The call is refused.
    Denied,
    /// A person must approve the call; without one it is refused.
    NeedsApproval,
}

/// Decides about a call: `deny` wins over `allow`, and `allow` over `ask`. A call that no pattern matches is
/// allowed.
pub fn verdict(permissions: &Permissions, tool: &str, arguments: &Map<String, Value>) -> Verdict {
    let any = |patterns: &[String]| patterns.iter().any(|pattern| matches(pattern, tool, arguments));
    if any(&permissions.deny) {
        return Verdict::Denied;
    }
    if any(&permissions.allow) || !any(&permissions.ask) { Verdict::Allowed } else { Verdict::NeedsApproval }
}

/// Decides about a call of a session with a safety mode. The mode decides what no pattern does; in the modes that ask less
/// often, `ask` of the team does not count.
pub(crate) fn verdict_in_mode(
    permissions: &Permissions,
    tool: &str,
    arguments: &Map<String, Value>,
    mode: Option<SafetyMode>,
    label: Label,
) -> Verdict {
    let any = |patterns: &[String]| patterns.iter().any(|pattern| matches(pattern, tool, arguments));
    match verdict(permissions, tool, arguments) {
        Verdict::Denied => Verdict::Denied,
        Verdict::NeedsApproval if safety::heeds_ask(mode) => Verdict::NeedsApproval,
        Verdict::Allowed if any(&permissions.allow) => Verdict::Allowed,
        Verdict::Allowed | Verdict::NeedsApproval => safety::verdict(mode, label),
    }
}

/// The sentence for a call that the team denies.
pub(crate) fn denied(tool: &str) -> String {
    format!("Tool '{tool}' is denied by permissions configuration.")
}

/// The sentence for a call that needs an approval where no one can give it: docker-agent's.
pub(crate) fn unattended(tool: &str) -> String {
    format!("Tool '{tool}' requires user confirmation but the session is non-interactive.")
}

/// Why a call is refused after an answer, as a sentence for the model; `None` where a person approved it.
pub(crate) fn refused_by(answer: &Answer) -> Option<String> {
    match answer {
        Answer::Approved => None,
        Answer::Denied { why: None } => Some("The user rejected the tool call.".to_owned()),
        Answer::Denied { why: Some(why) } => Some(format!("The user rejected the tool call. Reason: {why}")),
        Answer::Expired => Some("The tool call was denied: no one approved it in time.".to_owned()),
        // Only a question to the user is answered like this.
        Answer::Answered { .. } => Some("The user rejected the tool call.".to_owned()),
    }
}

/// Whether a pattern matches a call: its name, and all its conditions.
fn matches(pattern: &str, tool: &str, arguments: &Map<String, Value>) -> bool {
    let (name, conditions) = split(pattern);
    glob(&name, tool)
        && conditions.iter().all(|(argument, wanted)| {
            arguments.get(argument).is_some_and(|value| glob(wanted, &text_of(value)))
        })
}

/// Splits a pattern into the tool's name and the conditions, the pieces with a `=`. Name and globs may contain
/// colons.
fn split(pattern: &str) -> (String, Vec<(String, String)>) {
    let mut name = String::new();
    let mut conditions: Vec<(String, String)> = Vec::new();
    for piece in pattern.split(':') {
        match (piece.split_once('='), conditions.last_mut()) {
            (Some((argument, wanted)), _) => conditions.push((argument.to_owned(), wanted.to_owned())),
            (None, Some((_, wanted))) => {
                wanted.push(':');
                wanted.push_str(piece);
            }
            (None, None) if name.is_empty() => name.push_str(piece),
            (None, None) => {
                name.push(':');
                name.push_str(piece);
            }
        }
    }
    (name, conditions)
}

/// Whether `text` matches `pattern`, ignoring case.
fn glob(pattern: &str, text: &str) -> bool {
    let pattern: Vec<char> = pattern.to_lowercase().chars().collect();
    let text: Vec<char> = text.to_lowercase().chars().collect();
    // Backtracks to the last `*` only, so the worst case is quadratic, never exponential.
    let (mut p, mut t) = (0, 0);
    let mut fallback = None;
    while t < text.len() {
        match pattern.get(p) {
            Some('*') => {
                fallback = Some((p, t));
                p += 1;
            }
            Some(&c) if c == '?' || c == text[t] => {
                p += 1;
                t += 1;
            }
            _ => match fallback {
                Some((star, at)) => {
                    fallback = Some((star, at + 1));
                    p = star + 1;
                    t = at + 1;
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|&c| c == '*')
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn refused(deny: &[&str], tool: &str, arguments: Value) -> bool {
        let permissions =
            Permissions { deny: deny.iter().map(|&d| d.to_owned()).collect(), ..Permissions::default() };
        verdict(&permissions, tool, arguments.as_object().unwrap()) == Verdict::Denied
    }

    #[test]
    fn a_pattern_matches_by_name_and_arguments() {
        let table = [
            ("shell", "shell", json!({}), true),
            ("SHELL", "shell", json!({}), true),
            ("shell", "shell2", json!({}), false),
            ("mcp:github:*", "mcp:github:create", json!({}), true),
            ("shell:cmd=rm *", "shell", json!({"cmd": "rm -rf / now"}), true),
            ("shell:cmd=rm *", "shell", json!({"cmd": "ls"}), false),
            ("shell:cmd=rm *", "shell", json!({}), false),
            ("shell:cmd=*sudo*:cwd=/", "shell", json!({"cmd": "a sudo b", "cwd": "/"}), true),
            ("shell:cmd=curl http://*", "shell", json!({"cmd": "curl http://x"}), true),
            ("f:n=1?", "f", json!({"n": 12}), true),
            ("*", "anything", json!({}), true),
        ];
        for (pattern, tool, arguments, expected) in table {
            assert_eq!(refused(&[pattern], tool, arguments), expected, "{pattern}");
        }
    }

    #[test]
    fn only_an_approval_lets_a_call_be_made() {
        assert_eq!(refused_by(&Answer::Approved), None);
        let why = Some("not on Friday".to_owned());
        let denied = refused_by(&Answer::Denied { why }).unwrap();
        assert_eq!(denied, "The user rejected the tool call. Reason: not on Friday");
        for answer in [Answer::Denied { why: None }, Answer::Expired, Answer::Answered { content: json!(1) }]
        {
            assert!(refused_by(&answer).is_some(), "{answer}");
        }
    }

    #[test]
    fn deny_wins_over_allow_and_allow_over_ask() {
        let all = |words: &[&str]| words.iter().map(|&w| w.to_owned()).collect::<Vec<_>>();
        let permissions = Permissions { allow: all(&["a", "b"]), ask: all(&["b", "c"]), deny: all(&["a"]) };
        let mode = |tool, mode, label| verdict_in_mode(&permissions, tool, &Map::new(), mode, label);
        let (restricted, strict) = (Some(SafetyMode::Restricted), Some(SafetyMode::Strict));
        assert_eq!(mode("a", Some(SafetyMode::Autonomous), Label::Safe), Verdict::Denied);
        assert_eq!(mode("b", restricted, Label::Destructive), Verdict::Allowed, "allow wins over the mode");
        assert_eq!(mode("c", Some(SafetyMode::Autonomous), Label::Destructive), Verdict::Allowed);
        assert_eq!(mode("c", None, Label::Safe), Verdict::NeedsApproval);
        assert_eq!(mode("d", restricted, Label::Unknown), Verdict::Denied);
        assert_eq!(mode("d", strict, Label::Safe), Verdict::NeedsApproval);
        let without_mode = |tool| verdict(&permissions, tool, &Map::new());
        assert_eq!(
            ["a", "b", "c", "d"].map(without_mode),
            [Verdict::Denied, Verdict::Allowed, Verdict::NeedsApproval, Verdict::Allowed,]
        );
        assert_eq!(
            unattended("c"),
            "Tool 'c' requires user confirmation but the session is non-interactive."
        );
    }
}
