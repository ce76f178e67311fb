//! Ends of attempts, on Redis: several in a call, and what is dropped or checked once their jobs have ended.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use futures::StreamExt as _;
use legwork_common::id::Dispatcher;
use legwork_common::id::JobId;
use legwork_common::job::Cause;
use legwork_common::lifecycle::State;

use crate::answer::Answer;
use crate::answer::Word;
use crate::error::QueueError;
use crate::link::Link;
use crate::port::Finish;
use crate::port::Finished;
use crate::port::InOutput;
use crate::queue::Queue;
use crate::queue::stop::Sweep;
use crate::step;
use crate::step::Call;
use crate::stored::record::UsageField;

/// Endings of one call of `finish`: an ending takes 15 us of the server's processor.
const BATCH_SIZE: usize = 100;
/// Calls of `finish` that are on their way at once: enough for every master of a Cluster, and a burst of ends delays other
/// steps of one server by no more than 12 ms.
const MAX_FINISHING: usize = 8;

impl Queue {
    /// Ends attempts, and drops what their jobs no longer need.
    pub(super) async fn finish_all(&self, finishes: &[Finish]) -> Result<Vec<Finished>, QueueError> {
        let mut all = vec![Finished::Lost; finishes.len()];
        let by_shard = self.by_shard(finishes.iter().map(|finish| finish.lease.id));
        let batches = by_shard
            .iter()
            .flat_map(|(shard, positions)| positions.chunks(BATCH_SIZE).map(move |batch| (*shard, batch)));
        let calls: Vec<_> = batches
            .map(|(shard, batch)| async move {
                Ok::<_, QueueError>((batch, self.finish_batch(&self.link, shard, batch, finishes).await?))
            })
            .collect();
        // An error of one batch cuts off no other: its calls are on their way.
        let answers: Vec<_> = futures::stream::iter(calls).buffered(MAX_FINISHING).collect().await;
        for answer in answers {
            let (batch, outcomes) = answer?;
            for (&position, outcome) in batch.iter().zip(outcomes) {
                all[position] = outcome;
            }
        }
        let ended: Vec<(&Finish, State)> = finishes
            .iter()
            .zip(&all)
            .filter_map(|(finish, outcome)| match outcome {
                Finished::Now(state) if state.is_terminal() => Some((finish, *state)),
                _ => None,
            })
            .collect();
        let whole = self.check_results(&ended).await;
        self.drop_unneeded(&ended, &whole).await;
        Ok(all)
    }

    /// The positions of jobs by shard. Each shard gets calls of its own, whose answers go back to these positions.
    pub(super) fn by_shard(&self, ids: impl Iterator<Item = JobId>) -> BTreeMap<u16, Vec<usize>> {
        let mut positions: BTreeMap<u16, Vec<usize>> = BTreeMap::new();
        for (position, id) in ids.enumerate() {
            positions.entry(id.shard(self.keys.shards())).or_default().push(position);
        }
        positions
    }

    /// Ends the attempts at these positions, whose jobs are in one shard, and sweeps the trees of those that failed.
    pub(super) async fn finish_batch(
        &self,
        link: &Link,
        shard: u16,
        batch: &[usize],
        finishes: &[Finish],
    ) -> Result<Vec<Finished>, QueueError> {
        let mut call = Call::on(self.keys.tag(shard));
        for &position in batch {
            push_finish(&mut call, &finishes[position], Results::Refer);
        }
        let words = step::FINISH.call(link, &call).await?.items()?;
        let mut outcomes = Vec::with_capacity(batch.len());
        for (&position, word) in batch.iter().zip(words) {
            outcomes.push(self.finished(finishes[position].lease.id, &word.word()?).await?);
        }
        Ok(outcomes)
    }

    /// Reads what became of a job whose attempt ended. Where the job failed with a tree below it, which the step
    /// marked, the tree is swept here.
    pub(super) async fn finished(&self, id: JobId, word: &Word) -> Result<Finished, QueueError> {
        if word.as_str() == "lost" {
            return Ok(Finished::Lost);
        }
        if word.as_str() == "mail" {
            return Ok(Finished::Mail);
        }
        let Some(state) = word.as_str().strip_suffix("+tree") else {
            // A state of a later release: the job is no longer this attempt's.
            return Ok(word.parse().map_or(Finished::Lost, Finished::Now));
        };
        let shard = id.shard(self.keys.shards());
        self.sweep_tree(Sweep { shard, root: id.uuid(), includes_root: false }).await?;
        state.parse().map(Finished::Now).map_err(|_| word.unknown())
    }

    /// Drops the fences of jobs that ended in their first attempt and wrote anything, and turns that follow from record and
    /// output, of jobs whose output is `whole`. An append without a fence is refused where anything is stored. A failure is
    /// only logged, and a crash leaves them: they go with their jobs.
    async fn drop_unneeded(&self, ended: &[(&Finish, State)], whole: &BTreeSet<JobId>) {
        let mut command = redis::cmd("UNLINK");
        let mut is_empty = true;
        for (finish, state) in ended {
            let wrote = finish.output_bytes > 0 || finish.usage.turns > 0;
            if finish.is_first_attempt && wrote {
                command.arg(self.keys.fence(finish.lease.id));
                is_empty = false;
            }
            let follow = matches!(finish.in_output, InOutput::ResultAndTurns(_));
            if *state == State::Completed && follow && whole.contains(&finish.lease.id) {
                command.arg(self.keys.turns(finish.lease.id));
                is_empty = false;
            }
        }
        if is_empty {
            return;
        }
        if let Err(error) = self.link.ask("drop fences", &command).await {
            tracing::debug!(%error, "could not drop the fences of ended jobs");
        }
    }

    /// Stores results that the outputs of completed jobs should hold and do not: the server may have lost output that it
    /// had confirmed, before the end of the job reached it. Returns the jobs whose outputs hold theirs.
    async fn check_results(&self, ended: &[(&Finish, State)]) -> BTreeSet<JobId> {
        let mut whole = BTreeSet::new();
        let held = |finish: &Finish| finish.in_output != InOutput::Nothing;
        let referred: Vec<&Finish> = ended
            .iter()
            .filter(|(finish, state)| *state == State::Completed && held(finish))
            .map(|(finish, _)| *finish)
            .collect();
        if referred.is_empty() {
            return whole;
        }
        // Without an answer the output counts as lost: storing a result twice does no harm.
        let lengths = self.output_lengths(&referred).await.unwrap_or_else(|_| vec![0; referred.len()]);
        for (finish, length) in referred.into_iter().zip(lengths) {
            if length >= finish.output_bytes {
                whole.insert(finish.lease.id);
                continue;
            }
            let mut call = Call::on(self.keys.job_tag(finish.lease.id));
            push_finish(&mut call, finish, Results::Missing);
            match step::FINISH.call(&self.link, &call).await {
                Ok(_) => {
                    tracing::warn!(job = %finish.lease.id, length, "stored a result that Redis lost with its output")
                }
                Err(error) => {
                    tracing::warn!(job = %finish.lease.id, %error, "could not store the result of a job")
                }
            }
        }
        whole
    }

    async fn output_lengths(&self, finishes: &[&Finish]) -> Result<Vec<u64>, QueueError> {
        let mut pipeline = redis::pipe();
        for finish in finishes {
            pipeline.cmd("STRLEN").arg(self.keys.output(finish.lease.id));
        }
        self.link.ask_all("read outputs", &pipeline).await?.map(Answer::parse).collect()
    }
}

/// How a call of `finish` deals with results that the output holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Results {
    /// It stores no text for them.
    Refer,
    /// They are missing there, and it stores them for a job that has ended.
    Missing,
}

/// Adds one attempt's arguments to a call of `finish`, in the order that the step names them.
fn push_finish(call: &mut Call, finish: &Finish, results: Results) {
    let (outcome, cause, text) = finish.ending.parts();
    let is_retryable = cause.is_some_and(Cause::is_retryable);
    let (session, parent) = match finish.belongs_to {
        Some((session, Dispatcher::Job(parent))) => (session.to_string(), parent.uuid().to_string()),
        Some((session, Dispatcher::Root(_))) => (session.to_string(), "-".to_owned()),
        None => ("-".to_owned(), "-".to_owned()),
    };
    call.push(finish.lease.id.uuid());
    call.push_bytes(finish.lease.id.as_bytes());
    call.push(finish.lease.token);
    call.push(format!(
        "{outcome} {} {} {} {} {session} {parent}",
        cause.map_or("-", Cause::as_str),
        if is_retryable { finish.retry_delay.as_millis() } else { 0 },
        u8::from(is_retryable),
        u8::from(finish.hears_mail),
    ));
    let (held, is_stored) = match (&finish.in_output, results) {
        (InOutput::Nothing, _) => (String::new(), true),
        (_, Results::Missing) => ("missing".to_owned(), true),
        (InOutput::Result, Results::Refer) => ("result".to_owned(), false),
        (InOutput::ResultAndTurns(origin), Results::Refer) => (format!("turns {origin}"), false),
    };
    call.push(if is_stored { text } else { "" });
    let result_bytes = if is_stored { 0 } else { text.len() as u64 };
    call.push(UsageField { output_bytes: finish.output_bytes, usage: finish.usage, result_bytes }.encode());
    call.push(held);
    call.push(finish.seal.as_deref().unwrap_or_default());
}
