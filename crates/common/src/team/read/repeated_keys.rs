//! All repeated keys of a file: the parser itself stops at the first.

use std::collections::BTreeMap;

use crate::team::error::TeamError;
use crate::team::source::Position;
use crate::team::source::Source;
use crate::team::source::excerpt;
use crate::team::tree;
use crate::team::tree::Node;
use crate::team::tree::Value;

/// The errors about the repeated keys of a file that cannot be read because of them; empty where the file has another
/// mistake that hides them.
pub(super) fn errors(source: Source<'_>) -> Vec<TeamError> {
    let Ok(root) = tree::read_with_repeated_keys(source.text) else { return Vec::new() };
    let mut errors = Vec::new();
    collect(source, &root, &mut errors);
    errors
}

fn collect(source: Source<'_>, node: &Node, errors: &mut Vec<TeamError>) {
    match &node.value {
        Value::List(items) => items.iter().for_each(|item| collect(source, item, errors)),
        Value::Map(entries) => {
            let mut seen: BTreeMap<&str, Position> = BTreeMap::new();
            for entry in entries {
                if let Some(first) = seen.get(entry.key.as_str()) {
                    let message = format!("duplicate key `{}`", excerpt(&entry.key));
                    let hint = format!("remove one of the two; the other is on line {}", first.line);
                    errors.push(source.error(Some(entry.key_at), message, Some(hint)));
                } else {
                    seen.insert(&entry.key, entry.key_at);
                }
                collect(source, &entry.node, errors);
            }
        }
        Value::Null | Value::Bool(_) | Value::Integer(_) | Value::Float(_) | Value::String(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use crate::team::parse;

    #[test]
    fn all_repeated_keys_are_reported() {
        let file = "agents:\n  a:\n    model: auto\n    model: auto\n  b: {model: auto}\n  b: {model: auto, model: x}\n";
        let errors = parse("team.yaml", file.as_bytes()).unwrap_err();
        let found: Vec<String> =
            errors.iter().map(|error| format!("{error}; {}", error.hint().unwrap_or_default())).collect();
        assert_eq!(
            found,
            [
                "team.yaml:4:5: duplicate key `model`; remove one of the two; the other is on line 3",
                "team.yaml:6:3: duplicate key `b`; remove one of the two; the other is on line 5",
                "team.yaml:6:20: duplicate key `model`; remove one of the two; the other is on line 6",
            ]
        );
    }
}
