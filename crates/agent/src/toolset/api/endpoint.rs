//! The URL of a call: an endpoint of the agent file with its placeholders filled. Pure.
//!
//! `${name}` and `${encodeURIComponent(name)}` stand for an argument, `${env.X}` for a variable of the worker.
//! Arguments come from a model. Each is percent-encoded for its position, so that it cannot change another part of the
//! URL.

use reqwest::Url;
use serde_json::Value;

use crate::environment::Environment;
use crate::tool::text_of;
use crate::toolset::http::is_http;

/// Fills the placeholders of an endpoint.
///
/// # Errors
///
/// The reason, without the resulting URL: it may contain a key.
pub(super) fn filled(
    endpoint: &str,
    arguments: &[(&str, &Value)],
    environment: &Environment,
) -> Result<Url, String> {
    let mut url = String::with_capacity(endpoint.len());
    let mut rest = endpoint;
    while let Some((before, after)) = rest.split_once("${") {
        url.push_str(before);
        let Some((expression, after)) = after.split_once('}') else {
            return Err("the endpoint has a `${` without a `}`".to_owned());
        };
        let value = placeholder_value(expression.trim(), arguments, environment, &url)?;
        url.push_str(&value);
        rest = after;
    }
    url.push_str(rest);
    let url = Url::parse(&url).map_err(|error| format!("the endpoint is not a valid URL: {error}"))?;
    if is_http(&url) { Ok(url) } else { Err("the endpoint is not http or https".to_owned()) }
}

/// The value of a placeholder. `before` is the part of the URL in front of it, which determines the encoding.
fn placeholder_value(
    expression: &str,
    arguments: &[(&str, &Value)],
    environment: &Environment,
    before: &str,
) -> Result<String, String> {
    if let Some(name) = expression.strip_prefix("env.") {
        // Without its variable the endpoint would be another place.
        let value = environment.variable(name).map(str::to_owned);
        return value.ok_or_else(|| format!("environment variable {name} is not set"));
    }
    let inner = expression.strip_prefix("encodeURIComponent(").and_then(|inner| inner.strip_suffix(')'));
    let name = inner.unwrap_or(expression).trim();
    let argument = arguments.iter().find(|(key, _)| *key == name);
    let Some(text) = argument.map(|(_, value)| text_of(value)) else {
        // A name is an optional argument that is absent. Anything else is JavaScript, which is not supported.
        let is_name = !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || c == '_');
        return if is_name { Ok(String::new()) } else { Err(format!("cannot evaluate `${{{expression}}}`")) };
    };
    if before.is_empty() {
        // The endpoint begins with the placeholder: the agent file lets the model choose the whole URL.
        return Ok(text);
    }
    let in_path = inner.is_none() && !before.contains(['?', '#']);
    Ok(percent_encoded(&text, in_path))
}

/// Percent-encodes `text`. In a path, slashes and commas stay, unless the text contains a `.` or `..` segment, which
/// could lead out of the endpoint's path.
pub(in crate::toolset) fn percent_encoded(text: &str, in_path: bool) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'~' | b'.' => {
                encoded.push(char::from(byte))
            }
            b'/' | b',' if in_path => encoded.push(char::from(byte)),
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    if in_path && encoded.split('/').any(|segment| matches!(segment, "." | "..")) {
        return encoded.replace('/', "%2F").replace("..", "%2E%2E");
    }
    encoded
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;

    use super::*;

    #[test]
    fn arguments_cannot_change_other_parts_of_the_url() {
        let variables = BTreeMap::from([("KEY".to_owned(), "k/1".to_owned())]);
        let environment = Environment::new(variables, "/".into());
        let (city, odd, up, page) = (json!("New York"), json!("a&b=c#d"), json!("x/../../admin"), json!(3));
        let arguments: Vec<(&str, &Value)> =
            vec![("city", &city), ("odd", &odd), ("up", &up), ("page", &page)];
        for (endpoint, expected) in [
            (
                "https://x.org/${city}/now?q=${odd}&p=${page}",
                "https://x.org/New%20York/now?q=a%26b%3Dc%23d&p=3",
            ),
            ("https://x.org/a/b/${up}", "https://x.org/a/b/x%2F%2E%2E%2F%2E%2E%2Fadmin"),
            ("https://x.org/?k=${env.KEY}&o=${absent}", "https://x.org/?k=k/1&o="),
            ("https://x.org/${ encodeURIComponent(up) }", "https://x.org/x%2F..%2F..%2Fadmin"),
            ("https://x.org${odd}", "https://x.orga%26b%3Dc%23d/"),
        ] {
            let filled = filled(endpoint, &arguments, &environment);
            match filled {
                Ok(url) => assert_eq!(url.as_str(), expected, "{endpoint}"),
                Err(reason) => {
                    assert!(reason.starts_with("the endpoint is not a valid URL"), "{endpoint}: {reason}")
                }
            }
        }
        for (endpoint, expected) in [
            ("https://${env.NONE}/x", "environment variable NONE is not set"),
            ("https://x.org/${city", "the endpoint has a `${` without a `}`"),
            ("https://x.org/${city.length}", "cannot evaluate `${city.length}`"),
            ("file:///${city}", "the endpoint is not http or https"),
            ("${city}", "the endpoint is not a valid URL: relative URL without a base"),
        ] {
            assert_eq!(filled(endpoint, &arguments, &environment).unwrap_err(), expected);
        }
    }
}
