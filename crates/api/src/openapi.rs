//! The OpenAPI 3.1 document, made from the table of operations.

use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use crate::attempts;
use crate::change_requests::AskedView;
use crate::operations::{self, Access, Operation};

/// Returns the OpenAPI 3.1 document of the management API.
pub fn openapi() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.definitions_path = "/components/schemas".into();
        settings.meta_schema = None;
    });
    let mut generator = settings.into_generator();
    let mut paths = Map::new();
    for operation in operations::all() {
        let entry = paths.entry(operation.path.to_owned()).or_insert_with(|| json!({}));
        let document = describe(&operation, &mut generator);
        if let Some(methods) = entry.as_object_mut() {
            methods.insert(operation.method.as_str().to_ascii_lowercase(), document);
        }
    }
    let mut schemas = generator.take_definitions(true);
    schemas.insert("Problem".to_owned(), problem());
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Tollgate management API",
            "version": env!("CARGO_PKG_VERSION"),
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "servers": [{ "url": "/api/v1" }],
        "security": [{ "apiToken": [] }],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "apiToken": { "type": "http", "scheme": "bearer", "bearerFormat": "tgu_…" },
                "session": { "type": "apiKey", "in": "cookie", "name": tollgate_model::session_cookies::SessionCookie::Plain.name() },
            },
        },
    })
}

fn describe(operation: &Operation, generator: &mut SchemaGenerator) -> Value {
    let mut parameters: Vec<Value> = path_parameters(operation.path)
        .map(|name| json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string" } }))
        .collect();
    parameters
        .extend(operation.query.iter().flat_map(|schema| query_parameters(&schema(generator).to_value())));
    if operation.of_the_past {
        parameters.push(json!({ "name": crate::past::AS_OF, "in": "query",
            "schema": { "type": "string", "format": "date-time" },
            "description": "Answers as of this time (RFC 3339), from the journal; needs `audit:read` besides." }));
    }
    if operation.repeatable {
        parameters.push(json!({ "name": "Idempotency-Key", "in": "header", "schema": { "type": "string", "maxLength": 255 },
            "description": "A repeated request with this key and body gets the first one's answer, for 24 hours." }));
    }
    if operation.conditional {
        parameters.push(json!({ "name": "If-Match", "in": "header", "schema": { "type": "string" },
            "description": "The ETag that was read, quotes included: 412 when the resource has changed since." }));
    }
    let mut answer = json!({ "description": if operation.answer.is_some() || !operation.streams.is_empty() { "Done." } else { "Done; no content." } });
    if let (Some(schema), Some(fields)) = (operation.answer, answer.as_object_mut()) {
        fields.insert("content".to_owned(), json!({ "application/json": { "schema": schema(generator) } }));
    }
    if let (false, Some(fields)) = (operation.streams.is_empty(), answer.as_object_mut()) {
        let text = || json!({ "schema": { "type": "string" } });
        let content = operation.streams.iter().map(|media_type| ((*media_type).to_owned(), text()));
        fields.insert("content".to_owned(), content.collect());
    }
    if let (true, Some(fields)) = (operation.tagged, answer.as_object_mut()) {
        let etag = json!({ "schema": { "type": "string" }, "description": "The revision, for `If-Match`." });
        fields.insert("headers".to_owned(), json!({ "ETag": etag }));
    }
    let mut responses = json!({ operation.status.to_string(): answer });
    if let (Some(_), Some(fields)) = (operation.file, responses.as_object_mut()) {
        fields.insert("200".to_owned(), answer);
    }
    if let (true, Some(fields)) = (operation.four_eyes, responses.as_object_mut()) {
        let schema = generator.subschema_for::<AskedView>();
        fields.insert("202".to_owned(), json!({ "description": "Asked for: the realm wants somebody else to approve it.",
            "headers": { "Location": { "schema": { "type": "string" }, "description": "The change request." } },
            "content": { "application/json": { "schema": schema } } }));
    }
    let problem = json!({ "description": "Refused.",
        "content": { "application/problem+json": { "schema": { "$ref": "#/components/schemas/Problem" } } } });
    let permission = match operation.access {
        Access::Public => "none",
        Access::SignedIn | Access::SignedInDespite(_) => "signed-in",
        Access::Needs(permission) => permission.as_str(),
    };
    let mut document = json!({
        "operationId": operation_id(operation),
        "summary": operation.summary,
        "x-permission": permission,
        "x-action": attempts::action(&operation.method, operation.path, operation.access),
        "parameters": parameters,
    });
    if let Some(fields) = responses.as_object_mut() {
        fields.insert("default".to_owned(), problem);
    }
    if let (Some(also), Some(fields)) = (operation.also, document.as_object_mut()) {
        fields.insert("x-also-permission".to_owned(), also.as_str().into());
    }
    if let Some(fields) = document.as_object_mut() {
        fields.insert("responses".to_owned(), responses);
        if operation.access == Access::Public {
            fields.insert("security".to_owned(), json!([]));
        } else {
            fields.insert("security".to_owned(), json!([{ "apiToken": [] }, { "session": [] }]));
        }
        if let Some(schema) = operation.body {
            let mut content = json!({ "application/json": { "schema": schema(generator) } });
            if let (Some(media_type), Some(types)) = (operation.file, content.as_object_mut()) {
                types.insert(media_type.to_owned(), json!({ "schema": { "type": "string" } }));
            }
            fields.insert(
                "requestBody".to_owned(),
                json!({ "required": !operation.body_optional, "content": content }),
            );
        }
    }
    document
}

fn path_parameters(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter_map(|segment| segment.strip_prefix('{')?.strip_suffix('}'))
}

fn query_parameters(schema: &Value) -> Vec<Value> {
    let properties = schema.get("properties").and_then(Value::as_object);
    properties
        .into_iter()
        .flatten()
        .map(|(name, schema)| json!({ "name": name, "in": "query", "schema": schema }))
        .collect()
}

/// Names an operation after method and path: `GET /realms/{realm}/pipelines/{name}` is `getRealmsPipelinesByName`.
fn operation_id(operation: &Operation) -> String {
    let literal = operation.path.split('/').filter(|segment| !segment.starts_with('{'));
    let parameter = path_parameters(operation.path).last().filter(|_| operation.path.ends_with('}'));
    let words =
        literal.chain(parameter.map(|_| "by")).chain(parameter).flat_map(|segment| segment.split(['-', '.']));
    words.fold(operation.method.as_str().to_ascii_lowercase(), |id, word| {
        let mut letters = word.chars();
        let first = letters.next().map(|letter| letter.to_ascii_uppercase());
        id + &first.into_iter().chain(letters).collect::<String>()
    })
}

fn problem() -> Value {
    let text = || json!({ "type": "string" });
    json!({
        "type": "object",
        "description": "Problem details (RFC 9457).",
        "required": ["type", "title", "status", "code", "detail", "requestId"],
        "properties": {
            "type": text(), "title": text(), "status": { "type": "integer" }, "code": text(), "detail": text(), "hint": text(),
            "next": {
                "type": "object",
                "description": "The step that the hint speaks of: its name, what it concerns, and the request that takes it.",
                "required": ["step"],
                "properties": { "step": text(), "request": text() },
                "additionalProperties": true,
            },
            "requestId": text(),
            "errors": { "type": "array", "items": { "type": "object", "properties": {
                "pointer": text(), "line": { "type": ["integer", "null"] }, "column": { "type": ["integer", "null"] },
                "message": text(), "hint": { "type": ["string", "null"] } } } },
            "violations": { "type": "array", "items": { "type": "object", "properties": {
                "policy": text(), "environment": text(), "code": text(), "message": text(), "pointer": text(), "fix": {}, "remedy": text() } } },
        },
    })
}
