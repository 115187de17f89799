//! `/batches`: they are accepted and never worked off.

use serde_json::{Value, json};

use super::super::store::Shelf;
use super::{Question, Reply, list as paged, no_such};

pub(super) fn create(question: &Question<'_>, batches: &mut Shelf<Value>) -> Reply {
    let id = format!("batch_{:024x}", question.serial);
    let object = json!({
        "id": id, "object": "batch", "endpoint": "/v1/chat/completions", "errors": null,
        "input_file_id": "file-unknown", "completion_window": "24h", "status": "validating",
        "output_file_id": null, "error_file_id": null, "created_at": question.created,
        "expires_at": question.created + 86_400, "cancelling_at": null, "cancelled_at": null,
        "completed_at": null, "expired_at": null, "failed_at": null, "finalizing_at": null,
        "in_progress_at": null, "metadata": null, "request_counts": { "total": 0, "completed": 0, "failed": 0 },
    });
    batches.put(id, 1_024, object.clone());
    Reply::object(&object)
}

pub(super) fn list(batches: &Shelf<Value>) -> Reply {
    paged(&batches.newest_first().cloned().collect::<Vec<_>>())
}

pub(super) fn retrieve(id: &str, batches: &mut Shelf<Value>) -> Reply {
    batches.find(id).map_or_else(|| no_such("Batch", id), |batch| Reply::object(batch))
}

pub(super) fn cancel(id: &str, batches: &mut Shelf<Value>) -> Reply {
    let Some(batch) = batches.find(id) else { return no_such("Batch", id) };
    batch["status"] = json!("cancelling");
    Reply::object(batch)
}
