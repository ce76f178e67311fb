//! What an OpenAPI description offers: its operations, with their references put in. Pure.

use std::cell::Cell;
use std::collections::BTreeSet;

use reqwest::Method;
use reqwest::Url;
use serde_json::Map;
use serde_json::Value;
use serde_json::json;

use crate::toolset::schema::fitted;

/// References within references are put in this deep; what is deeper may be anything.
const REFERENCES: usize = 8;
/// The most values of an operation's schemas; what is beyond may be anything.
const VALUES: usize = 2_000;
/// The methods that a path may have operations for.
const METHODS: [(&str, Method); 7] = [
    ("get", Method::GET),
    ("put", Method::PUT),
    ("post", Method::POST),
    ("delete", Method::DELETE),
    ("options", Method::OPTIONS),
    ("head", Method::HEAD),
    ("patch", Method::PATCH),
];
/// Parameters in headers that are not the caller's to choose.
const NOT_OURS: [&str; 3] = ["accept", "content-type", "authorization"];

/// Where a parameter goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Path,
    Query,
    Header,
}

/// One parameter of an operation.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Parameter {
    /// What the tool calls it.
    pub(super) argument: String,
    /// What the API calls it.
    pub(super) name: String,
    pub(super) place: Place,
    /// Whether each value of a list stands for itself.
    pub(super) explode: bool,
    /// Whether an object's fields are written `name[field]`.
    pub(super) deep: bool,
    required: bool,
    schema: Value,
}

/// One operation.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Operation {
    pub(super) name: String,
    pub(super) about: String,
    pub(super) method: Method,
    /// The address that `path` is added to, without a slash at its end.
    pub(super) base: String,
    pub(super) path: String,
    pub(super) parameters: Vec<Parameter>,
    /// The argument that is the body, if it takes one.
    pub(super) body: Option<String>,
    /// The JSON schema of the arguments.
    pub(super) schema: Value,
}

/// The operations of a description that was read from `address`, and why others cannot be called.
///
/// # Errors
///
/// That it is no description of OpenAPI 3.
pub(super) fn operations(document: &Value, address: &Url) -> Result<(Vec<Operation>, Vec<String>), String> {
    match document["openapi"].as_str() {
        Some(version) if version.starts_with("3.") => {}
        Some(version) => return Err(format!("OpenAPI {version} is not supported: 3.x is")),
        None => return Err("it is no OpenAPI 3 description: it has no `openapi`".to_owned()),
    }
    let (mut found, mut unusable) = (Vec::new(), Vec::new());
    for (path, item) in document["paths"].as_object().into_iter().flatten() {
        for (word, method) in METHODS {
            let reader = Reader { document, left: Cell::new(VALUES) };
            let read = reader.target(item).and_then(|item| {
                let Some(written) = item.get(word) else { return Ok(None) };
                reader.operation(written, item, (method, path), address).map(Some)
            });
            match read {
                Ok(operation) => found.extend(operation),
                Err(why) => unusable.push(format!("{} {path} left out: {why}", word.to_uppercase())),
            }
        }
    }
    unusable.dedup();
    Ok((found, unusable))
}

/// Reads one operation.
struct Reader<'a> {
    document: &'a Value,
    /// How many values its schemas may still have.
    left: Cell<usize>,
}

impl<'a> Reader<'a> {
    fn operation(
        &self,
        written: &'a Value,
        item: &'a Value,
        (method, path): (Method, &str),
        address: &Url,
    ) -> Result<Operation, String> {
        let mut parameters: Vec<Parameter> = Vec::new();
        // What the operation says goes before what its path says.
        for list in [written, item] {
            for parameter in list["parameters"].as_array().into_iter().flatten() {
                let read = self.parameter(self.target(parameter)?)?;
                let new = |read: &Parameter| {
                    !parameters.iter().any(|one| one.name == read.name && one.place == read.place)
                };
                parameters.extend(read.filter(new));
            }
        }
        told_apart(&mut parameters)?;
        for name in path.split('{').skip(1).filter_map(|rest| rest.split_once('}')).map(|(name, _)| name) {
            if !parameters.iter().any(|one| one.place == Place::Path && one.name == name) {
                return Err(format!("its path needs `{name}`, which is no parameter"));
            }
        }
        let body = self.body(written, &parameters)?;
        let named = written["operationId"].as_str().filter(|id| !id.is_empty());
        let name = named.map_or_else(
            || format!("{method}_{}", path.trim_matches('/').replace(['{', '}'], "")).to_lowercase(),
            str::to_owned,
        );
        let texts: Vec<&str> =
            ["summary", "description"].iter().filter_map(|key| written[key].as_str()).collect();
        let mut about = texts.join("\n\n");
        if about.is_empty() {
            about = format!("Calls {method} {path}");
        }
        Ok(Operation {
            name: fitted(&name),
            about,
            base: base([written, item, self.document], address)?,
            method,
            path: path.to_owned(),
            schema: schema(&parameters, body.as_ref()),
            parameters,
            body: body.map(|(argument, ..)| argument),
        })
    }

    /// A parameter; none where it is not for us to give.
    fn parameter(&self, written: &'a Value) -> Result<Option<Parameter>, String> {
        let name = written["name"].as_str().ok_or("a parameter has no name")?.to_owned();
        let required = written["required"] == true;
        let place = match written["in"].as_str() {
            Some("path") => Place::Path,
            Some("query") => Place::Query,
            Some("header") if NOT_OURS.contains(&name.to_lowercase().as_str()) => return Ok(None),
            Some("header") => Place::Header,
            Some("cookie") if !required => return Ok(None),
            _ => return Err(format!("its parameter `{name}` is not in the path, the query or a header")),
        };
        let in_content = written["content"].as_object().and_then(|content| content.values().next());
        let mut schema = self.resolved(in_content.map_or(&written["schema"], |media| &media["schema"]), 0)?;
        describe(&mut schema, written["description"].as_str(), &format!("The parameter {name}"));
        let deep = written["style"] == "deepObject";
        Ok(Some(Parameter {
            argument: fitted(&name),
            explode: written["explode"].as_bool().unwrap_or(place == Place::Query) && in_content.is_none(),
            required: required || place == Place::Path,
            name,
            place,
            deep,
            schema,
        }))
    }

    /// The argument for a JSON body, whether it must be there, and its schema.
    fn body(
        &self,
        written: &'a Value,
        others: &[Parameter],
    ) -> Result<Option<(String, bool, Value)>, String> {
        let Some(body) = written.get("requestBody") else { return Ok(None) };
        let body = self.target(body)?;
        let required = body["required"] == true;
        let is_json = |kind: &str| {
            let kind = kind.split(';').next().unwrap_or_default().trim();
            kind == "application/json" || kind.ends_with("+json") || kind == "*/*"
        };
        let media = body["content"].as_object().into_iter().flatten().find(|(kind, _)| is_json(kind));
        let Some((_, media)) = media else {
            return if required { Err("its body is not JSON".to_owned()) } else { Ok(None) };
        };
        let mut schema = self.resolved(&media["schema"], 0)?;
        describe(&mut schema, body["description"].as_str(), "The body of the call");
        let taken = others.iter().any(|one| one.argument == "body");
        Ok(Some((if taken { "request_body" } else { "body" }.to_owned(), required, schema)))
    }

    /// What a value is or refers to.
    fn target(&self, mut value: &'a Value) -> Result<&'a Value, String> {
        for _ in 0..REFERENCES {
            let Some(reference) = value.get("$ref").and_then(Value::as_str) else { return Ok(value) };
            let pointer = reference.strip_prefix('#').ok_or("it refers to another document")?;
            value = self.document.pointer(pointer).ok_or_else(|| format!("nothing is at `{reference}`"))?;
        }
        Err("its references go too deep".to_owned())
    }

    /// A schema with its references put in, as deep as the limits let it.
    fn resolved(&self, value: &'a Value, depth: usize) -> Result<Value, String> {
        let Some(left) = self.left.get().checked_sub(1).filter(|_| depth < REFERENCES) else {
            return Ok(json!({}));
        };
        self.left.set(left);
        if value.get("$ref").is_some_and(Value::is_string) {
            return self.resolved(self.target(value)?, depth + 1);
        }
        Ok(match value {
            Value::Object(fields) => {
                let each = fields.iter().map(|(key, value)| Ok((key.clone(), self.resolved(value, depth)?)));
                Value::Object(each.collect::<Result<Map<_, _>, String>>()?)
            }
            Value::Array(values) => {
                let each = values.iter().map(|value| self.resolved(value, depth));
                Value::Array(each.collect::<Result<_, _>>()?)
            }
            Value::Null => json!({}),
            plain => plain.clone(),
        })
    }
}

/// Gives parameters of one name in several places names that say where.
fn told_apart(parameters: &mut [Parameter]) -> Result<(), String> {
    let mut seen = BTreeSet::new();
    for one in parameters {
        if seen.contains(&one.argument) {
            one.argument = fitted(&format!("{:?}_{}", one.place, one.argument).to_lowercase());
        }
        if !seen.insert(one.argument.clone()) {
            return Err(format!("it has several parameters `{}`", one.name));
        }
    }
    Ok(())
}

fn describe(schema: &mut Value, about: Option<&str>, otherwise: &str) {
    if !schema.is_object() {
        *schema = json!({});
    }
    match about.filter(|about| !about.is_empty()) {
        Some(about) => schema["description"] = json!(about),
        None if schema["description"].is_string() => {}
        None => schema["description"] = json!(otherwise),
    }
}

fn schema(parameters: &[Parameter], body: Option<&(String, bool, Value)>) -> Value {
    let each = parameters.iter().map(|one| (&one.argument, one.required, &one.schema));
    let all: Vec<_> = each.chain(body.map(|(name, required, schema)| (name, *required, schema))).collect();
    let properties: Map<String, Value> =
        all.iter().map(|(name, _, schema)| ((*name).clone(), (*schema).clone())).collect();
    let required: Vec<&String> =
        all.iter().filter(|(_, required, _)| *required).map(|(name, ..)| *name).collect();
    json!({"type": "object", "properties": properties, "required": required, "additionalProperties": false})
}

/// The address of the first server that is named, the nearest first; without one the description's own host.
fn base(homes: [&Value; 3], address: &Url) -> Result<String, String> {
    let server = homes.iter().find_map(|home| home["servers"].as_array()?.first());
    let mut written = server.and_then(|server| server["url"].as_str()).unwrap_or("/").to_owned();
    for (name, variable) in server.and_then(|server| server["variables"].as_object()).into_iter().flatten() {
        written = written.replace(&format!("{{{name}}}"), variable["default"].as_str().unwrap_or_default());
    }
    let mut url = address.join(&written).map_err(|_| "its server has no address that can be used")?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err("its server is not http or https".to_owned());
    }
    url.set_query(None);
    url.set_fragment(None);
    Ok(url.as_str().trim_end_matches('/').to_owned())
}
