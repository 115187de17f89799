//! `/files`, `/batches` and stored responses. Batches are accepted and never worked off.

use bytes::Bytes;
use http::StatusCode;
use serde_json::{Value, json};

use super::super::multipart::field;
use super::super::route::{Action, Kind};
use super::super::store::{Shelf, Store, Stored};
use super::{Question, Reply, missing_parameter};

pub(super) fn answer(question: &Question<'_>, kind: Kind, action: Action<'_>, store: &mut Store) -> Reply {
    let shelf = store.of(kind);
    match action {
        Action::Create => create(question, kind, shelf),
        Action::List => {
            let purpose = question.query.split('&').find_map(|pair| pair.strip_prefix("purpose="));
            let objects = shelf.newest_first().map(|stored| stored.object.clone());
            list(
                &objects
                    .filter(|of| purpose.is_none_or(|purpose| of["purpose"] == purpose))
                    .collect::<Vec<_>>(),
            )
        }
        Action::Get(id) => with(kind, id, shelf, |stored| Reply::object(&stored.object)),
        Action::Content(id) => {
            with(kind, id, shelf, |stored| Reply::binary("application/octet-stream", stored.data.clone()))
        }
        Action::Cancel(id) => with(kind, id, shelf, |stored| {
            stored.object["status"] = json!(if kind == Kind::Batch { "cancelling" } else { "cancelled" });
            Reply::object(&stored.object)
        }),
        Action::Items(id) => with(kind, id, shelf, |_| {
            list(&[json!({
                "id": "msg_input", "type": "message", "role": "user", "status": "completed",
                "content": [{ "type": "input_text", "text": "(not kept)" }],
            })])
        }),
        Action::Delete(id) => match shelf.remove(id) {
            Some(stored) => {
                Reply::object(&json!({ "id": id, "object": stored.object["object"], "deleted": true }))
            }
            None => missing(kind, id),
        },
    }
}

fn with(kind: Kind, id: &str, shelf: &mut Shelf<Stored>, answer: impl FnOnce(&mut Stored) -> Reply) -> Reply {
    shelf.find(id).map_or_else(|| missing(kind, id), answer)
}

fn missing(kind: Kind, id: &str) -> Reply {
    let (param, message) = match kind {
        Kind::Response => (None, format!("Response with id '{id}' not found.")),
        Kind::File => (Some("id"), format!("No such File object: {id}")),
        Kind::Batch => (Some("id"), format!("No such Batch object: {id}")),
    };
    Reply::refuse(StatusCode::NOT_FOUND, None, param, &message)
}

fn create(question: &Question<'_>, kind: Kind, shelf: &mut Shelf<Stored>) -> Reply {
    let (id, size, object, data) = if kind == Kind::File {
        let Some(part) = question.form.iter().find(|part| part.name == "file") else {
            return missing_parameter("file");
        };
        let id = format!("file-{:024x}", question.serial);
        let object = json!({
            "object": "file", "id": id, "purpose": field(question.form, "purpose").unwrap_or("user_data"),
            "filename": part.filename.as_deref().unwrap_or("upload"), "bytes": part.data.len(),
            "created_at": question.created, "expires_at": null, "status": "processed", "status_details": null,
        });
        (id, part.data.len(), object, part.data.clone())
    } else {
        let id = format!("batch_{:024x}", question.serial);
        let object = json!({
            "id": id, "object": "batch", "endpoint": "/v1/chat/completions", "errors": null,
            "input_file_id": "file-unknown", "completion_window": "24h", "status": "validating",
            "output_file_id": null, "error_file_id": null, "created_at": question.created,
            "expires_at": question.created + 86_400, "cancelling_at": null, "cancelled_at": null,
            "completed_at": null, "expired_at": null, "failed_at": null, "finalizing_at": null,
            "in_progress_at": null, "metadata": null, "request_counts": { "total": 0, "completed": 0, "failed": 0 },
        });
        (id, 1_024, object, Bytes::new())
    };
    let reply = Reply::object(&object);
    shelf.put(id, size, Stored { object, data });
    reply
}

/// A list as the API pages it.
fn list(data: &[Value]) -> Reply {
    let id = |value: Option<&Value>| value.and_then(|value| value.get("id")).cloned().unwrap_or_default();
    Reply::object(&json!({
        "object": "list", "data": data, "first_id": id(data.first()), "last_id": id(data.last()), "has_more": false
    }))
}
