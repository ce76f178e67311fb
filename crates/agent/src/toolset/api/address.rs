//! The address of a call: an endpoint of the team's file with the arguments put in. Pure.
//!
//! `${name}` is an argument, `${env.X}` a variable of the worker, `${encodeURIComponent(name)}` an argument too.
//! Arguments come from a model: each is percent-encoded for the place where it stands, so that it stays in that place.

use reqwest::Url;
use serde_json::Value;

use crate::environment::Environment;
use crate::tool::text_of;

/// The endpoint with everything put in.
///
/// # Errors
///
/// What is wrong with the result, without naming it: it may hold a key.
pub(super) fn filled(
    endpoint: &str,
    arguments: &[(&str, &Value)],
    environment: &Environment,
) -> Result<Url, String> {
    let mut address = String::with_capacity(endpoint.len());
    let mut rest = endpoint;
    while let Some((before, after)) = rest.split_once("${") {
        address.push_str(before);
        let Some((expression, after)) = after.split_once('}') else {
            return Err("the endpoint has a `${` without its `}`".to_owned());
        };
        address.push_str(&value(expression.trim(), arguments, environment, &address)?);
        rest = after;
    }
    address.push_str(rest);
    let url = Url::parse(&address).map_err(|error| format!("the endpoint is no address: {error}"))?;
    if matches!(url.scheme(), "http" | "https") {
        Ok(url)
    } else {
        Err("the endpoint is not http or https".to_owned())
    }
}

/// What stands in place of an expression.
fn value(
    expression: &str,
    arguments: &[(&str, &Value)],
    environment: &Environment,
    before: &str,
) -> Result<String, String> {
    if let Some(name) = expression.strip_prefix("env.") {
        return Ok(environment.variable(name).unwrap_or_default().to_owned());
    }
    let inner = expression.strip_prefix("encodeURIComponent(").and_then(|inner| inner.strip_suffix(')'));
    let name = inner.unwrap_or(expression).trim();
    let argument = arguments.iter().find(|(given, _)| *given == name);
    let Some(text) = argument.map(|(_, value)| text_of(value)) else {
        // An optional argument that is not given; anything else that is no name is JavaScript, which nothing here runs.
        let named = !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || c == '_');
        return if named { Ok(String::new()) } else { Err(format!("cannot evaluate `${{{expression}}}`")) };
    };
    if before.is_empty() {
        // The file leaves the whole address to the caller.
        return Ok(text);
    }
    let in_path = inner.is_none() && !before.contains(['?', '#']);
    Ok(encoded(&text, in_path))
}

/// Percent-encoded; a path keeps its slashes, but no step upwards.
pub(in crate::toolset) fn encoded(text: &str, in_path: bool) -> String {
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
    if in_path && encoded.split('/').any(|piece| matches!(piece, "." | "..")) {
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
    fn arguments_stay_in_their_place() {
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
            ("https://x.org/?k=${env.KEY}&n=${env.NONE}&o=${absent}", "https://x.org/?k=k/1&n=&o="),
            ("https://x.org/${ encodeURIComponent(up) }", "https://x.org/x%2F..%2F..%2Fadmin"),
            ("https://x.org${odd}", "https://x.orga%26b%3Dc%23d/"),
        ] {
            let filled = filled(endpoint, &arguments, &environment);
            match filled {
                Ok(url) => assert_eq!(url.as_str(), expected, "{endpoint}"),
                Err(wrong) => assert!(wrong.starts_with("the endpoint is no address"), "{endpoint}: {wrong}"),
            }
        }
        for (endpoint, expected) in [
            ("https://x.org/${city", "the endpoint has a `${` without its `}`"),
            ("https://x.org/${city.length}", "cannot evaluate `${city.length}`"),
            ("file:///${city}", "the endpoint is not http or https"),
            ("${city}", "the endpoint is no address: relative URL without a base"),
        ] {
            assert_eq!(filled(endpoint, &arguments, &environment).unwrap_err(), expected);
        }
    }
}
