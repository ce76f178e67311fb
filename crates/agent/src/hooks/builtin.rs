//! The hooks that are part of docker-agent: what they answer to an event. Pure but for those that are a command or a
//! request, which are only described here.

use legwork_common::team::hook_prompt;
use serde_json::Value;
use serde_json::json;

/// What a built-in hook does.
#[derive(Debug, PartialEq)]
pub(crate) enum Builtin {
    /// A shell command; the hook's arguments are `$1` and so on.
    Command(&'static str),
    /// The JSON of a hook's answer, or nothing.
    Answer(String),
    /// A request with this body to this address, whose answer does not matter.
    Post { url: String, body: String },
}

/// What the hook with this name does at an event.
///
/// # Errors
///
/// The hook does not run here, or its arguments are not what it needs.
pub(crate) fn builtin(name: &str, args: &[String], event: &Value) -> Result<Builtin, String> {
    match name {
        "add_context" => added_context(args, event).map(Builtin::Answer),
        "max_iterations" => iterations(args, event).map(Builtin::Answer),
        "elide_repeated_tool_results" => Ok(Builtin::Answer(elided(event))),
        "http_post" => {
            let url = args.first().cloned().ok_or("it needs a URL")?;
            Ok(Builtin::Post { url, body: args.get(1).cloned().unwrap_or_default() })
        }
        _ => {
            let known = COMMANDS.iter().find(|(builtin, _)| *builtin == name);
            known
                .map(|(_, command)| Builtin::Command(command))
                .ok_or_else(|| format!("the built-in hook {name} does not run here"))
        }
    }
}

/// Built-in hooks as shell commands. Those that always hold here do nothing.
const COMMANDS: [(&str, &str); 10] = [
    ("add_date", "date '+Today is %A, %Y-%m-%d.'"),
    ("add_environment_info", r#"printf 'Working directory: %s\nSystem: %s\n' "$PWD" "$(uname -sm)""#),
    (
        "add_prompt_files",
        r#"for file; do test ! -f "$file" || { printf 'Instructions from %s\n\n' "$file"; cat "$file"; }; done"#,
    ),
    ("add_git_status", "git status --short --branch 2>/dev/null || true"),
    ("add_git_diff", r#"git diff $(test "$1" = full || echo --stat) 2>/dev/null || true"#),
    ("add_directory_listing", "ls -1Ap | head -n 100"),
    ("add_user_info", "printf 'User: %s\n' \"$(id -un)\""),
    ("add_recent_commits", r#"git log --oneline -n "${1:-10}" 2>/dev/null || true"#),
    ("redact_secrets", ":"),
    ("limit_large_tool_results", ":"),
];

/// The texts of the arguments, filled in.
fn added_context(args: &[String], event: &Value) -> Result<String, String> {
    let texts = args.iter().map(|text| hook_prompt(text, event)).collect::<Result<Vec<_>, _>>()?;
    let texts: Vec<String> = texts.into_iter().filter(|text| !text.trim().is_empty()).collect();
    Ok(json!({"hook_specific_output": {"additional_context": texts.join("\n")}}).to_string())
}

/// A refusal once the agent made as many model calls as the first argument says.
fn iterations(args: &[String], event: &Value) -> Result<String, String> {
    let limit: Option<u64> = args.first().and_then(|text| text.trim().parse().ok());
    let limit = limit.filter(|limit| *limit > 0).ok_or("it needs a number above zero")?;
    let is_over = event["iteration"].as_u64().is_some_and(|iteration| iteration > limit);
    let reason = format!("the built-in hook max_iterations allows {limit} model calls");
    Ok(if is_over { json!({"decision": "block", "reason": reason}).to_string() } else { String::new() })
}

/// Results of fewer bytes than this are repeated: the words in their place are not shorter.
const MIN_ELIDED_BYTES: usize = 256;

/// Words in place of a result that the model has been shown by an earlier call.
fn elided(event: &Value) -> String {
    let is_long = event["tool_response"].as_str().is_some_and(|text| text.len() >= MIN_ELIDED_BYTES);
    if !is_long || event["repeats_earlier_result"] != json!(true) {
        return String::new();
    }
    let words = format!(
        "[The result is the same as that of your earlier call of {} with the same arguments.]",
        event["tool_name"].as_str().unwrap_or_default()
    );
    json!({"hook_specific_output": {"updated_tool_response": words}}).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(name: &str, args: &[&str], event: Value) -> String {
        let args: Vec<String> = args.iter().map(|text| (*text).to_owned()).collect();
        match builtin(name, &args, &event).unwrap() {
            Builtin::Answer(text) => text,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn context_is_filled_in() {
        let event = json!({"agent_name": "root", "turn": 3});
        let text = answer("add_context", &["It is {{ .AgentName }}.", " ", "Turn {{ .Turn }}"], event);
        assert!(text.contains(r#""additional_context":"It is root.\nTurn 3""#), "{text}");
        assert!(builtin("add_context", &["{{ range }}".to_owned()], &Value::Null).is_err());
    }

    #[test]
    fn iterations_beyond_the_limit_are_refused() {
        let at = |iteration: u32| answer("max_iterations", &["2"], json!({"iteration": iteration}));
        assert_eq!((at(1), at(2)), (String::new(), String::new()));
        assert!(at(3).contains(r#""decision":"block""#));
        assert!(builtin("max_iterations", &["x".to_owned()], &Value::Null).is_err());
    }

    #[test]
    fn only_a_long_result_that_was_shown_before_is_left_out() {
        let event = |length: usize, repeats: bool| json!({"tool_name": "t", "tool_response": "x".repeat(length), "repeats_earlier_result": repeats});
        let elided = |length, repeats| answer("elide_repeated_tool_results", &[], event(length, repeats));
        assert!(elided(256, true).contains("your earlier call of t"));
        assert_eq!((elided(255, true), elided(256, false)), (String::new(), String::new()));
    }

    #[test]
    fn a_request_is_described_and_an_unknown_hook_is_an_error() {
        let post = builtin("http_post", &["https://a".to_owned(), "{}".to_owned()], &Value::Null).unwrap();
        assert_eq!(post, Builtin::Post { url: "https://a".to_owned(), body: "{}".to_owned() });
        let unknown = builtin("snapshot", &[], &Value::Null).unwrap_err();
        assert_eq!(unknown, "the built-in hook snapshot does not run here");
    }
}
