//! Expansion of environment variables in the strings of a team. Pure: the caller looks up the values.
//!
//! A team is stored with its strings unexpanded. They are expanded where the agent runs, so that no secret
//! gets into Redis.

use std::convert::Infallible;

/// A variable that is not set.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("environment variable {name} is not set")]
pub struct MissingVariable {
    /// The name of the variable.
    pub name: String,
}

/// A part of a text: plain text, or a reference to a variable with its name and its spelling in the text.
enum Piece<'t> {
    Plain(&'t str),
    Variable { name: &'t str, written: &'t str },
}

/// The maximum length of a variable's name in bytes. It bounds the search for a closing brace.
const MAX_NAME: usize = 200;

/// Expands `$X` and `${X}`, as in the `env` of a toolset. `${env.X}` is expanded too, and is empty when the
/// variable is not set. A `$` that is not followed by a name is kept.
///
/// # Errors
///
/// [`MissingVariable`] for the first variable that is not set.
pub fn expand_shell(text: &str, value: impl Fn(&str) -> Option<String>) -> Result<String, MissingVariable> {
    write(text, |name, _| match name.strip_prefix("env.") {
        Some(optional) => Ok(value(optional).unwrap_or_default()),
        None => value(name).ok_or_else(|| MissingVariable { name: name.to_owned() }),
    })
}

/// Expands `${env.X}`, as in URLs and headers. A variable that is not set is empty; every other `$` is kept.
pub fn expand_template(text: &str, value: impl Fn(&str) -> Option<String>) -> String {
    let expanded = write(text, |name, written| -> Result<String, Infallible> {
        Ok(match name.strip_prefix("env.") {
            Some(variable) => value(variable).unwrap_or_default(),
            None => written.to_owned(),
        })
    });
    match expanded {
        Ok(text) => text,
        Err(never) => match never {},
    }
}

/// Expands `${env.X}` where nothing may be left out, as in the address of a model: without the variable, the text would
/// name another place. Every other `$` is kept.
///
/// # Errors
///
/// [`MissingVariable`] for the first variable for which `value` has none.
pub fn expand_address(text: &str, value: impl Fn(&str) -> Option<String>) -> Result<String, MissingVariable> {
    write(text, |name, written| match name.strip_prefix("env.") {
        Some(variable) => value(variable).ok_or_else(|| MissingVariable { name: variable.to_owned() }),
        None => Ok(written.to_owned()),
    })
}

/// Expands `${env.X}` and `${X}`, as in the name of a model. What is not set is kept as it is written.
pub(super) fn expand_set(text: &str, value: impl Fn(&str) -> Option<String>) -> String {
    let expanded = write(text, |name, written| -> Result<String, Infallible> {
        let found = named_in_braces(name, written).and_then(&value);
        Ok(found.unwrap_or_else(|| written.to_owned()))
    });
    match expanded {
        Ok(text) => text,
        Err(never) => match never {},
    }
}

/// The variable that [`expand_set`] replaces.
fn named_in_braces<'t>(name: &'t str, written: &str) -> Option<&'t str> {
    written.starts_with("${").then(|| name.strip_prefix("env.").unwrap_or(name))
}

/// The variables that [`expand_set`] replaces.
pub(super) fn variables_in_braces(text: &str) -> Vec<String> {
    let name = |piece| match piece {
        Piece::Variable { name, written } => named_in_braces(name, written).map(str::to_owned),
        Piece::Plain(_) => None,
    };
    pieces(text).into_iter().filter_map(name).collect()
}

/// The variables that [`expand_address`] and [`expand_template`] replace.
pub(super) fn template_variables(text: &str) -> Vec<String> {
    let name = |piece| match piece {
        Piece::Variable { name, .. } => name.strip_prefix("env.").map(str::to_owned),
        Piece::Plain(_) => None,
    };
    pieces(text).into_iter().filter_map(name).collect()
}

/// The variables that must be set for [`expand_shell`] to succeed.
pub(super) fn variables(text: &str) -> Vec<String> {
    pieces(text)
        .into_iter()
        .filter_map(|piece| match piece {
            Piece::Variable { name, .. } if !name.starts_with("env.") => Some(name.to_owned()),
            Piece::Variable { .. } | Piece::Plain(_) => None,
        })
        .collect()
}

/// Replaces each variable by the result of `value`, which gets its name and its spelling in the text.
fn write<E>(text: &str, value: impl Fn(&str, &str) -> Result<String, E>) -> Result<String, E> {
    let mut expanded = String::with_capacity(text.len());
    for piece in pieces(text) {
        match piece {
            Piece::Plain(plain) => expanded.push_str(plain),
            Piece::Variable { name, written } => expanded.push_str(&value(name, written)?),
        }
    }
    Ok(expanded)
}

/// Splits a text at its variables.
fn pieces(text: &str) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        let after = &rest[at + 1..];
        let Some((name, length)) = variable(after) else {
            pieces.push(Piece::Plain(&rest[..=at]));
            rest = after;
            continue;
        };
        pieces.push(Piece::Plain(&rest[..at]));
        pieces.push(Piece::Variable { name, written: &rest[at..=at + length] });
        rest = &after[length..];
    }
    pieces.push(Piece::Plain(rest));
    pieces
}

/// Parses the text after a `$`: returns the name of the variable, and how many bytes its spelling takes.
fn variable(after: &str) -> Option<(&str, usize)> {
    if let Some(inner) = after.strip_prefix('{') {
        let end = inner.bytes().take(MAX_NAME).position(|byte| byte == b'}')?;
        let name = &inner[..end];
        let valid = !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || "_.".contains(c));
        return valid.then_some((name, end + 2));
    }
    let end = after.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(after.len());
    let name = &after[..end];
    let valid = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    valid.then_some((name, end))
}

#[cfg(test)]
mod tests {
    use super::expand_address;
    use super::expand_set;
    use super::expand_shell;
    use super::expand_template;
    use super::template_variables;
    use super::variables;
    use super::variables_in_braces;

    fn value(name: &str) -> Option<String> {
        (name == "A").then(|| "x$A".to_owned())
    }

    #[test]
    fn expand_shell_fails_for_an_unset_variable() {
        let cases = [
            ("", ""),
            ("$A/${A}", "x$A/x$A"),
            ("5$ and $5 and $", "5$ and $5 and $"),
            ("${A", "${A"),
            ("${}", "${}"),
            ("${env.A}|${env.B}", "x$A|"),
            ("ä$A§", "äx$A§"),
        ];
        for (text, expected) in cases {
            assert_eq!(expand_shell(text, value).as_deref(), Ok(expected), "{text}");
        }
        let missing = expand_shell("a $B", value).map_err(|error| error.to_string());
        assert_eq!(missing, Err("environment variable B is not set".to_owned()));
    }

    #[test]
    fn expand_template_replaces_only_env_references() {
        assert_eq!(expand_template("${env.A} ${env.B} ${headers.X} $A", value), "x$A  ${headers.X} $A");
    }

    #[test]
    fn an_address_is_not_expanded_without_its_variable() {
        assert_eq!(expand_address("http://${env.A}/${arg}/$A", value).as_deref(), Ok("http://x$A/${arg}/$A"));
        let missing = expand_address("${env.A}${env.B}", value).map_err(|error| error.name);
        assert_eq!(missing, Err("B".to_owned()));
        assert_eq!(template_variables("${env.A} ${env.B} ${C} $D"), ["A", "B"]);
    }

    #[test]
    fn variables_in_braces_are_replaced_where_they_are_set() {
        assert_eq!(expand_set("${env.A} ${A} $A ${B} ${env.B}", value), "x$A x$A $A ${B} ${env.B}");
        assert_eq!(variables_in_braces("${env.A} ${B} $C"), ["A", "B"]);
    }

    #[test]
    fn required_variables_exclude_env_references() {
        assert_eq!(variables("$A ${B} ${env.C} $1"), ["A", "B"]);
    }
}
