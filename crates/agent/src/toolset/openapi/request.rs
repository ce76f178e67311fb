//! The request of one call: the URL and headers of an operation with the arguments filled in. Pure.

use reqwest::Url;
use reqwest::header::HeaderMap;
use reqwest::header::HeaderName;
use reqwest::header::HeaderValue;
use serde_json::Value;

use super::document::Location;
use super::document::Operation;
use super::document::Parameter;
use crate::tool::text_of;
use crate::toolset::api::percent_encoded;

/// The name and value of an argument.
type Argument<'a> = (&'a str, &'a Value);

/// The arguments that belong in one location, each with its parameter.
fn at<'a>(
    operation: &'a Operation,
    arguments: &'a [Argument<'a>],
    location: Location,
) -> impl Iterator<Item = (&'a Parameter, &'a Value)> {
    let with_value = move |parameter: &'a Parameter| {
        let value = arguments.iter().find(|(name, _)| *name == parameter.argument)?.1;
        Some((parameter, value))
    };
    operation.parameters.iter().filter(move |parameter| parameter.location == location).filter_map(with_value)
}

/// The URL. Arguments are encoded, so that none of them can lead to another path or host.
///
/// # Errors
///
/// A path argument is empty, or the path would contain a `.` or `..` segment.
pub(super) fn url(operation: &Operation, arguments: &[Argument<'_>]) -> Result<Url, String> {
    let mut path = operation.path.clone();
    for (parameter, value) in at(operation, arguments, Location::Path) {
        let text = percent_encoded(&joined(value), false);
        if text.is_empty() {
            return Err(format!("`{}` is empty", parameter.argument));
        }
        path = path.replace(&format!("{{{}}}", parameter.name), &text);
    }
    if path.split('/').any(|segment| matches!(segment, "." | "..")) {
        return Err("a segment of the path would be `.` or `..`".to_owned());
    }
    let mut url = Url::parse(&format!("{}{path}", operation.base)).map_err(|error| error.to_string())?;
    let pairs: Vec<(String, String)> = at(operation, arguments, Location::Query)
        .flat_map(|(parameter, value)| pairs(parameter, value))
        .collect();
    if !pairs.is_empty() {
        url.query_pairs_mut().extend_pairs(pairs);
    }
    Ok(url)
}

/// The headers that are parameters of the operation.
///
/// # Errors
///
/// The argument that HTTP does not allow as a header.
pub(super) fn headers(operation: &Operation, arguments: &[Argument<'_>]) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    for (parameter, value) in at(operation, arguments, Location::Header) {
        let invalid = || format!("`{}` is not valid in a header", parameter.argument);
        let name = HeaderName::try_from(&parameter.name).map_err(|_| invalid())?;
        headers.insert(name, HeaderValue::try_from(joined(value)).map_err(|_| invalid())?);
    }
    Ok(headers)
}

/// A value as one text; the items of a list are separated by commas.
fn joined(value: &Value) -> String {
    match value {
        Value::Array(values) => values.iter().map(text_of).collect::<Vec<_>>().join(","),
        other => text_of(other),
    }
}

/// A value as pairs of the query, in the style of its parameter.
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
