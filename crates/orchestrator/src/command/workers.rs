//! `legwork workers`: the fleet, and how each of its workers does; `drain` asks one to end.

use jiff::Timestamp;
use legwork_common::duration;
use legwork_common::error::ExitStatus;
use legwork_queue::ConnectionKind;
use legwork_queue::operator::WorkerCondition;
use legwork_queue::operator::WorkerRecord;
use serde_json::json;

use crate::cli::WorkersArgs;
use crate::cli::WorkersCommand;
use crate::context::Context;
use crate::failure::Failure;
use crate::many;
use crate::render;
use crate::render::table::Column;

/// The columns of the table. A host is part of the worker's id.
const COLUMNS: [Column; 11] = [
    Column::cut("ID"),
    Column::cut("STATE"),
    Column::cut("QUEUES"),
    Column::whole("SLOTS"),
    Column::extra("JOBS"),
    Column::whole("RUN"),
    Column::whole("FAILED"),
    Column::whole("BACK"),
    Column::whole("AGE"),
    Column::extra("PID"),
    Column::extra("VERSION"),
];

/// Lists the workers, or asks one to drain.
pub(super) async fn workers(context: Context, args: WorkersArgs) -> Result<ExitStatus, Failure> {
    match args.command {
        None => list(context).await,
        Some(WorkersCommand::Drain { id }) => drain(context, &id).await,
    }
}

/// Asks a worker to drain. It learns of that with its next heartbeat.
async fn drain(context: Context, id: &str) -> Result<ExitStatus, Failure> {
    let connection = context.connect(ConnectionKind::Pooled).await?;
    let drained = connection.operator.drain_worker(id).await;
    connection.leave().await?;
    let worker = drained?;
    if context.output.json {
        context.output.object(&json!({"id": worker.id, "draining": true, "jobs": worker.jobs}))?;
    } else {
        let jobs = many::jobs(u64::from(worker.jobs));
        let after = if worker.jobs == 0 { String::new() } else { format!(", after {jobs} that it has") };
        context.output.line(&format!("{} takes no new jobs within seconds, and exits{after}", worker.id))?;
    }
    Ok(ExitStatus::Success)
}

/// Lists the workers, those that were lost a short time ago included.
async fn list(context: Context) -> Result<ExitStatus, Failure> {
    let connection = context.connect(ConnectionKind::Pooled).await?;
    let workers = connection.operator.workers().await?;
    let workers: Vec<(WorkerRecord, WorkerCondition)> = workers
        .into_iter()
        .map(|worker| {
            let condition = connection.operator.condition(&worker);
            (worker, condition)
        })
        .collect();
    if context.output.json {
        for (worker, condition) in &workers {
            context.output.object(&worker.object(*condition))?;
        }
    } else {
        context.output.text(&table(&workers, Timestamp::now(), context.output.width))?;
    }
    if workers.is_empty() {
        context.output.note(&format!("no workers ({})", connection.place()));
    }
    connection.leave().await?;
    Ok(ExitStatus::Success)
}

/// The table, and below it a line for each sick worker with the reason.
fn table(workers: &[(WorkerRecord, WorkerCondition)], now: Timestamp, width: Option<usize>) -> String {
    let rows: Vec<Vec<String>> =
        workers.iter().map(|(worker, condition)| row(worker, *condition, now)).collect();
    let mut text = render::table::text(&COLUMNS, &rows, width);
    for (worker, condition) in workers {
        if let WorkerCondition::Sick(jobs) = condition {
            let reason = &worker.report.last_reason;
            text.push_str(&format!("{} gave back {jobs} jobs in a row, the last one: {reason}\n", worker.id));
        }
        if let Some(unreadable) = &worker.unreadable {
            text.push_str(&format!("{}: {unreadable}\n", worker.id));
        }
    }
    text
}

fn row(worker: &WorkerRecord, condition: WorkerCondition, now: Timestamp) -> Vec<String> {
    let report = &worker.report;
    // A worker of an earlier release reports none of these.
    let known = |value: String| if report.version.is_empty() { "-".to_owned() } else { value };
    let state = match condition {
        _ if worker.unreadable.is_some() => "unreadable".to_owned(),
        WorkerCondition::Lost(age) => format!("lost {}", duration::age(age)),
        other => other.word().to_owned(),
    };
    vec![
        worker.id.to_string(),
        state,
        worker.lanes.join(","),
        format!("{}/{}", worker.used, worker.slots),
        worker.jobs.to_string(),
        known(report.run.to_string()),
        known(report.failed.to_string()),
        known(report.given_back.to_string()),
        worker.began.map_or_else(|| "-".to_owned(), |began| duration::age(render::since(began, now))),
        worker.process.map_or_else(|| "-".to_owned(), |process| process.to_string()),
        known(report.version.clone()),
    ]
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use legwork_common::id::WorkerId;
    use legwork_queue::operator::WorkerReport;

    use super::*;

    fn worker(name: &str, given_back: u64, condition: WorkerCondition) -> (WorkerRecord, WorkerCondition) {
        let report = WorkerReport {
            version: "0.1.0".to_owned(),
            run: 120,
            failed: 3,
            given_back,
            given_back_in_a_row: given_back,
            last_reason: if given_back > 0 { "OPENAI_API_KEY is not set".to_owned() } else { String::new() },
        };
        let record = WorkerRecord {
            id: WorkerId::from_stored(format!("{name}-3f2a9c1b")),
            host: name.to_owned(),
            process: Some(4711),
            lanes: vec!["code".to_owned(), "default".to_owned()],
            slots: 20,
            used: 9,
            jobs: 11,
            seen: Timestamp::from_second(590).unwrap(),
            draining: condition == WorkerCondition::Draining,
            began: Some(Timestamp::from_second(0).unwrap()),
            age: Duration::from_secs(2),
            report,
            unreadable: None,
        };
        (record, condition)
    }

    fn fleet() -> Vec<(WorkerRecord, WorkerCondition)> {
        let mut early = worker("early", 0, WorkerCondition::Serving);
        (early.0.report, early.0.began, early.0.process) = (WorkerReport::default(), None, None);
        vec![
            worker("build-host-17.example.org", 0, WorkerCondition::Serving),
            worker("b", 0, WorkerCondition::Draining),
            worker("c", 0, WorkerCondition::Lost(Duration::from_secs(26))),
            worker("d", 7, WorkerCondition::Sick(7)),
            early,
        ]
    }

    #[test]
    fn the_fleet_says_who_is_lost_draining_or_sick_and_why() {
        let now = Timestamp::from_second(600).unwrap();
        insta::assert_snapshot!("workers_80", table(&fleet(), now, Some(80)));
        insta::assert_snapshot!("workers_120", table(&fleet(), now, Some(120)));
        let sick = &fleet()[3];
        insta::assert_json_snapshot!("worker_json", sick.0.object(sick.1));
    }
}
