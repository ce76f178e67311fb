//! Reads the operations of an OpenAPI document, with references resolved. Pure.

use std::cell::Cell;
use std::collections::BTreeSet;

use reqwest::Method;
use reqwest::Url;
use serde_json::Map;
use serde_json::Value;
use serde_json::json;

use crate::toolset::http::is_http;
use crate::toolset::schema::provider_safe_name;

/// The depth to which references within references are resolved. Recursive schemas never end; below this, any value is
/// accepted.
const MAX_REFERENCE_DEPTH: usize = 8;
/// The most values in the schemas of one operation, which bounds what a model reads of it. Beyond it, any value is
/// accepted.
const MAX_SCHEMA_VALUES: usize = 2_000;
/// The methods of OpenAPI 3 that can be called. `trace` is left out: it only echoes the request.
const METHODS: [(&str, Method); 7] = [
    ("get", Method::GET),
    ("put", Method::PUT),
    ("post", Method::POST),
    ("delete", Method::DELETE),
    ("options", Method::OPTIONS),
    ("head", Method::HEAD),
    ("patch", Method::PATCH),
];
/// Header parameters that OpenAPI tells clients to ignore: they are set by the content and by security schemes.
const RESERVED_HEADERS: [&str; 3] = ["accept", "content-type", "authorization"];

/// Where in the request a parameter is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Location {
    Path,
    Query,
    Header,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Parameter {
    /// The name of the tool's argument.
    pub(super) argument: String,
    /// The name in the request.
    pub(super) name: String,
    pub(super) location: Location,
    /// Whether each item of a list is sent as a pair of its own.
    pub(super) explode: bool,
    /// Whether the fields of an object are sent as `name[field]`.
    pub(super) deep: bool,
    required: bool,
    schema: Value,
}

/// One operation: a method of a path.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Operation {
    /// The name of the tool.
    pub(super) name: String,
    pub(super) description: String,
    pub(super) method: Method,
    /// The server's URL, to which `path` is appended. Without a trailing slash.
    pub(super) base: String,
    /// With its `{name}` placeholders.
    pub(super) path: String,
    pub(super) parameters: Vec<Parameter>,
    /// The argument that is sent as the body, if the operation takes one.
    pub(super) body: Option<String>,
    /// The JSON schema of the arguments.
    pub(super) schema: Value,
}

/// The operations of a document that was read from `url`, and a warning for each that cannot be called.
///
/// # Errors
///
/// The document is not OpenAPI 3.
pub(super) fn operations(document: &Value, url: &Url) -> Result<(Vec<Operation>, Vec<String>), String> {
    match document["openapi"].as_str() {
        Some(version) if version.starts_with("3.") => {}
        Some(version) => return Err(format!("OpenAPI {version} is not supported, only 3.x")),
        None => return Err("it is not an OpenAPI 3 document: it has no `openapi`".to_owned()),
    }
    let (mut found, mut warnings) = (Vec::new(), Vec::new());
    for (path, item) in document["paths"].as_object().into_iter().flatten() {
        for (word, method) in METHODS {
            let reader = Reader { document, values_left: Cell::new(MAX_SCHEMA_VALUES) };
            let read = reader.resolved(item).and_then(|item| {
                let Some(operation) = item.get(word) else { return Ok(None) };
                reader.operation(operation, item, (method, path), url).map(Some)
            });
            match read {
                Ok(operation) => found.extend(operation),
                Err(reason) => warnings.push(format!("{} {path} skipped: {reason}", word.to_uppercase())),
            }
        }
    }
    Ok((found, warnings))
}

/// Reads one operation. Each gets a reader of its own, because the limit on values is per operation.
struct Reader<'a> {
    document: &'a Value,
    /// How many values the operation's schemas may still have.
    values_left: Cell<usize>,
}

impl<'a> Reader<'a> {
    fn operation(
        &self,
        operation: &'a Value,
        path_item: &'a Value,
        (method, path): (Method, &str),
        document_url: &Url,
    ) -> Result<Operation, String> {
        let mut parameters: Vec<Parameter> = Vec::new();
        // Parameters of the operation override those of its path.
        for list in [operation, path_item] {
            for parameter in list["parameters"].as_array().into_iter().flatten() {
                let read = self.parameter(self.resolved(parameter)?)?;
                let is_new = |read: &Parameter| {
                    !parameters.iter().any(|known| known.name == read.name && known.location == read.location)
                };
                parameters.extend(read.filter(is_new));
            }
        }
        disambiguate(&mut parameters)?;
        for name in path.split('{').skip(1).filter_map(|rest| rest.split_once('}')).map(|(name, _)| name) {
            let is_this = |known: &Parameter| known.location == Location::Path && known.name == name;
            if !parameters.iter().any(is_this) {
                return Err(format!("its path needs `{name}`, which is not a parameter"));
            }
        }
        let body = self.body(operation, &parameters)?;
        let id = operation["operationId"].as_str().filter(|id| !id.is_empty());
        let name = id.map_or_else(
            || format!("{method}_{}", path.trim_matches('/').replace(['{', '}'], "")).to_lowercase(),
            str::to_owned,
        );
        let texts: Vec<&str> =
            ["summary", "description"].iter().filter_map(|key| operation[key].as_str()).collect();
        let mut description = texts.join("\n\n");
        if description.is_empty() {
            description = format!("Calls {method} {path}");
        }
        Ok(Operation {
            name: provider_safe_name(&name),
            description,
            base: base([operation, path_item, self.document], document_url)?,
            method,
            path: path.to_owned(),
            schema: schema(&parameters, body.as_ref()),
            parameters,
            body: body.map(|(argument, ..)| argument),
        })
    }

    /// Reads a parameter; `None` for one that must not or need not be sent.
    fn parameter(&self, parameter: &'a Value) -> Result<Option<Parameter>, String> {
        let name = parameter["name"].as_str().ok_or("a parameter has no name")?.to_owned();
        let required = parameter["required"] == true;
        let location = match parameter["in"].as_str() {
            Some("path") => Location::Path,
            Some("query") => Location::Query,
            Some("header") if RESERVED_HEADERS.contains(&name.to_lowercase().as_str()) => return Ok(None),
            Some("header") => Location::Header,
            Some("cookie") if !required => return Ok(None),
            _ => return Err(format!("its parameter `{name}` is not in the path, the query or a header")),
        };
        let in_content = parameter["content"].as_object().and_then(|content| content.values().next());
        let schema = in_content.map_or(&parameter["schema"], |media| &media["schema"]);
        let mut schema = self.inlined(schema, 0)?;
        describe(&mut schema, parameter["description"].as_str(), &format!("The parameter {name}"));
        let deep = parameter["style"] == "deepObject";
        let explode = parameter["explode"].as_bool().unwrap_or(location == Location::Query);
        Ok(Some(Parameter {
            argument: provider_safe_name(&name),
            explode: explode && in_content.is_none(),
            required: required || location == Location::Path,
            name,
            location,
            deep,
            schema,
        }))
    }

    /// The name of the argument for a JSON body, whether it is required, and its schema. `None` if the operation takes
    /// no body, or an optional one that is not JSON.
    fn body(
        &self,
        operation: &'a Value,
        others: &[Parameter],
    ) -> Result<Option<(String, bool, Value)>, String> {
        let Some(body) = operation.get("requestBody") else { return Ok(None) };
        let body = self.resolved(body)?;
        let required = body["required"] == true;
        let is_json = |kind: &str| {
            let kind = kind.split(';').next().unwrap_or_default().trim();
            kind == "application/json" || kind.ends_with("+json") || kind == "*/*"
        };
        let media = body["content"].as_object().into_iter().flatten().find(|(kind, _)| is_json(kind));
        let Some((_, media)) = media else {
            return if required { Err("its body is not JSON".to_owned()) } else { Ok(None) };
        };
        let mut schema = self.inlined(&media["schema"], 0)?;
        describe(&mut schema, body["description"].as_str(), "The body of the call");
        let is_taken = others.iter().any(|parameter| parameter.argument == "body");
        Ok(Some((if is_taken { "request_body" } else { "body" }.to_owned(), required, schema)))
    }

    /// Follows the references of a value to what it refers to; a value without one is returned as it is.
    fn resolved(&self, mut value: &'a Value) -> Result<&'a Value, String> {
        for _ in 0..MAX_REFERENCE_DEPTH {
            let Some(reference) = value.get("$ref").and_then(Value::as_str) else { return Ok(value) };
            let pointer = reference.strip_prefix('#').ok_or("it refers to another document")?;
            value = self
                .document
                .pointer(pointer)
                .ok_or_else(|| format!("its reference `{reference}` leads nowhere"))?;
        }
        Err("its references are nested too deeply".to_owned())
    }

    /// A copy of a schema with its references replaced by what they refer to, within the two limits.
    fn inlined(&self, value: &'a Value, depth: usize) -> Result<Value, String> {
        let values_left = self.values_left.get().checked_sub(1).filter(|_| depth < MAX_REFERENCE_DEPTH);
        let Some(values_left) = values_left else { return Ok(json!({})) };
        self.values_left.set(values_left);
        if value.get("$ref").is_some_and(Value::is_string) {
            return self.inlined(self.resolved(value)?, depth + 1);
        }
        Ok(match value {
            Value::Object(fields) => {
                let each = fields.iter().map(|(key, value)| Ok((key.clone(), self.inlined(value, depth)?)));
                Value::Object(each.collect::<Result<Map<_, _>, String>>()?)
            }
            Value::Array(values) => {
                let each = values.iter().map(|value| self.inlined(value, depth));
                Value::Array(each.collect::<Result<_, _>>()?)
            }
            Value::Null => json!({}),
            plain => plain.clone(),
        })
    }
}

/// Prefixes the location to arguments whose parameters share a name, such as `path_id`.
fn disambiguate(parameters: &mut [Parameter]) -> Result<(), String> {
    let mut seen = BTreeSet::new();
    for parameter in parameters {
        let Parameter { argument, name, location, .. } = parameter;
        if seen.contains(argument) {
            *argument = provider_safe_name(&format!("{location:?}_{argument}").to_lowercase());
        }
        if !seen.insert(argument.clone()) {
            return Err(format!("it has several parameters `{name}`"));
        }
    }
    Ok(())
}

/// Sets the description of a schema: the given one, else the schema's own, else `default`.
fn describe(schema: &mut Value, description: Option<&str>, default: &str) {
    if !schema.is_object() {
        *schema = json!({});
    }
    match description.filter(|text| !text.is_empty()) {
        Some(text) => schema["description"] = json!(text),
        None if schema["description"].is_string() => {}
        None => schema["description"] = json!(default),
    }
}

/// The schema of all arguments.
fn schema(parameters: &[Parameter], body: Option<&(String, bool, Value)>) -> Value {
    let declared =
        parameters.iter().map(|parameter| (&parameter.argument, parameter.required, &parameter.schema));
    let all: Vec<_> =
        declared.chain(body.map(|(name, required, schema)| (name, *required, schema))).collect();
    let properties: Map<String, Value> =
        all.iter().map(|(name, _, schema)| ((*name).clone(), (*schema).clone())).collect();
    let required: Vec<&String> =
        all.iter().filter(|(_, required, _)| *required).map(|(name, ..)| *name).collect();
    json!({"type": "object", "properties": properties, "required": required, "additionalProperties": false})
}

/// The URL of the first server in the innermost list of servers, else of the document's own host. A relative one is
/// resolved against the document's.
fn base(scopes: [&Value; 3], document_url: &Url) -> Result<String, String> {
    let server = scopes.iter().find_map(|scope| scope["servers"].as_array()?.first());
    let mut template = server.and_then(|server| server["url"].as_str()).unwrap_or("/").to_owned();
    for (name, variable) in server.and_then(|server| server["variables"].as_object()).into_iter().flatten() {
        template = template.replace(&format!("{{{name}}}"), variable["default"].as_str().unwrap_or_default());
    }
    let mut url = document_url.join(&template).map_err(|_| "its server's URL is not valid")?;
    if !is_http(&url) {
        return Err("its server is not http or https".to_owned());
    }
    url.set_query(None);
    url.set_fragment(None);
    Ok(url.as_str().trim_end_matches('/').to_owned())
}
