//! `legwork workers`: the fleet.

use legwork_common::error::ExitStatus;
use legwork_queue::ConnectionKind;
use legwork_queue::operator::WorkerRecord;
use serde_json::json;

use crate::context::Context;
use crate::failure::Failure;
use crate::render;

/// Lists the live workers.
pub(super) async fn workers(context: Context) -> Result<ExitStatus, Failure> {
    let connection = context.connect(ConnectionKind::Pooled).await?;
    let workers = connection.operator.workers().await?;
    if context.output.json {
        for worker in &workers {
            context.output.object(&object(worker))?;
        }
    } else {
        let mut rows = vec![["ID", "HOST", "LANES", "SLOTS", "JOBS", "SEEN", ""].map(str::to_owned).to_vec()];
        rows.extend(workers.iter().map(row));
        context.output.text(&render::table(&rows))?;
    }
    if workers.is_empty() {
        context.output.note(&format!("no workers ({})", connection.place()));
    }
    connection.leave().await?;
    Ok(ExitStatus::Success)
}

fn object(worker: &WorkerRecord) -> serde_json::Value {
    let mut object = json!({
        "id": worker.id, "host": worker.host, "queues": worker.lanes, "slots": worker.slots, "used": worker.used,
        "free": worker.slots.saturating_sub(worker.used), "jobs": worker.jobs, "last_heartbeat": worker.seen,
        "draining": worker.draining,
    });
    if let Some(unreadable) = &worker.unreadable {
        object["unreadable"] = json!(unreadable);
    }
    object
}

fn row(worker: &WorkerRecord) -> Vec<String> {
    vec![
        worker.id.to_string(),
        worker.host.clone(),
        worker.lanes.join(","),
        format!("{}/{}", worker.used, worker.slots),
        worker.jobs.to_string(),
        format!("{:.0}", worker.seen),
        worker.unreadable.clone().unwrap_or_else(|| if worker.draining { "draining" } else { "" }.to_owned()),
    ]
}
