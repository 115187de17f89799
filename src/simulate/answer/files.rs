//! `/files`.

use http::StatusCode;
use serde_json::{Value, json};

use super::super::multipart::field;
use super::super::store::{File, Shelf};
use super::{Question, Reply, list as paged, no_such};

pub(super) fn create(question: &Question<'_>, files: &mut Shelf<File>) -> Reply {
    let Some(part) = question.form.iter().find(|part| part.name == "file") else {
        return Reply::refuse(
            StatusCode::BAD_REQUEST,
            Some("missing_required_parameter"),
            Some("file"),
            "Missing required parameter: 'file'.",
        );
    };
    let id = format!("file-{:024x}", question.serial);
    let object = json!({
        "object": "file", "id": id, "purpose": field(question.form, "purpose").unwrap_or("user_data"),
        "filename": part.filename.as_deref().unwrap_or("upload"), "bytes": part.data.len(),
        "created_at": question.created, "expires_at": null, "status": "processed", "status_details": null,
    });
    files.put(id, part.data.len(), File { object: object.clone(), data: part.data.clone() });
    Reply::object(&object)
}

pub(super) fn list(question: &Question<'_>, files: &Shelf<File>) -> Reply {
    let purpose = question.query.split('&').find_map(|pair| pair.strip_prefix("purpose="));
    let objects: Vec<Value> = files
        .newest_first()
        .map(|file| file.object.clone())
        .filter(|object| purpose.is_none_or(|purpose| object["purpose"] == purpose))
        .collect();
    paged(&objects)
}

pub(super) fn retrieve(id: &str, files: &mut Shelf<File>) -> Reply {
    files.find(id).map_or_else(|| no_such("File", id), |file| Reply::object(&file.object))
}

pub(super) fn content(id: &str, files: &mut Shelf<File>) -> Reply {
    files.find(id).map_or_else(
        || no_such("File", id),
        |file| Reply::binary("application/octet-stream", file.data.clone()),
    )
}

pub(super) fn delete(id: &str, files: &mut Shelf<File>) -> Reply {
    match files.remove(id) {
        Some(_) => Reply::object(&json!({ "object": "file", "deleted": true, "id": id })),
        None => no_such("File", id),
    }
}
