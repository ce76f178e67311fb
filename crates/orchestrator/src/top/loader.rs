//! Reads what the screen shows, in a task of its own, about once a second.

use std::time::Duration;

use jiff::Timestamp;
use legwork_agent::journal::TurnEntry;
use legwork_common::contract;
use legwork_common::error::chain;
use legwork_common::id::JobId;
use legwork_common::lifecycle::State;
use legwork_queue::Operator;
use legwork_queue::QueueError;
use legwork_queue::operator::JobFilter;
use legwork_queue::operator::tree;
use tokio::sync::mpsc;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::render;
use crate::top::state::Detail;
use crate::top::state::Rates;
use crate::top::state::Row;
use crate::top::state::Shown;
use crate::top::state::Snapshot;
use crate::top::state::by_session;

/// How often jobs and output are read: a person sees a job start, and a page is a few reads.
const INTERVAL: Duration = Duration::from_secs(1);
/// How often workers are read: they send heartbeats every three seconds.
const WORKERS_INTERVAL: Duration = Duration::from_secs(2);
/// How often the numbers are read, which costs a short read for each live job.
const STATS_INTERVAL: Duration = Duration::from_secs(5);
/// Jobs that are read: some screens full.
const MAX_JOBS: usize = 300;
/// Bytes of output, or of turns, that are shown from their end: a large terminal's screen.
const TEXT_BYTES: usize = 16 * 1024;

/// What to read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Which jobs.
    pub shown: Shown,
    /// The job whose text is read.
    pub selected: Option<JobId>,
    /// Which text.
    pub detail: Detail,
}

/// The turns of one job that were read so far: only new ones are read again.
#[derive(Debug, Default)]
struct Turns {
    of: Option<JobId>,
    /// The place after the last one.
    after: u64,
    text: String,
}

impl Turns {
    /// Reads what is new; of a long conversation the end is kept.
    async fn read(&mut self, operator: &Operator, id: JobId) -> Result<&str, QueueError> {
        if self.of != Some(id) {
            *self = Self { of: Some(id), ..Self::default() };
        }
        for (sequence, text) in operator.turns_after(id, self.after).await? {
            self.after = self.after.max(sequence);
            match TurnEntry::decode(&text) {
                Ok(entry) => self.text.push_str(&render::paragraph(&entry)),
                Err(error) => self.text.push_str(&format!("[entry {sequence}: {error}]")),
            }
            self.text.push('\n');
            self.text.drain(..self.text.len() - contract::tail(&self.text, TEXT_BYTES).len());
        }
        Ok(&self.text)
    }
}

/// Reads until the screen is gone. An error is shown, and the next round asks again.
pub async fn load(
    operator: Operator,
    mut wanted: watch::Receiver<Wanted>,
    snapshots: mpsc::Sender<Snapshot>,
) {
    let mut snapshot = Snapshot::default();
    let mut turns = Turns::default();
    let (mut workers_due, mut stats_due) = (Instant::now(), Instant::now());
    loop {
        let now = Instant::now();
        let read = async {
            let wanted = *wanted.borrow_and_update();
            read_jobs(&operator, wanted, &mut snapshot).await?;
            read_text(&operator, wanted, &mut turns, &mut snapshot).await?;
            if now >= workers_due {
                read_workers(&operator, &mut snapshot).await?;
                workers_due = now + WORKERS_INTERVAL;
            }
            if now >= stats_due {
                let (stats, history) = operator.stats_and_history().await?;
                (snapshot.stats, snapshot.rates) = (Some(stats), Rates::of(&history.hour));
                stats_due = Instant::now() + STATS_INTERVAL;
            }
            Ok::<_, QueueError>(())
        };
        let failed = read.await.err();
        snapshot.error = failed.map(|error| format!("may be old: {}", chain(&error)));
        snapshot.at = Timestamp::now();
        if snapshots.send(snapshot.clone()).await.is_err() {
            return;
        }
        tokio::select! {
            changed = wanted.changed() => {
                if changed.is_err() {
                    return;
                }
            }
            () = tokio::time::sleep(INTERVAL) => {}
        }
    }
}

async fn read_jobs(operator: &Operator, wanted: Wanted, snapshot: &mut Snapshot) -> Result<(), QueueError> {
    let listing = operator.list(&filter(wanted.shown), MAX_JOBS, None).await?;
    let lines = tree(&listing.jobs).into_iter();
    snapshot.rows =
        by_session(lines.map(|line| Row { depth: line.depth, job: line.listed.job.clone() }).collect());
    Ok(())
}

/// Reads the output or the turns of the selected job.
async fn read_text(
    operator: &Operator,
    wanted: Wanted,
    turns: &mut Turns,
    snapshot: &mut Snapshot,
) -> Result<(), QueueError> {
    let selected = wanted.selected.or_else(|| snapshot.rows.first().map(|row| row.job.id));
    let row = selected.and_then(|id| snapshot.rows.iter().find(|row| row.job.id == id));
    (snapshot.text_of, snapshot.text) = match row {
        Some(Row { job, .. }) => {
            let text = match wanted.detail {
                Detail::Output => {
                    let offset = job.output_bytes.saturating_sub(TEXT_BYTES as u64);
                    let slice = operator.output(job.id, offset, TEXT_BYTES).await?;
                    String::from_utf8_lossy(&slice.bytes).into_owned()
                }
                Detail::Turns => turns.read(operator, job.id).await?.to_owned(),
            };
            (Some((job.id, wanted.detail)), text)
        }
        None => (None, String::new()),
    };
    Ok(())
}

async fn read_workers(operator: &Operator, snapshot: &mut Snapshot) -> Result<(), QueueError> {
    let workers = operator.workers().await?;
    let with_condition = workers.into_iter().map(|worker| {
        let condition = operator.condition(&worker);
        (worker, condition)
    });
    snapshot.workers = with_condition.collect();
    Ok(())
}

fn filter(shown: Shown) -> JobFilter {
    match shown {
        Shown::All => JobFilter::default(),
        Shown::Live => JobFilter {
            states: State::ALL.into_iter().filter(|state| !state.is_terminal()).collect(),
            ..JobFilter::default()
        },
        Shown::Failed => {
            JobFilter { states: vec![State::Failed], without_retried: true, ..JobFilter::default() }
        }
    }
}
