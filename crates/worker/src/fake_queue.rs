//! A queue for tests of what a worker asks of it: claims and appends are answered as a test says, all else panics.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;
use legwork_common::id::Dispatcher;
use legwork_common::id::JobId;
use legwork_common::id::SessionId;
use legwork_common::id::WorkerId;
use legwork_common::job::TeamDigest;
use legwork_common::service::MailId;
use legwork_queue::QueueError;
use legwork_queue::port::Append;
use legwork_queue::port::Appended;
use legwork_queue::port::Begun;
use legwork_queue::port::Claim;
use legwork_queue::port::Claimed;
use legwork_queue::port::Claims;
use legwork_queue::port::Finish;
use legwork_queue::port::Finished;
use legwork_queue::port::Heartbeat;
use legwork_queue::port::Lane;
use legwork_queue::port::Lease;
use legwork_queue::port::MailEntry;
use legwork_queue::port::Parked;
use legwork_queue::port::Release;
use legwork_queue::port::Renewal;
use legwork_queue::port::Renewed;
use legwork_queue::port::WakeToken;
use legwork_queue::port::Work;
use tokio_util::sync::CancellationToken;

use crate::lease_clock::LeaseClock;

/// How a claim that was sent with a wait is answered; each with a wake token.
#[derive(Debug)]
pub(crate) enum Woken {
    /// With jobs.
    Jobs(Vec<Claimed>),
    /// With jobs, once their leases may have ended.
    Late(Vec<Claimed>),
    /// It was not made.
    Refused,
    /// Not, with an error.
    Lost,
    /// Not, before it is dropped.
    Never,
}

/// How an append is answered.
#[derive(Debug, Clone, Copy)]
pub(crate) enum AppendAnswer {
    /// It cannot be made now.
    Fails,
    /// It is stored, and took so long that the leases are in doubt.
    Slow,
}

/// The queue.
#[derive(Debug)]
pub(crate) struct FakeQueue {
    /// That of the worker.
    pub(crate) clock: LeaseClock,
    /// How claims with a wait are answered, in order.
    pub(crate) woken: Mutex<VecDeque<Woken>>,
    /// What a claim without a wait is answered.
    pub(crate) held: Mutex<Vec<Claimed>>,
    /// The numbers of all claims.
    pub(crate) numbers: Mutex<Vec<u64>>,
    /// The wake tokens that were returned.
    pub(crate) returned: Mutex<Vec<WakeToken>>,
    /// Cancelled as a wait begins.
    pub(crate) drains: CancellationToken,
    /// How appends are answered, in order; all later ones are stored.
    pub(crate) append_answers: Mutex<VecDeque<AppendAnswer>>,
    /// How many jobs each append was for.
    pub(crate) appends: Mutex<Vec<usize>>,
}

impl FakeQueue {
    /// A queue for a worker with this clock.
    pub(crate) fn new(clock: LeaseClock) -> Self {
        Self {
            clock,
            woken: Mutex::default(),
            held: Mutex::default(),
            numbers: Mutex::default(),
            returned: Mutex::default(),
            drains: CancellationToken::new(),
            append_answers: Mutex::default(),
            appends: Mutex::default(),
        }
    }
}

pub(crate) fn token() -> WakeToken {
    WakeToken { key: "wake".to_owned() }
}

fn lost() -> QueueError {
    QueueError::NotDurable { step: "fake", detail: String::new() }
}

#[async_trait]
impl Work for FakeQueue {
    async fn claim(&self, claim: &Claim) -> Result<Claims, QueueError> {
        self.numbers.lock().unwrap().push(claim.number);
        Ok(Claims { jobs: self.held.lock().unwrap().drain(..).collect(), clears: false })
    }

    fn claims_when_woken(&self) -> bool {
        true
    }

    async fn claim_when_woken(
        &self,
        claim: &Claim,
    ) -> Result<(Option<WakeToken>, Option<Claims>), QueueError> {
        self.numbers.lock().unwrap().push(claim.number);
        let sent = self.clock.now();
        let answer = self.woken.lock().unwrap().pop_front();
        let jobs = match answer.expect("no further wait") {
            Woken::Jobs(jobs) => Some(jobs),
            Woken::Late(jobs) => {
                while !self.clock.is_late(sent) {
                    tokio::task::yield_now().await;
                }
                Some(jobs)
            }
            Woken::Refused => None,
            Woken::Lost => return Err(lost()),
            Woken::Never => {
                self.drains.cancel();
                std::future::pending().await
            }
        };
        Ok((Some(token()), jobs.map(|jobs| Claims { jobs, clears: false })))
    }

    async fn return_wake(&self, token: WakeToken) -> Result<(), QueueError> {
        self.returned.lock().unwrap().push(token);
        Ok(())
    }

    async fn await_work(&self, _: &[Lane]) -> Result<Option<WakeToken>, QueueError> {
        unreachable!()
    }

    async fn begin(&self, _: &[(Lease, u32)]) -> Result<Vec<Option<Begun>>, QueueError> {
        unreachable!()
    }

    async fn renew(&self, _: &Renewal) -> Result<(Vec<Renewed>, Vec<Renewed>), QueueError> {
        unreachable!()
    }

    async fn append(&self, appends: &[Append]) -> Result<Vec<Appended>, QueueError> {
        self.appends.lock().unwrap().push(appends.len());
        match self.append_answers.lock().unwrap().pop_front() {
            Some(AppendAnswer::Fails) => return Err(lost()),
            Some(AppendAnswer::Slow) => self.clock.lapse(),
            None => {}
        }
        Ok(appends.iter().map(|append| Appended::Stored(append.offset + append.bytes.len() as u64)).collect())
    }

    async fn park(&self, _: Lease) -> Result<Parked, QueueError> {
        unreachable!()
    }

    async fn resume(&self, _: Lease) -> Result<Parked, QueueError> {
        unreachable!()
    }

    async fn leave_quarantine(&self, _: Lease) -> Result<bool, QueueError> {
        unreachable!()
    }

    async fn finish(&self, _: &[Finish]) -> Result<Vec<Finished>, QueueError> {
        unreachable!()
    }

    async fn confirm(&self, _: &Finish) -> Result<Option<Finished>, QueueError> {
        unreachable!()
    }

    fn confirms(&self) -> bool {
        unreachable!()
    }

    async fn release(&self, _: &Release) -> Result<Finished, QueueError> {
        unreachable!()
    }

    async fn heartbeat(&self, _: &Heartbeat) -> Result<bool, QueueError> {
        unreachable!()
    }

    async fn goodbye(&self, _: &WorkerId) -> Result<(), QueueError> {
        unreachable!()
    }

    async fn mail(&self, _: SessionId, _: Dispatcher) -> Result<Vec<MailEntry>, QueueError> {
        unreachable!()
    }

    async fn acknowledge(&self, _: SessionId, _: Dispatcher, _: &[MailId]) -> Result<(), QueueError> {
        unreachable!()
    }

    async fn team(&self, _: SessionId, _: &TeamDigest) -> Result<Option<String>, QueueError> {
        unreachable!()
    }

    async fn turns(&self, _: JobId, _: u64) -> Result<Vec<(u64, String)>, QueueError> {
        unreachable!()
    }

    async fn turn_age(&self, _: JobId, _: u64) -> Result<Option<Duration>, QueueError> {
        unreachable!()
    }
}
