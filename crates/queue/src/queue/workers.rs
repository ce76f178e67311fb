//! The records of the fleet's workers, on Redis.

use std::time::Duration;

use jiff::Timestamp;
use legwork_common::id::WorkerId;
use legwork_common::stored;

use crate::answer::Answer;
use crate::error::QueueError;
use crate::port::WorkerRecord;
use crate::port::WorkerReport;
use crate::queue::Queue;
use crate::queue::record::ASKED;
use crate::step;
use crate::step::Call;

/// Records of one pipelined read: some hundred bytes each.
const BATCH_SIZE: usize = 200;

impl Queue {
    /// Asks a worker to drain; its next heartbeat brings it the request. False for a worker that has no record, and
    /// nothing is stored then.
    pub(crate) async fn request_drain(&self, worker: &WorkerId) -> Result<bool, QueueError> {
        // The first shard has the whole fleet. A worker that is gone must not get a record that never expires.
        let key = self.keys.worker(0, worker.as_str());
        let call = Call::on(self.keys.tag(0)).key(key).arg(worker);
        Ok(step::DRAIN.call(&self.link, &call).await?.parse::<u8>()? == 1)
    }

    /// Reads the workers whose last heartbeat is less than three leases old.
    pub(super) async fn read_workers(&self) -> Result<Vec<WorkerRecord>, QueueError> {
        // A heartbeat reaches every shard, so the first one has the whole fleet.
        let mut command = redis::cmd("ZRANGE");
        command.arg(self.keys.workers(0)).arg(0).arg(-1);
        let names = self.link.ask(ASKED, &command).await?.items()?;
        let ids: Vec<WorkerId> =
            names.map(|name| name.text().map(WorkerId::from_stored)).collect::<Result<_, _>>()?;
        let mut workers = Vec::with_capacity(ids.len());
        if ids.is_empty() {
            return Ok(workers);
        }
        let now_ms = self.now_ms().await?;
        for batch in ids.chunks(BATCH_SIZE) {
            let mut pipeline = redis::pipe();
            for id in batch {
                pipeline.cmd("HGETALL").arg(self.keys.worker(0, id.as_str()));
            }
            for (id, answer) in batch.iter().zip(self.link.ask_all(ASKED, &pipeline).await?) {
                workers.extend(read_worker(id.clone(), answer, now_ms)?);
            }
        }
        Ok(workers)
    }
}

/// Reads a worker's record; `None` for one without a heartbeat, such as a worker that has only claimed.
fn read_worker(id: WorkerId, answer: Answer, now_ms: u64) -> Result<Option<WorkerRecord>, QueueError> {
    let mut record = WorkerRecord {
        id,
        host: String::new(),
        lanes: Vec::new(),
        slots: 0,
        used: 0,
        jobs: 0,
        seen: Timestamp::UNIX_EPOCH,
        draining: false,
        process: None,
        unreadable: None,
        began: None,
        age: Duration::ZERO,
        report: WorkerReport::default(),
    };
    let mut alive = false;
    for (field, value) in answer.pairs()? {
        match field.as_str() {
            "v" => {
                record.unreadable =
                    stored::HEARTBEAT.check(&value.text()?).err().map(|error| error.to_string());
            }
            "host" => record.host = value.text()?,
            "process" => record.process = value.parse().ok(),
            "lanes" => record.lanes = value.text()?.split_whitespace().map(str::to_owned).collect(),
            "slots" => record.slots = value.parse().unwrap_or(0),
            "used" => record.used = value.parse().unwrap_or(0),
            "jobs" => record.jobs = value.parse().unwrap_or(0),
            "draining" => record.draining = value.text()? == "1",
            "began" => record.began = value.parse().ok().and_then(|ms| Timestamp::from_millisecond(ms).ok()),
            "seen" => {
                alive = true;
                let seen: i64 = value.parse().unwrap_or(0);
                record.seen = Timestamp::from_millisecond(seen).unwrap_or(Timestamp::UNIX_EPOCH);
                let age = now_ms.saturating_sub(u64::try_from(seen).unwrap_or(0));
                record.age = Duration::from_millis(age);
            }
            field => read_report(&mut record.report, field, value)?,
        }
    }
    Ok(alive.then_some(record))
}

/// Reads a field of a worker's report. What `claim` remembers for its repeat is not shown.
fn read_report(report: &mut WorkerReport, field: &str, value: Answer) -> Result<(), QueueError> {
    match field {
        "version" => report.version = value.text()?,
        "run" => report.run = value.parse().unwrap_or(0),
        "failed" => report.failed = value.parse().unwrap_or(0),
        "given_back" => report.given_back = value.parse().unwrap_or(0),
        "in_a_row" => report.given_back_in_a_row = value.parse().unwrap_or(0),
        "last_reason" => report.last_reason = value.text()?,
        _ => {}
    }
    Ok(())
}
