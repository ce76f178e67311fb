//! Random sequences of all steps, by several workers and zombies, against the model.

use std::collections::BTreeSet;
use std::time::Duration;

use legwork_common::id::Dispatcher;
use legwork_common::id::JobId;
use legwork_common::id::RequestId;
use legwork_common::id::RunToken;
use legwork_common::id::WorkerId;
use legwork_common::job::Cause;
use legwork_common::job::Priority;
use legwork_common::lifecycle::Event;
use legwork_common::lifecycle::State;
use legwork_queue::port::Append;
use legwork_queue::port::Appended;
use legwork_queue::port::Asker;
use legwork_queue::port::Claim;
use legwork_queue::port::Dispatch as _;
use legwork_queue::port::DispatchedBy;
use legwork_queue::port::Ending;
use legwork_queue::port::EnqueueRefusal;
use legwork_queue::port::Enqueued;
use legwork_queue::port::Forgotten;
use legwork_queue::port::Heartbeat;
use legwork_queue::port::IdempotencyKey;
use legwork_queue::port::JobFilter;
use legwork_queue::port::Lane;
use legwork_queue::port::Lease;
use legwork_queue::port::MailEntryContent;
use legwork_queue::port::OpenSession;
use legwork_queue::port::Release;
use legwork_queue::port::ReleaseMode;
use legwork_queue::port::Renewal;
use legwork_queue::port::SendOutcome;
use legwork_queue::port::SessionEnd;
use legwork_queue::port::StopOutcome;
use legwork_queue::port::StopRoot;
use legwork_queue::port::Upkeep as _;
use legwork_queue::port::Watch as _;
use legwork_queue::port::Work as _;
use legwork_queue::port::WorkerReport;
use legwork_queue::settings::FleetSettings;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use redis::aio::MultiplexedConnection;

use crate::model::Letter;
use crate::model::Model;
use crate::model::WORKERS;
use crate::support::PrivateRedis;
use crate::support::TestSession;
use crate::support::completed;
use crate::support::next_number;

const CAP: u32 = 2;
/// Few enough that walks reach it.
const QUOTA: u32 = 6;
const DEEPEST: usize = 6;

/// One step. Numbers are indexes modulo the number of jobs or leases.
#[derive(Debug, Clone)]
enum Op {
    Enqueue { by: Option<usize>, priority: u8, retries: u32, key: Option<u8> },
    Claim { worker: usize, slots: u32, idle: bool },
    LeaveQuarantine(usize),
    Begin(usize),
    Append { lease: usize, back: u64, bytes: u64 },
    Renew(usize),
    Park(usize),
    Resume(usize),
    Finish(usize, u8),
    Release { lease: usize, lack: bool },
    Stop(usize),
    StopSession,
    SweepSession,
    Send(usize),
    Acknowledge(Option<usize>),
    Reap,
    Forget(usize),
    Close,
}

fn op() -> impl Strategy<Value = Op> {
    let which = 0..1000usize;
    prop_oneof![
        8 => (proptest::option::weighted(0.6, which.clone()), 0..3u8, 0..2u32, proptest::option::weighted(0.2, 0..2u8))
            .prop_map(|(by, priority, retries, key)| Op::Enqueue { by, priority, retries, key }),
        10 => (0..WORKERS, 1..4u32, any::<bool>()).prop_map(|(worker, slots, idle)| Op::Claim { worker, slots, idle }),
        1 => which.clone().prop_map(Op::LeaveQuarantine),
        3 => which.clone().prop_map(Op::Begin),
        4 => (which.clone(), 0..4u64, 0..9u64).prop_map(|(lease, back, bytes)| Op::Append { lease, back, bytes }),
        2 => which.clone().prop_map(Op::Renew),
        5 => which.clone().prop_map(Op::Park),
        4 => which.clone().prop_map(Op::Resume),
        6 => (which.clone(), 0..3u8).prop_map(|(lease, how)| Op::Finish(lease, how)),
        4 => (which.clone(), any::<bool>()).prop_map(|(lease, lack)| Op::Release { lease, lack }),
        2 => which.clone().prop_map(Op::Stop),
        1 => Just(Op::StopSession),
        1 => Just(Op::SweepSession),
        2 => which.clone().prop_map(Op::Send),
        2 => proptest::option::of(which.clone()).prop_map(Op::Acknowledge),
        5 => Just(Op::Reap),
        3 => which.prop_map(Op::Forget),
        1 => Just(Op::Close),
    ]
}

/// The model and the real queue, which take the same steps.
struct World {
    it: TestSession,
    raw: MultiplexedConnection,
    model: Model,
    ids: Vec<JobId>,
    leases: Vec<Lease>,
    workers: Vec<WorkerId>,
    owner: RunToken,
}

impl World {
    async fn open(redis: &PrivateRedis, namespace: &str, owned: Option<SessionEnd>) -> Self {
        let queue = redis.queue_in(namespace, &FleetSettings::default()).await;
        let it = TestSession::open_within(&queue, CAP, QUOTA).await;
        let owner = RunToken::random();
        if let Some(on_end) = owned {
            let (session, owner) = (it.session, Some(owner));
            let open =
                OpenSession { owner, on_end, cap: CAP, quota: QUOTA, ..OpenSession::unlimited(session) };
            queue.open(&open).await.unwrap();
        }
        let workers: Vec<WorkerId> = (0..WORKERS).map(|_| WorkerId::random_on("test")).collect();
        for worker in &workers {
            let heartbeat = Heartbeat {
                worker: worker.clone(),
                host: "test".into(),
                process: 1,
                lanes: vec![Lane::Queue("default".into())],
                slots: 3,
                used: 0,
                jobs: 0,
                draining: false,
                report: WorkerReport::default(),
            };
            queue.heartbeat(&heartbeat).await.unwrap();
        }
        let model = Model {
            owned: owned.is_some(),
            stops_with_owner: owned == Some(SessionEnd::Stop),
            ..Model::default()
        };
        let (ids, leases) = (Vec::new(), Vec::new());
        Self { it, raw: redis.raw().await, model, ids, leases, workers, owner }
    }

    async fn step(&mut self, op: Op) {
        let (jobs, leases) = (self.ids.len(), self.leases.len());
        match op {
            Op::Enqueue { by, priority, retries, key } => {
                let by = by.filter(|_| leases > 0).map(|by| self.pick_lease(by));
                self.enqueue(by, priority, retries, key).await;
            }
            Op::Claim { worker, slots, idle } => self.claim(worker, slots, idle).await,
            Op::Reap => {
                let lease = self.it.queue.keys().lease(0);
                let leased = self.in_order(&lease).await;
                let place = |member: &String| self.ids.iter().position(|id| id.uuid().to_string() == *member);
                let held: Vec<usize> = leased.iter().filter_map(place).collect();
                self.it.queue.reap(true).await.unwrap();
                self.model.reap(&held);
            }
            Op::Close => {
                self.it.queue.close(self.it.session, self.owner).await.unwrap();
                if self.model.owned {
                    self.model.mail.clear();
                }
                self.model.owned = false;
                self.model.closed |= !self.model.session_gone;
            }
            Op::StopSession | Op::SweepSession => self.whole_session(matches!(op, Op::StopSession)).await,
            Op::Acknowledge(of) => self.acknowledge(of.filter(|_| jobs > 0).map(|of| of % jobs)).await,
            Op::Stop(job) | Op::Send(job) | Op::Forget(job) if jobs > 0 => {
                self.job_step(&op, self.pick_job(&op, job)).await;
            }
            Op::Begin(lease)
            | Op::Append { lease, .. }
            | Op::Renew(lease)
            | Op::LeaveQuarantine(lease)
            | Op::Park(lease)
            | Op::Resume(lease)
            | Op::Finish(lease, _)
            | Op::Release { lease, .. }
                if leases > 0 =>
            {
                self.lease_step(&op, self.pick_lease(lease)).await;
            }
            _ => {}
        }
    }

    /// Mostly a lease that holds its job; sometimes any, which may be a zombie's.
    fn pick_lease(&self, at: usize) -> usize {
        let held = |lease: &usize| self.model.under(*lease).is_some_and(State::is_held);
        let holding: Vec<usize> = (0..self.leases.len()).filter(held).collect();
        if holding.is_empty() || at.is_multiple_of(4) {
            return at % self.leases.len();
        }
        holding[at % holding.len()]
    }

    /// Any job; for `Op::Forget` mostly one that has ended.
    fn pick_job(&self, op: &Op, at: usize) -> usize {
        let over = |job: &usize| !self.model.jobs[*job].gone && self.model.jobs[*job].state.is_terminal();
        let ended: Vec<usize> = (0..self.ids.len()).filter(over).collect();
        if ended.is_empty() || at.is_multiple_of(4) || !matches!(op, Op::Forget(_)) {
            return at % self.ids.len();
        }
        ended[at % ended.len()]
    }

    async fn enqueue(&mut self, by: Option<usize>, priority: u8, retries: u32, key: Option<u8>) {
        if self.model.session_gone {
            let again = TestSession::open_within(&self.it.queue, CAP, QUOTA).await;
            self.it = TestSession { worker: self.it.worker.clone(), ..again };
            self.model.session_gone = false;
            self.model.marked = false;
        }
        self.it.queue.store_team(self.it.session, &self.it.team, "{}").await.unwrap();
        let above = by.map(|by| self.model.leases[by].job);
        if above.is_some_and(|above| self.model.depth(above) >= DEEPEST) {
            return;
        }
        let refusal = match by.map(|by| self.model.under(by)) {
            _ if self.model.closed => Some(EnqueueRefusal::Closed),
            None if self.model.marked => Some(EnqueueRefusal::Stopping),
            None | Some(Some(State::Running | State::Waiting)) => None,
            Some(Some(State::Stopping)) => Some(EnqueueRefusal::Stopping),
            Some(_) => Some(EnqueueRefusal::Stale),
        };
        let known = (0..self.ids.len())
            .find(|&job| key.is_some() && !self.model.jobs[job].gone && self.model.jobs[job].key == key);
        let (unfinished, quota) = (self.model.unfinished(), u64::from(QUOTA));
        let is_full = known.is_none() && unfinished >= quota;
        let refusal = refusal.or(is_full.then_some(EnqueueRefusal::Full { unfinished, quota }));
        let mut job = self.it.job();
        job.job_options.priority = Priority::ALL[usize::from(priority)];
        job.job_options.retries = retries;
        job.idempotency_key = key.map(|key| IdempotencyKey {
            key: format!("k{key}"),
            request: "r".into(),
            in_namespace: key == 1,
        });
        let by = by.map_or(DispatchedBy::Root, |by| {
            let Lease { id, token } = self.leases[by];
            DispatchedBy::Job { id, token }
        });
        let id = known.map_or(job.id, |known| self.ids[known]);
        for _ in 0..2 {
            let answer = self.it.enqueue(by, vec![job.clone()]).await;
            match refusal {
                Some(refusal) => assert_eq!(answer, Err(refusal)),
                // A refused call may have reserved the key, for a job that is stored now.
                None if key == Some(1) && known.is_none() => {
                    let Ok([Enqueued::Stored(stored)]) = answer.as_deref() else {
                        unreachable!("{answer:?}")
                    };
                    job.id = *stored;
                }
                None => assert_eq!(answer, Ok(vec![Enqueued::Stored(id)])),
            }
        }
        if refusal.is_none() && known.is_none() {
            self.ids.push(job.id);
            self.model.store(above, priority, retries, key);
        }
    }

    async fn claim(&mut self, worker: usize, slots: u32, idle: bool) {
        let admitted = self.members("session", ":admitted:default").await;
        let mut eligible: Vec<usize> = (0..self.ids.len())
            .filter(|&job| admitted.contains(&self.ids[job].uuid().to_string()))
            .filter(|&job| self.model.jobs[job].state == State::Queued)
            .filter(|&job| !self.model.jobs[job].excluded.contains(&worker))
            .collect();
        // Jobs in quarantine go to a worker that holds nothing, before all others and each alone.
        let alone: Vec<usize> =
            eligible.iter().copied().filter(|&job| self.model.jobs[job].quarantine).collect();
        let is_alone = idle && !alone.is_empty();
        eligible.retain(|&job| self.model.jobs[job].quarantine == is_alone);
        let slots_taken = if is_alone { 1 } else { slots };
        let claim = Claim {
            shard: 0,
            worker: self.workers[worker].clone(),
            number: next_number(),
            slots,
            idle,
            lanes: vec![Lane::Queue("default".into())],
        };
        let claimed = self.it.queue.claim(&claim).await.unwrap().jobs;
        let again = self.it.queue.claim(&claim).await.unwrap().jobs;
        let ids = |batch: &[legwork_queue::port::Claimed]| batch.iter().map(|c| c.lease).collect::<Vec<_>>();
        assert_eq!(ids(&claimed), ids(&again), "a repeat gets the same");
        assert_eq!(claimed.len(), eligible.len().min(slots_taken as usize), "{eligible:?}");
        assert!(claimed.iter().all(|claimed| claimed.quarantine.is_some() == is_alone));
        let mut last = 0;
        for claimed in &claimed {
            let job = self.ids.iter().position(|id| *id == claimed.lease.id).unwrap();
            assert!(eligible.contains(&job));
            eligible.retain(|other| *other != job);
            last = last.max(self.model.jobs[job].priority);
            self.model.claimed(job, worker);
            assert_eq!(claimed.attempt, self.model.jobs[job].attempt);
            self.leases.push(claimed.lease);
        }
        let by_priority = eligible.iter().all(|&job| self.model.jobs[job].priority >= last);
        assert!(is_alone || by_priority, "by priority");
    }

    async fn whole_session(&mut self, stop: bool) {
        let root = StopRoot::Session { id: self.it.session, close: false };
        if stop {
            let answer = self.it.queue.stop(root, Asker::Operator, Cause::Operator).await.unwrap();
            if self.model.session_gone {
                assert_eq!(answer, StopOutcome::NotFound);
                return;
            }
            self.model.stop_session();
        } else {
            self.it.queue.sweep(root).await.unwrap();
            if self.model.marked {
                self.model.stop_session();
            }
        }
    }

    async fn acknowledge(&mut self, of: Option<usize>) {
        let dispatcher = of.map_or(Dispatcher::Root(self.it.session), |of| Dispatcher::Job(self.ids[of]));
        let mail = self.it.queue.mail(self.it.session, dispatcher).await.unwrap();
        let Some(first) = mail.first() else { return };
        self.it
            .queue
            .acknowledge(self.it.session, dispatcher, std::slice::from_ref(&first.id))
            .await
            .unwrap();
        let letter = self.letter(&first.content);
        let letters = of.map_or(&mut self.model.mail, |of| &mut self.model.jobs[of].mail);
        let at = letters.iter().position(|other| *other == letter).unwrap();
        letters.remove(at);
    }

    fn letter(&self, content: &MailEntryContent) -> Letter {
        match content {
            MailEntryContent::Ended(id) => {
                Letter::Ended(self.ids.iter().position(|other| other == id).unwrap())
            }
            MailEntryContent::Message(_) => Letter::Message,
        }
    }

    async fn job_step(&mut self, op: &Op, job: usize) {
        let (id, state, gone) = (self.ids[job], self.model.jobs[job].state, self.model.jobs[job].gone);
        let over = state.is_terminal();
        if let Op::Stop(_) = op {
            let answer =
                self.it.queue.stop(StopRoot::Job(id), Asker::Operator, Cause::Operator).await.unwrap();
            if gone {
                assert_eq!(answer, StopOutcome::NotFound);
            } else if over {
                assert_eq!(answer, StopOutcome::AlreadyEnded(state));
            } else {
                assert!(matches!(answer, StopOutcome::Marked(_)));
                self.model.stop(job);
            }
        } else if let Op::Send(_) = op {
            let wanted = match state {
                _ if gone => SendOutcome::NotFound,
                _ if over || state == State::Stopping => SendOutcome::NotRunning(state),
                _ => SendOutcome::Sent,
            };
            let request = RequestId::random().to_string();
            for _ in 0..2 {
                let sent =
                    self.it.queue.send(id, ("hi", None), &request, Duration::from_secs(60)).await.unwrap();
                assert_eq!(sent, wanted);
            }
            if wanted == SendOutcome::Sent {
                self.model.jobs[job].mail.push(Letter::Message);
            }
        } else {
            let answer = self.it.queue.forget(&[id], true).await.unwrap()[0];
            match answer {
                Forgotten::Forgotten => {
                    assert!(over && !gone);
                    self.model.forget(job);
                }
                // The sweep of its tree may still go through a job that dispatched.
                Forgotten::Live => assert!(!gone && (!over || self.model.jobs[job].dispatched)),
                Forgotten::Missing => assert!(gone),
                Forgotten::Spared => unreachable!("forced"),
            }
        }
    }
}

impl World {
    async fn lease_step(&mut self, op: &Op, at: usize) {
        let lease = self.leases[at];
        let job = self.model.leases[at].job;
        let queue = self.it.queue.clone();
        match *op {
            // Fences of forgotten jobs are not modelled.
            Op::Begin(_) | Op::Append { .. } if self.model.jobs[job].gone => {}
            Op::Begin(_) => {
                let output = self.model.jobs[job].output;
                let begun = queue.begin(&[(lease, self.model.leases[at].attempt)]).await.unwrap()[0];
                assert_eq!(begun.is_some(), self.model.begin(at));
                assert!(begun.is_none_or(|begun| begun.output_bytes == output));
            }
            Op::Append { back, bytes, .. } => {
                let offset = self.model.jobs[job].output.saturating_sub(back);
                let text = (offset..offset + bytes).map(letter_at).collect();
                let append = Append {
                    lease,
                    offset,
                    bytes: text,
                    entries: Vec::new(),
                    finished_turns: None,
                    waits_for: None,
                    usage: None,
                };
                let wanted = self.model.append(at, offset + bytes);
                let answer = queue.append(&[append]).await.unwrap()[0];
                assert_eq!(answer, wanted.map_or(Appended::Fenced, Appended::Stored));
            }
            Op::Renew(_) => {
                let renewal = Renewal { jobs: vec![lease], sessions: Vec::new() };
                assert_eq!(queue.renew(&renewal).await.unwrap().0, [self.model.renew(at)]);
            }
            Op::LeaveQuarantine(_) => self.leave_quarantine(at).await,
            Op::Park(_) => assert_eq!(queue.park(lease).await.unwrap(), self.model.park(at, false)),
            Op::Resume(_) => assert_eq!(queue.resume(lease).await.unwrap(), self.model.park(at, true)),
            Op::Finish(_, how) => {
                let (ending, event) = match how {
                    0 => (completed(), Event::Completed),
                    1 => {
                        let message = "no".into();
                        (Ending::Failed { cause: Cause::AgentError, message }, Event::Failed)
                    }
                    _ => (Ending::Stopped { cause: Cause::Tool }, Event::StopConfirmed),
                };
                assert_eq!(self.it.finish(lease, ending).await, self.model.finish(at, event));
            }
            Op::Release { lack, .. } => self.release(at, lack).await,
            _ => {}
        }
    }

    async fn release(&mut self, at: usize, lack: bool) {
        let (lease, job) = (self.leases[at], self.model.leases[at].job);
        let was = self.model.jobs[job].state;
        let worker = self.workers[self.model.leases[at].worker].clone();
        let mode = if lack { ReleaseMode::Lack("no key".into()) } else { ReleaseMode::Drain };
        let release = Release { lease, worker, mode, output_bytes: 0 };
        assert_eq!(self.it.queue.release(&release).await.unwrap(), self.model.release(at, lack));
        let is_scheduled = self.model.jobs[job].state == State::Scheduled;
        if lack && is_scheduled && was != State::Scheduled {
            self.schedule(job, "9e15").await;
        }
    }

    async fn leave_quarantine(&mut self, at: usize) {
        let holds = self
            .model
            .under(at)
            .is_some_and(|state| matches!(state, State::Running | State::Waiting | State::Stopping));
        assert_eq!(self.it.queue.leave_quarantine(self.leases[at]).await.unwrap(), holds);
        self.model.jobs[self.model.leases[at].job].quarantine &= !holds;
    }

    /// Sets when a scheduled job is due.
    async fn schedule(&mut self, job: usize, due: &str) {
        let mut command = redis::cmd("ZADD");
        command.arg(self.it.queue.keys().scheduled(0)).arg("XX").arg(due);
        command.arg(self.ids[job].uuid().to_string()).exec_async(&mut self.raw).await.unwrap();
    }

    /// The members of a sorted set, of the shard or of the session.
    async fn members(&mut self, of: &str, rest: &str) -> BTreeSet<String> {
        let tag = self.it.queue.keys().tag(0);
        let key = match of {
            "session" => format!("{tag}:session:{}{rest}", self.it.session),
            shard => format!("{tag}:{shard}"),
        };
        self.in_order(&key).await.into_iter().collect()
    }

    /// The members of a sorted set by score.
    async fn in_order(&mut self, key: &str) -> Vec<String> {
        redis::cmd("ZRANGE").arg(key).arg(0).arg(-1).query_async(&mut self.raw).await.unwrap()
    }

    async fn check(&mut self) {
        let jobs = self.it.queue.jobs(&self.ids).await.unwrap();
        for (at, (found, wanted)) in jobs.iter().zip(&self.model.jobs).enumerate() {
            let found = found.as_ref().map(|job| (job.status, job.attempt, job.quarantine.is_some()));
            let quarantine = wanted.quarantine && !wanted.state.is_terminal();
            let wanted = (!wanted.gone).then_some((wanted.state, wanted.attempt, quarantine));
            assert_eq!(found, wanted, "job {at}");
        }
        let listed = self.it.queue.list(&JobFilter::default(), 500, None).await.unwrap();
        let kept = self.model.jobs.iter().filter(|job| !job.gone).count();
        assert_eq!(listed.jobs.len(), kept, "every job is listed");
        self.check_sets().await;
        if !self.model.session_gone {
            self.check_dispatcher(None).await;
        }
        for job in 0..self.ids.len() {
            if !self.model.jobs[job].gone {
                self.check_dispatcher(Some(job)).await;
                let slice = self.it.queue.output(self.ids[job], 0, 4096).await.unwrap();
                let wanted: Vec<u8> = (0..self.model.jobs[job].output).map(letter_at).collect();
                assert_eq!(slice.bytes, wanted, "output of job {job}");
            }
        }
    }

    async fn check_sets(&mut self) {
        let admitted = self.members("session", ":admitted:default").await;
        let backlog = self.members("session", ":backlog:default").await;
        let scheduled = self.members("scheduled", "").await;
        let leased = self.members("lease", "").await;
        let quarantined = self.members("quarantine", "").await;
        assert!(
            backlog.is_empty() || admitted.len() >= CAP as usize,
            "a slot of the cap is free: {backlog:?}"
        );
        assert!(self.model.over_cap || admitted.len() <= CAP as usize + self.stopped_while_waiting());
        for (at, job) in self.model.jobs.iter().enumerate() {
            let id = self.ids[at].uuid().to_string();
            let has = |set: &BTreeSet<String>| set.contains(&id);
            let state = (!job.gone).then_some(job.state);
            let held = state.is_some_and(State::is_held);
            assert_eq!(has(&leased), held, "lease of job {at}, {state:?}");
            assert_eq!(has(&scheduled), state == Some(State::Scheduled), "schedule of job {at}");
            let waits_alone = state == Some(State::Queued) && job.quarantine && !has(&backlog);
            assert_eq!(has(&quarantined), waits_alone, "quarantine of job {at}");
            match state {
                Some(State::Queued) => {
                    assert!(has(&admitted) != has(&backlog), "job {at} is admitted or in the backlog")
                }
                Some(State::Running) => assert!(has(&admitted), "job {at} runs"),
                Some(State::Stopping) => assert!(!has(&backlog)),
                _ => assert!(!has(&admitted) && !has(&backlog), "job {at} is in neither"),
            }
        }
        let held = self.model.jobs.iter().filter(|job| !job.gone && job.state.is_held()).count();
        assert_eq!(leased.len(), held + usize::from(self.model.owned));
    }

    /// Jobs that count as admitted although they waited when they were stopped.
    fn stopped_while_waiting(&self) -> usize {
        self.model.jobs.iter().filter(|job| job.state == State::Stopping).count()
    }

    async fn check_dispatcher(&self, of: Option<usize>) {
        let dispatcher = of.map_or(Dispatcher::Root(self.it.session), |of| Dispatcher::Job(self.ids[of]));
        let live = self.it.queue.live_children(self.it.session, dispatcher).await.unwrap();
        assert_eq!(live, self.model.live_children(of), "live children of {of:?}");
        let mail = self.it.queue.mail(self.it.session, dispatcher).await.unwrap();
        let mut found: Vec<Letter> = mail.iter().map(|entry| self.letter(&entry.content)).collect();
        let mut wanted = of.map_or(&self.model.mail, |of| &self.model.jobs[of].mail).clone();
        found.sort();
        wanted.sort();
        assert_eq!(found, wanted, "mail of {of:?}");
    }

    /// Lets all jobs end, forgets them, and checks that no key is left.
    async fn end(mut self, namespace: &str) {
        for round in 0.. {
            assert!(round < 200, "jobs that never end: {:?}", self.model);
            if self.model.all_ended() {
                break;
            }
            for job in 0..self.ids.len() {
                self.schedule(job, "1").await;
            }
            self.model.make_due();
            self.step(Op::Reap).await;
            let before = self.leases.len();
            for worker in 0..WORKERS {
                for idle in [true, false] {
                    self.step(Op::Claim { worker, slots: 9, idle }).await;
                }
            }
            for lease in before..self.leases.len() {
                self.lease_step(&Op::Finish(lease, 0), lease).await;
            }
            self.check().await;
        }
        self.step(Op::Reap).await;
        self.step(Op::Reap).await;
        for job in 0..self.ids.len() {
            self.job_step(&Op::Forget(job), job).await;
            assert!(self.model.jobs[job].gone, "job {job} has a stop mark that is not dropped");
        }
        for worker in &self.workers {
            self.it.queue.goodbye(worker).await.unwrap();
        }
        self.it.queue.close(self.it.session, self.owner).await.unwrap();
        let pattern = format!("*legwork:{namespace}:*");
        let left: Vec<String> = redis::cmd("KEYS").arg(pattern).query_async(&mut self.raw).await.unwrap();
        let mut leaked = Vec::new();
        for key in left {
            let ttl: i64 = redis::cmd("TTL").arg(&key).query_async(&mut self.raw).await.unwrap();
            let stays = [":meta", ":ready:", ":wake:"].iter().any(|name| key.contains(name));
            if ttl < 0 && !stays {
                leaked.push(key);
            }
        }
        // A key that a refused dispatch reserved stays for its repeat.
        leaked.retain(|key| key != &format!("{{legwork:{namespace}:key:k1}}"));
        assert!(leaked.is_empty(), "leaked: {leaked:#?}");
    }
}

/// The byte at a place of every output.
fn letter_at(place: u64) -> u8 {
    b'a' + u8::try_from(place % 26).unwrap()
}

#[test]
fn random_steps_agree_with_the_model() {
    let redis = PrivateRedis::start();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut config = ProptestConfig { failure_persistence: None, ..ProptestConfig::default() };
    // 256 is the library's default: then PROPTEST_CASES sets no other number.
    if config.cases == 256 {
        config.cases = 200;
    }
    let walks = std::cell::Cell::new(0);
    let owned = prop_oneof![Just(None), Just(Some(SessionEnd::Keep)), Just(Some(SessionEnd::Stop))];
    let outcome =
        TestRunner::new(config).run(&(owned, proptest::collection::vec(op(), 1..60)), |(owned, ops)| {
            walks.set(walks.get() + 1);
            runtime.block_on(async {
                let namespace = format!("walk{}", walks.get());
                let mut world = World::open(&redis, &namespace, owned).await;
                for op in ops {
                    world.step(op).await;
                    world.check().await;
                }
                world.end(&namespace).await;
            });
            Ok(())
        });
    assert!(outcome.is_ok(), "{}", outcome.unwrap_err());
}
