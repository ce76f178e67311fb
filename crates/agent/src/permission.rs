//! Which tool calls a team refuses. Pure.
//!
//! A pattern is `tool` or `tool:argument=glob[:argument=glob]`, without regard to case. A trailing `*` stands
//! for any rest; elsewhere `*` stands for any characters and `?` for one.

use legwork_common::team::Permissions;
use serde_json::Map;
use serde_json::Value;

use crate::tool::text_of;

/// Why a call may not be made, as the model is told; `None` where it may.
///
/// `deny` wins over `allow`, and `allow` over `ask`. Nobody can answer here, so `ask` is a refusal.
pub fn refusal(permissions: &Permissions, tool: &str, arguments: &Map<String, Value>) -> Option<String> {
    let any = |patterns: &[String]| patterns.iter().any(|pattern| matches(pattern, tool, arguments));
    if any(&permissions.deny) {
        return Some(format!("Tool '{tool}' is denied by permissions configuration."));
    }
    if any(&permissions.allow) || !any(&permissions.ask) {
        return None;
    }
    Some(format!("Tool '{tool}' needs a person's approval, and nobody can answer here."))
}

/// Whether a pattern covers a call.
fn matches(pattern: &str, tool: &str, arguments: &Map<String, Value>) -> bool {
    let (name, conditions) = split(pattern);
    glob(&name, tool)
        && conditions.iter().all(|(argument, wanted)| {
            arguments.get(argument).is_some_and(|value| glob(wanted, &text_of(value)))
        })
}

/// The tool's name, which may hold colons, and the conditions: the pieces with a `=`.
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

/// Whether `text` fits `pattern`, without regard to case.
fn glob(pattern: &str, text: &str) -> bool {
    let pattern: Vec<char> = pattern.to_lowercase().chars().collect();
    let text: Vec<char> = text.to_lowercase().chars().collect();
    // The classic walk with one point to fall back to: linear in practice, never exponential.
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
        refusal(&permissions, tool, arguments.as_object().unwrap()).is_some()
    }

    #[test]
    fn patterns() {
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
    fn deny_wins_over_allow_and_allow_over_ask() {
        let all = |words: &[&str]| words.iter().map(|&w| w.to_owned()).collect::<Vec<_>>();
        let permissions = Permissions { allow: all(&["a", "b"]), ask: all(&["b", "c"]), deny: all(&["a"]) };
        let refusal = |tool| refusal(&permissions, tool, &Map::new());
        assert_eq!(refusal("a").unwrap(), "Tool 'a' is denied by permissions configuration.");
        assert_eq!(refusal("b"), None);
        assert_eq!(refusal("c").unwrap(), "Tool 'c' needs a person's approval, and nobody can answer here.");
        assert_eq!(refusal("d"), None);
    }
}
