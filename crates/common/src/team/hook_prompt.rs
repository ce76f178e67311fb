//! The prompts of hooks of type `model`: the part of Go's text/template that such prompts need. Pure.
//!
//! `{{ .ToolName }}`, `{{ .ToolInput.cmd }}`, the functions `toJSON` and `truncate`, and pipes between them.

use serde_json::Value;

/// Fills in a prompt. The first name of a field is one of the event's keys, written as in Go: `ToolInput` for
/// `tool_input`. A field that the event does not have is empty.
///
/// # Errors
///
/// What in the prompt is not supported. The event does not matter for that.
pub fn hook_prompt(prompt: &str, event: &Value) -> Result<String, String> {
    let mut text = String::new();
    let mut rest = prompt;
    while let Some((before, after)) = rest.split_once("{{") {
        let (inside, after) = after.split_once("}}").ok_or("`{{` has no `}}`")?;
        let (trims_before, inside) = strip(inside.strip_prefix('-'), inside);
        let (trims_after, inside) = strip(inside.strip_suffix('-'), inside);
        text.push_str(if trims_before { before.trim_end() } else { before });
        let inside = inside.trim();
        if !inside.starts_with("/*") {
            text.push_str(&printed(&pipeline(inside, event)?));
        }
        rest = if trims_after { after.trim_start() } else { after };
    }
    Ok(text + rest)
}

fn strip<'t>(stripped: Option<&'t str>, text: &'t str) -> (bool, &'t str) {
    stripped.map_or((false, text), |text| (true, text))
}

/// The value of `a | b | c`: each stage gets the value of the one before as its last argument.
fn pipeline(text: &str, event: &Value) -> Result<Value, String> {
    let mut piped = None;
    for stage in split(text, '|') {
        let words: Vec<String> = split(&stage, ' ').into_iter().filter(|word| !word.is_empty()).collect();
        let Some((first, arguments)) = words.split_first() else { return Err("`{{ }}` is empty".to_owned()) };
        let arguments = arguments.iter().map(|word| operand(word, event)).collect::<Result<Vec<_>, _>>()?;
        let all: Vec<Value> = arguments.into_iter().chain(piped.take()).collect();
        piped = Some(match (first.as_str(), all.as_slice()) {
            ("toJSON", [value]) => Value::String(value.to_string()),
            ("truncate", [length, value]) => {
                let length = length.as_u64().and_then(|bytes| usize::try_from(bytes).ok());
                let length = length.ok_or("`truncate` needs a number and a text")?;
                Value::String(truncated(printed(value), length))
            }
            ("toJSON" | "truncate", _) => return Err(format!("`{first}` has the wrong number of arguments")),
            (_, []) => operand(first, event)?,
            (other, _) => return Err(format!("`{other}` is not supported")),
        });
    }
    Ok(piped.unwrap_or_default())
}

/// Splits at a separator outside of quotes.
fn split(text: &str, separator: char) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut is_quoted = false;
    for c in text.chars() {
        is_quoted ^= c == '"';
        match parts.last_mut() {
            Some(part) if is_quoted || c != separator => part.push(c),
            _ => parts.push(String::new()),
        }
    }
    parts
}

/// A field of the event, a number or a quoted text.
fn operand(word: &str, event: &Value) -> Result<Value, String> {
    if let Some(text) = word.strip_prefix('"').and_then(|text| text.strip_suffix('"')) {
        return Ok(Value::String(text.to_owned()));
    }
    if let Ok(number) = word.parse::<u64>() {
        return Ok(number.into());
    }
    let path = word.strip_prefix('.').ok_or_else(|| format!("`{word}` is not supported"))?;
    if path.is_empty() {
        return Ok(event.clone());
    }
    let mut names = path.split('.');
    let first = names.next().map(snake_case).unwrap_or_default();
    let is_name = |name: &str| !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || c == '_');
    if !path.split('.').all(is_name) {
        return Err(format!("`{word}` is not supported"));
    }
    let value = names.fold(event.get(&first), |value, name| value.and_then(|value| value.get(name)));
    Ok(value.cloned().unwrap_or_default())
}

/// `ToolUseID` as `tool_use_id`.
fn snake_case(name: &str) -> String {
    let mut words = String::new();
    let mut follows_capital = true;
    for c in name.chars() {
        if c.is_uppercase() && !follows_capital {
            words.push('_');
        }
        follows_capital = c.is_uppercase();
        words.extend(c.to_lowercase());
    }
    words
}

/// The first `bytes` of a text, at a whole character.
fn truncated(text: String, bytes: usize) -> String {
    if bytes == 0 || text.len() <= bytes {
        return text;
    }
    let end = (0..=bytes).rev().find(|&at| text.is_char_boundary(at)).unwrap_or_default();
    format!("{}…", &text[..end])
}

fn printed(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn fields_functions_and_pipes_are_filled_in() {
        let event =
            json!({"tool_name": "shell", "tool_use_id": "c1", "tool_input": {"cmd": "ls -l"}, "turn": 3});
        let table = [
            ("Tool: {{ .ToolName }}!", "Tool: shell!"),
            ("{{.ToolUseID}} {{.Turn}}", "c1 3"),
            ("{{ .ToolInput | toJSON }}", r#"{"cmd":"ls -l"}"#),
            ("{{ toJSON .ToolInput.cmd }}", r#""ls -l""#),
            ("{{ .ToolInput.cmd | truncate 2 }}", "ls…"),
            ("{{ .ToolInput | toJSON | truncate 500 }}", r#"{"cmd":"ls -l"}"#),
            ("{{ truncate 3 \"a b|c\" }}", "a b…"),
            ("a  {{- .ToolName -}}  b", "ashellb"),
            ("{{/* a comment */}}x{{ .Nothing }}", "x"),
        ];
        for (prompt, expected) in table {
            assert_eq!(hook_prompt(prompt, &event).unwrap(), expected, "{prompt}");
            assert!(hook_prompt(prompt, &Value::Null).is_ok(), "{prompt}");
        }
    }

    #[test]
    fn what_is_not_supported_is_named() {
        for (prompt, expected) in [
            ("{{ if .ToolName }}x{{ end }}", "`if` is not supported"),
            ("{{ .A | upper }}", "`upper` is not supported"),
            ("{{ .A", "`{{` has no `}}`"),
            ("{{ }}", "`{{ }}` is empty"),
            ("{{ truncate .A }}", "`truncate` has the wrong number of arguments"),
            ("{{ .A.(b) }}", "`.A.(b)` is not supported"),
        ] {
            assert_eq!(hook_prompt(prompt, &Value::Null).unwrap_err(), expected, "{prompt}");
        }
    }
}
