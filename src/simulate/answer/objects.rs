//! `/files`, `/batches` and stored responses. Batches are accepted but never run.

use bytes::Bytes;
use http::StatusCode;
use serde_json::{Value, json};

use super::super::multipart::field;
use super::super::route::{Action, Kind};
use super::super::store::{BoundedMap, Store, Stored};
use super::{Reply, ReplyInput, missing_parameter};

pub(super) fn answer(input: &ReplyInput<'_>, kind: Kind, action: Action<'_>, store: &mut Store) -> Reply {
    let map = store.of(kind);
    match action {
        Action::Create => create(input, kind, map),
        Action::List => {
            let purpose = input.query.split('&').find_map(|pair| pair.strip_prefix("purpose="));
            let objects = map.newest_first().map(|stored| stored.object.clone());
            list(
                &objects
                    .filter(|of| purpose.is_none_or(|purpose| of["purpose"] == purpose))
                    .collect::<Vec<_>>(),
            )
        }
        Action::Get(id) => with(kind, id, map, |stored| Reply::object(&stored.object)),
        Action::Content(id) => {
            with(kind, id, map, |stored| Reply::binary("application/octet-stream", stored.data.clone()))
        }
        Action::Cancel(id) => with(kind, id, map, |stored| {
            stored.object["status"] = json!(if kind == Kind::Batch { "cancelling" } else { "cancelled" });
            Reply::object(&stored.object)
        }),
        Action::Items(id) => with(kind, id, map, |_| {
            list(&[json!({
                "id": "msg_input", "type": "message", "role": "user", "status": "completed",
                "content": [{ "type": "input_text", "text": "(not kept)" }],
            })])
        }),
        Action::Delete(id) => match map.remove(id) {
            Some(stored) => {
                Reply::object(&json!({ "id": id, "object": stored.object["object"], "deleted": true }))
            }
            None => missing(kind, id),
        },
    }
}

fn with(
    kind: Kind,
    id: &str,
    map: &mut BoundedMap<Stored>,
    answer: impl FnOnce(&mut Stored) -> Reply,
) -> Reply {
    map.find(id).map_or_else(|| missing(kind, id), answer)
}

fn missing(kind: Kind, id: &str) -> Reply {
    let (param, message) = match kind {
        Kind::Response => (None, format!("Response with id '{id}' not found.")),
        Kind::File => (Some("id"), format!("No such File object: {id}")),
        Kind::Batch => (Some("id"), format!("No such Batch object: {id}")),
    };
    Reply::refuse(StatusCode::NOT_FOUND, None, param, &message)
}

fn create(input: &ReplyInput<'_>, kind: Kind, map: &mut BoundedMap<Stored>) -> Reply {
    let (id, size, object, data) = if kind == Kind::File {
        let Some(part) = input.form.iter().find(|part| part.name == "file") else {
            return missing_parameter("file");
        };
        let id = format!("file-{:024x}", input.serial);
        let object = json!({
            "object": "file", "id": id, "purpose": field(input.form, "purpose").unwrap_or("user_data"),
            "filename": part.filename.as_deref().unwrap_or("upload"), "bytes": part.data.len(),
            "created_at": input.created, "expires_at": null, "status": "processed", "status_details": null,
        });
        (id, part.data.len(), object, part.data.clone())
    } else {
        let id = format!("batch_{:024x}", input.serial);
        let object = json!({
            "id": id, "object": "batch", "endpoint": "/v1/chat/completions", "errors": null,
            "input_file_id": "file-unknown", "completion_window": "24h", "status": "validating",
            "output_file_id": null, "error_file_id": null, "created_at": input.created,
            "expires_at": input.created + 86_400, "cancelling_at": null, "cancelled_at": null,
            "completed_at": null, "expired_at": null, "failed_at": null, "finalizing_at": null,
            "in_progress_at": null, "metadata": null, "request_counts": { "total": 0, "completed": 0, "failed": 0 },
        });
        (id, 1_024, object, Bytes::new())
    };
    let reply = Reply::object(&object);
    map.put(id, size, Stored { object, data });
    reply
}

/// A list in the API's page format.
fn list(data: &[Value]) -> Reply {
    let id = |value: Option<&Value>| value.and_then(|value| value.get("id")).cloned().unwrap_or_default();
    Reply::object(&json!({
        "object": "list", "data": data, "first_id": id(data.first()), "last_id": id(data.last()), "has_more": false
    }))
}
