//! The OpenAPI 3.1 document: made of the routes, of the schema of a job, and of a file of the other schemas.

use serde_json::Map;
use serde_json::Value;
use serde_json::json;

use crate::routes::Route;
use crate::routes::routes;

/// The schema of a job, the same file that users read.
const JOB: &str = include_str!("../../../docs/job.schema.json");
/// What each operation takes and answers, by its name; and the schemas of these.
const OPERATIONS: &str = include_str!("openapi.json");

/// The document.
pub fn document() -> Value {
    let mut operations = parsed(OPERATIONS);
    let mut schemas = operations.remove("schemas").unwrap_or_default();
    if let Some(schemas) = schemas.as_object_mut() {
        schemas.extend(job_schemas());
    }
    let mut paths: Map<String, Value> = Map::new();
    for route in routes() {
        let details = operations.get(route.operation).cloned().unwrap_or_default();
        let path = paths.entry(route.path).or_insert_with(|| json!({}));
        path[route.method] = operation(&route, &details);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Legwork",
            "summary": "Dispatch, follow and operate background agents",
            "version": env!("CARGO_PKG_VERSION"),
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    })
}

/// A file of this program as an object; a test reads each of them.
fn parsed(text: &str) -> Map<String, Value> {
    serde_json::from_str(text).unwrap_or_default()
}

/// One operation: what its route says, and its details.
fn operation(route: &Route, details: &Value) -> Value {
    let mut parameters: Vec<Value> = path_parameters(route.path);
    parameters.extend(details["parameters"].as_array().into_iter().flatten().cloned());
    let status = details["status"].as_str().unwrap_or("200");
    let kind = details["content"].as_str().unwrap_or("application/json");
    let schema =
        if details["answer"].is_null() { json!({"type": "string"}) } else { details["answer"].clone() };
    let mut responses = json!({
        status: {
            "description": details["description"].as_str().unwrap_or(route.summary),
            "content": {kind: {"schema": schema}},
        },
        "default": {
            "description": "What went wrong",
            "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
        },
    });
    for (status, description) in details["also"].as_object().into_iter().flatten() {
        responses[status] = json!({"description": description});
    }
    let mut operation = json!({
        "operationId": route.operation,
        "summary": route.summary,
        "responses": responses,
    });
    if !parameters.is_empty() {
        operation["parameters"] = Value::Array(parameters);
    }
    if !details["body"].is_null() {
        operation["requestBody"] =
            json!({"required": true, "content": {"application/json": {"schema": details["body"]}}});
    }
    if !route.any_of.is_empty() {
        let roles: Vec<&str> = route.any_of.iter().map(|role| role.as_str()).collect();
        operation["security"] = json!([{"token": []}]);
        operation["description"] = json!(format!("Needs the role {}.", roles.join(" or ")));
    }
    operation
}

fn path_parameters(path: &str) -> Vec<Value> {
    let names = path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    names
        .map(|name| json!({"name": name, "in": "path", "required": true, "schema": {"type": "string"}}))
        .collect()
}

/// The schemas of a job: its own as `Job`, and its parts as `Job_…`.
fn job_schemas() -> Map<String, Value> {
    let mut job = parsed(JOB);
    let parts = job.remove("$defs").unwrap_or_default();
    job.remove("$schema");
    let mut schemas: Map<String, Value> = Map::new();
    for (name, mut part) in parts.as_object().cloned().unwrap_or_default() {
        relocate(&mut part);
        schemas.insert(format!("Job_{name}"), part);
    }
    let mut job = Value::Object(job);
    relocate(&mut job);
    schemas.insert("Job".to_owned(), job);
    schemas
}

/// Points references to the parts of a job to their place in the document.
fn relocate(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            if let Some(Value::String(reference)) = fields.get_mut("$ref") {
                *reference = reference.replace("#/$defs/", "#/components/schemas/Job_");
            }
            fields.values_mut().for_each(relocate);
        }
        Value::Array(items) => items.iter_mut().for_each(relocate),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use sha2::Digest as _;
    use sha2::Sha256;

    use super::*;

    const CLIENTS: &str = include_str!("../../../clients/openapi.json");
    const CHECKSUMS: &str = include_str!("../../../clients/checksums.txt");
    const PYTHON: &str = include_str!("../../../clients/python/src/legwork_client/models.py");
    const PYTHON_CLIENT: &str = include_str!("../../../clients/python/src/legwork_client/client.py");
    const TYPESCRIPT: &str = include_str!("../../../clients/typescript/src/schema.d.ts");

    #[test]
    fn the_clients_are_generated_from_this_document() {
        let generate = "run scripts/generate-clients";
        assert_eq!(Value::Object(parsed(CLIENTS)), document(), "{generate}");
        let hex =
            |text: &str| Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let expected = format!(
            "{}  openapi.json\n{}  python/src/legwork_client/models.py\n{}  typescript/src/schema.d.ts\n",
            hex(CLIENTS),
            hex(PYTHON),
            hex(TYPESCRIPT)
        );
        assert_eq!(CHECKSUMS, expected, "{generate}");
    }

    #[test]
    fn the_python_client_has_a_method_for_each_operation() {
        // What monitoring reads, what `stream` stands for, and what the page follows.
        let others = ["document", "healthy", "ready", "metrics", "events", "listEvents", "statsEvents"];
        let snake = |name: &str| -> String {
            name.chars()
                .flat_map(|c| {
                    c.is_ascii_uppercase().then_some('_').into_iter().chain([c.to_ascii_lowercase()])
                })
                .collect()
        };
        let missing: Vec<String> = routes()
            .iter()
            .filter(|route| !others.contains(&route.operation))
            .map(|route| format!("    def {}(", snake(route.operation)))
            .filter(|method| !PYTHON_CLIENT.contains(method.as_str()))
            .collect();
        assert!(missing.is_empty(), "client.py: {missing:?}");
    }

    #[test]
    fn every_route_has_its_details_and_every_detail_its_route() {
        let mut details = parsed(OPERATIONS);
        details.remove("schemas").unwrap();
        let described: BTreeSet<&str> = details.keys().map(String::as_str).collect();
        let served: BTreeSet<&str> = routes().iter().map(|route| route.operation).collect();
        assert_eq!(described, served);
    }

    /// Every reference in a value.
    fn references(value: &Value, found: &mut BTreeSet<String>) {
        match value {
            Value::Object(fields) => {
                found.extend(fields.get("$ref").and_then(Value::as_str).map(str::to_owned));
                fields.values().for_each(|value| references(value, found));
            }
            Value::Array(items) => items.iter().for_each(|value| references(value, found)),
            _ => {}
        }
    }

    #[test]
    fn every_reference_leads_to_a_schema_and_every_schema_is_used() {
        let document = document();
        let mut found = BTreeSet::new();
        references(&document, &mut found);
        let schemas = document["components"]["schemas"].as_object().unwrap();
        let defined: BTreeSet<String> =
            schemas.keys().map(|name| format!("#/components/schemas/{name}")).collect();
        assert_eq!(found, defined);
    }

    #[test]
    fn the_document() {
        let document = document();
        let mut lines: Vec<(String, String, String)> = document["paths"]
            .as_object()
            .unwrap()
            .iter()
            .flat_map(|(path, operations)| {
                operations.as_object().unwrap().iter().map(move |(method, operation)| {
                    let role = operation["description"].as_str().unwrap_or("Open to all.");
                    let summary = operation["summary"].as_str().unwrap();
                    (path.clone(), method.clone(), format!("{method} {path}: {summary}. {role}"))
                })
            })
            .collect();
        // Features of `serde_json` that other crates ask for decide whether an object keeps its order.
        lines.sort();
        let lines: Vec<&str> = lines.iter().map(|(.., line)| line.as_str()).collect();
        insta::assert_snapshot!("operations", lines.join("\n"));
    }
}
