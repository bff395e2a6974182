//! The OpenAPI document: made of the table of routes and of the types that calls take and show, so that it cannot say
//! anything else than the program does (pure).

use schemars::SchemaGenerator;
use schemars::generate::{Contract, SchemaSettings};
use serde_json::{Map, Value, json};

use super::answer::{ErrorBody, Status};
use super::operation::{JSON, Operation, of};
use super::query::{Location, Parameter};
use super::router::{Handling, Route};

/// What the refusals are called in the document, and what they mean.
const REFUSALS: [(Status, &str, &str); 10] = [
    (Status::BadRequest, "BadRequest", "what was sent does not fit, and why"),
    (
        Status::Unauthorized,
        "Unauthorized",
        "a write without the write token, or a read without the read token where the dashboard is private",
    ),
    (
        Status::Forbidden,
        "Forbidden",
        "from a page of another site, or an action on the queue of a dashboard that has no write token",
    ),
    (Status::NotFound, "NotFound", "no such thing"),
    (
        Status::Conflict,
        "Conflict",
        "the topic has no channel: the first one gets the messages that wait",
    ),
    (Status::TooLarge, "TooLarge", "a body over 1 MiB"),
    (
        Status::TooManyRequests,
        "TooManyRequests",
        "too many wrong tokens came from the address; `Retry-After` says when to try again",
    ),
    (Status::Damaged, "Damaged", "the dashboard's files were changed behind its back, and where"),
    (Status::BadGateway, "BadGateway", "nsqd or an nsqlookupd refused, or is away"),
    (Status::Unavailable, "Unavailable", "the counts cannot be read or stored, and why"),
];

/// How a write may be refused besides.
const OF_WRITES: [Status; 4] =
    [Status::Unauthorized, Status::Forbidden, Status::TooLarge, Status::TooManyRequests];

/// How a read of a private dashboard may be refused besides.
const OF_READS: [Status; 2] = [Status::Unauthorized, Status::TooManyRequests];

/// Where the document keeps the schemas that have names.
const SCHEMAS: &str = "/components/schemas";

/// Both kinds of schemas: what a body may hold is not what an answer always holds.
struct Schemas {
    bodies: SchemaGenerator,
    answers: SchemaGenerator,
}

/// The document of these routes.
pub(super) fn document(routes: &[Route]) -> Value {
    let mut schemas = Schemas {
        bodies: generator(Contract::Deserialize),
        answers: generator(Contract::Serialize),
    };
    let mut paths = Map::new();
    for route in routes {
        let operation = operation(route, &mut schemas);
        let path = paths.entry(route.path).or_insert_with(|| json!({}));
        path[route.method.to_ascii_lowercase()] = operation;
    }
    let error = content(&[(JSON, of::<ErrorBody>)], &mut schemas.answers);
    let refusals: Map<_, _> = REFUSALS
        .iter()
        .map(|(_, name, meaning)| {
            ((*name).to_owned(), json!({ "description": meaning, "content": error }))
        })
        .collect();
    let mut named = schemas.answers.take_definitions(true);
    // What an answer holds of a type that bodies hold, too, fits the body's schema: an answer only says more.
    named.extend(schemas.bodies.take_definitions(true));
    let mut document = json!({
        "openapi": "3.1.0",
        "info": {
            "title": "playcounts dashboard",
            "version": env!("CARGO_PKG_VERSION"),
            "license": { "name": env!("CARGO_PKG_LICENSE"), "identifier": env!("CARGO_PKG_LICENSE") },
            "description": "Counts of video plays. Errors are {\"error\":\"…\"} with a proper status. Writes need `Authorization: Bearer …` once the dashboard has a write token, and reads once it has a read token; who has signed in on the page needs none to read. Times are ms since the Unix epoch. Every answer closes its connection.",
        },
        // From where this document is read: a proxy may have put all of it under a path.
        "servers": [{ "url": ".." }],
        "paths": paths,
        "components": {
            "securitySchemes": {
                "token": { "type": "http", "scheme": "bearer", "description": "the dashboard's --write-token" },
                "readToken": { "type": "http", "scheme": "bearer", "description": "the dashboard's --read-token" }
            },
            "responses": refusals,
            "schemas": named,
        },
    });
    tidy(&mut document);
    document
}

fn generator(contract: Contract) -> SchemaGenerator {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.definitions_path = SCHEMAS.into();
        settings.contract = contract.clone();
    });
    settings.into_generator()
}

fn operation(route: &Route, schemas: &mut Schemas) -> Value {
    let Operation { id, summary, description, parameters, body, success, media, refusals } =
        route.operation;
    let writes = matches!(route.handling, Handling::Write(_));
    let is_open = route.path == super::router::HEALTH;
    let mut shown = json!({ "operationId": id, "summary": summary });
    if !description.is_empty() {
        shown["description"] = (*description).into();
    }
    if !parameters.is_empty() {
        shown["parameters"] = parameters.iter().map(|one| parameter(*one)).collect();
    }
    if writes {
        shown["security"] = json!([{}, { "token": [] }]);
    } else if !is_open {
        shown["security"] = json!([{}, { "readToken": [] }, { "token": [] }]);
    }
    if let Some(body) = body {
        let content = content(&[(JSON, *body)], &mut schemas.bodies);
        shown["requestBody"] = json!({ "required": true, "content": content });
    }
    let content = content(media, &mut schemas.answers);
    shown["responses"] = json!({ "200": { "description": success, "content": content } });
    let besides: &[Status] = match (writes, is_open) {
        (true, _) => &OF_WRITES,
        (false, false) => &OF_READS,
        (false, true) => &[],
    };
    for status in refusals.iter().chain(besides) {
        let (_, name, _) =
            REFUSALS.iter().find(|(known, ..)| known == status).unwrap_or(&REFUSALS[0]);
        let reference = format!("#/components/responses/{name}");
        shown["responses"][(*status as u16).to_string()] = json!({ "$ref": reference });
    }
    shown
}

fn parameter(parameter: &dyn Parameter) -> Value {
    let mut shown = json!({
        "name": parameter.name(),
        "in": match parameter.location() {
            Location::Path => "path",
            Location::Query => "query",
        },
        "required": parameter.is_required(),
        "description": parameter.about(),
        "schema": parameter.schema(),
    });
    if shown["schema"]["type"] == "array" {
        // Each item as a parameter of the same name.
        (shown["style"], shown["explode"]) = ("form".into(), true.into());
    }
    shown
}

fn content(
    media: &[(&'static str, super::operation::SchemaOf)],
    generator: &mut SchemaGenerator,
) -> Value {
    let media = media
        .iter()
        .map(|(name, schema)| ((*name).to_owned(), json!({ "schema": schema(generator) })));
    Value::Object(media.collect())
}

/// Makes what doc comments say fit for readers of the document: one line, and no links into the source.
fn tidy(value: &mut Value) {
    match value {
        Value::Array(values) => values.iter_mut().for_each(tidy),
        Value::Object(fields) => {
            for (name, value) in fields {
                match value {
                    Value::String(text) if name == "description" => {
                        *text = text.replace("[`", "`").replace("`]", "`").replace('\n', " ");
                    }
                    value => tidy(value),
                }
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::super::router::ROUTES;
    use super::*;

    fn made() -> Value {
        document(ROUTES)
    }

    #[test]
    fn it_has_every_route_and_no_other() {
        let document = made();
        let paths = document["paths"].as_object().unwrap();
        let listed: Vec<_> = paths
            .iter()
            .flat_map(|(path, methods)| {
                methods
                    .as_object()
                    .unwrap()
                    .keys()
                    .map(|method| (path.clone(), method.to_uppercase()))
            })
            .collect();
        assert_eq!(listed.len(), ROUTES.len());
        for route in ROUTES {
            assert!(
                listed.contains(&(route.path.to_owned(), route.method.to_owned())),
                "{}",
                route.path
            );
        }
    }

    #[test]
    fn every_call_has_a_name_of_its_own_and_every_refusal_a_meaning() {
        let mut names: Vec<_> = ROUTES.iter().map(|route| route.operation.id).collect();
        names.sort_unstable();
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count);
        for route in ROUTES {
            for status in route.operation.refusals {
                assert!(REFUSALS.iter().any(|(known, ..)| known == status), "{status:?}");
            }
            let parameters = super::super::router::PARAMETERS;
            let declared = parameters.iter().any(|name| route.path.contains(name));
            let has = route.operation.parameters.iter().any(|one| one.location() == Location::Path);
            assert_eq!(declared, has, "{}", route.path);
        }
    }

    /// Every `$ref` leads somewhere.
    #[test]
    fn what_it_refers_to_is_in_it() {
        fn check(value: &Value, document: &Value) {
            match value {
                Value::Array(values) => values.iter().for_each(|value| check(value, document)),
                Value::Object(fields) => {
                    if let Some(Value::String(reference)) = fields.get("$ref") {
                        let found = document.pointer(reference.trim_start_matches('#'));
                        assert!(found.is_some(), "{reference}");
                    }
                    fields.values().for_each(|value| check(value, document));
                }
                _ => {}
            }
        }
        let document = made();
        check(&document, &document);
        let text = document.to_string();
        assert!(!text.contains("[`") && !text.contains("$defs"));
    }
}
