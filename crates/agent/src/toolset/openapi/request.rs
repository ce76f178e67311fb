//! A call of an operation: its address and headers with the arguments put in. Pure.

use reqwest::Url;
use reqwest::header::HeaderMap;
use reqwest::header::HeaderName;
use reqwest::header::HeaderValue;
use serde_json::Value;

use super::description::Operation;
use super::description::Parameter;
use super::description::Place;
use crate::tool::text_of;
use crate::toolset::api::encoded;

/// An argument as its parameter takes it.
type Given<'a> = (&'a str, &'a Value);

/// The arguments that go to one place.
fn at<'a>(
    operation: &'a Operation,
    given: &'a [Given<'a>],
    place: Place,
) -> impl Iterator<Item = (&'a Parameter, &'a Value)> {
    let of = move |parameter: &'a Parameter| {
        let value = given.iter().find(|(name, _)| *name == parameter.argument)?.1;
        Some((parameter, value))
    };
    operation.parameters.iter().filter(move |one| one.place == place).filter_map(of)
}

/// The address. An argument stays in the place where it stands: none is a step upwards or another path.
///
/// # Errors
///
/// Which argument cannot be in a path.
pub(super) fn address(operation: &Operation, given: &[Given<'_>]) -> Result<Url, String> {
    let mut path = operation.path.clone();
    for (parameter, value) in at(operation, given, Place::Path) {
        let text = encoded(&joined(value), false);
        if text.is_empty() {
            return Err(format!("`{}` is empty", parameter.argument));
        }
        path = path.replace(&format!("{{{}}}", parameter.name), &text);
    }
    if path.split('/').any(|piece| matches!(piece, "." | "..")) {
        return Err("a piece of the path would be `.` or `..`".to_owned());
    }
    let mut url = Url::parse(&format!("{}{path}", operation.base)).map_err(|error| error.to_string())?;
    let pairs: Vec<(String, String)> =
        at(operation, given, Place::Query).flat_map(|(parameter, value)| pairs(parameter, value)).collect();
    if !pairs.is_empty() {
        url.query_pairs_mut().extend_pairs(pairs);
    }
    Ok(url)
}

/// The headers that are arguments.
///
/// # Errors
///
/// Which of them cannot be sent.
pub(super) fn headers(operation: &Operation, given: &[Given<'_>]) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    for (parameter, value) in at(operation, given, Place::Header) {
        let wrong = || format!("`{}` cannot be sent as a header", parameter.argument);
        let name = HeaderName::try_from(&parameter.name).map_err(|_| wrong())?;
        headers.insert(name, HeaderValue::try_from(joined(value)).map_err(|_| wrong())?);
    }
    Ok(headers)
}

/// A value as one text: a list with commas.
fn joined(value: &Value) -> String {
    match value {
        Value::Array(values) => values.iter().map(text_of).collect::<Vec<_>>().join(","),
        other => text_of(other),
    }
}

/// A value as the query has it.
fn pairs(parameter: &Parameter, value: &Value) -> Vec<(String, String)> {
    let name = &parameter.name;
    match value {
        Value::Array(values) if parameter.explode => {
            values.iter().map(|value| (name.clone(), text_of(value))).collect()
        }
        Value::Object(fields) if parameter.deep => {
            fields.iter().map(|(field, value)| (format!("{name}[{field}]"), text_of(value))).collect()
        }
        Value::Object(fields) if parameter.explode => {
            fields.iter().map(|(field, value)| (field.clone(), text_of(value))).collect()
        }
        other => vec![(name.clone(), joined(other))],
    }
}
