//! The service trait over the port, for one caller: the root of a session, or one of its running jobs.

mod idempotency_key;
mod mailbox;
mod proven;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use legwork_common::id::Dispatcher;
use legwork_common::id::JobId;
use legwork_common::id::SessionId;
use legwork_common::job::Cause;
use legwork_common::job::JobSpec;
use legwork_common::job::MAX_DEPTH;
use legwork_common::job::TeamDigest;
use legwork_common::money::Money;
use legwork_common::policy::Policy;
use legwork_common::question::Answer;
use legwork_common::question::Approvals;
use legwork_common::question::Question;
use legwork_common::service::BackgroundAgents;
use legwork_common::service::CallIndex;
use legwork_common::service::JobList;
use legwork_common::service::JobView;
use legwork_common::service::RunRequest;
use legwork_common::service::SendRequest;
use legwork_common::service::ServiceError;
use legwork_common::service::StopReply;
use legwork_common::service::WaitDetail;
use legwork_common::service::WaitItem;
use legwork_common::service::WaitRequest;
use legwork_common::session_state::BudgetReservation;
use legwork_common::session_state::SessionState;
use legwork_common::session_state::TodoChange;
use legwork_common::session_state::TodoList;
use legwork_common::team::Team;
use legwork_common::trace::TraceParent;
use legwork_signing::AnswerTerms;
use legwork_signing::JobSigner;
use legwork_signing::Trust;
use legwork_spans::SPAN_TARGET;
use tokio::time::Instant;
use tracing::Instrument as _;
use tracing::Span;

use self::proven::Proofs;
use crate::observer::Observer;
use crate::observer::POLL_INTERVAL;
use crate::port::Asked;
use crate::port::Asker;
use crate::port::Dispatch as _;
use crate::port::DispatchedBy;
use crate::port::Enqueue;
use crate::port::EnqueueRefusal;
use crate::port::Enqueued;
use crate::port::Lease;
use crate::port::NewJob;
use crate::port::Questions as _;
use crate::port::SessionStateRefusal;
use crate::port::SessionStateStore as _;
use crate::port::StopOutcome;
use crate::port::StopRoot;
use crate::port::Watch as _;
use crate::queue::ENQUEUE_BATCH_SIZE;
use crate::queue::EXCERPT_BYTES;
use crate::stored::question::sealed_texts;

/// A caller of the service, and what its jobs inherit from it.
#[derive(Debug, Clone)]
pub struct Caller {
    /// The session that it belongs to.
    pub session: SessionId,
    /// The root, or a running job with its run token.
    pub by: DispatchedBy,
    /// The team that its jobs belong to.
    pub team: TeamDigest,
    /// The team itself as JSON, stored before the first job that needs it.
    pub team_json: Arc<str>,
    /// The folder that its jobs run in, on a worker of the same machine.
    pub working_dir: Option<String>,
    /// Whether idempotency keys are unique in the whole namespace; else in the session.
    pub keys_in_namespace: bool,
    /// The options of jobs whose requests have none.
    pub policy: Arc<Policy>,
    /// The trace that its jobs belong to.
    pub trace: Option<TraceParent>,
    /// The agent that the session's root runs, which none of the jobs may run again; `None` where no agent does.
    pub root_agent: Option<String>,
    /// What becomes of their calls that need a person's approval; `None` for what their workers' policies say.
    pub approvals: Option<Approvals>,
}

impl Caller {
    /// The caller as a dispatcher.
    pub fn dispatcher(&self) -> Dispatcher {
        match self.by {
            DispatchedBy::Root => Dispatcher::Root(self.session),
            DispatchedBy::Job { id, .. } => Dispatcher::Job(id),
        }
    }
}

/// The outcome of several requests.
#[derive(Debug, Default)]
pub struct Batch {
    /// One for each request, in their order; without those of a batch that was refused, and of the batches after it.
    pub answers: Vec<Result<JobId, ServiceError>>,
    /// Why the rest was not stored; `None` where all was.
    pub refused: Option<ServiceError>,
}

/// A question of a job that waits for a person.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WaitingQuestion {
    id: JobId,
    number: u32,
    expires_in: Duration,
}

/// The service of one caller. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Service {
    observer: Observer,
    caller: Caller,
    /// Whether [`settled`](legwork_common::service::Mailbox::settled) waits for the caller's jobs.
    waits: bool,
    signer: Option<JobSigner>,
    /// Which answers and messages count; `None` for all.
    trust: Option<Arc<Trust>>,
    /// What is shown of other jobs; `None` for all.
    proofs: Option<Arc<Proofs>>,
}

impl Service {
    /// The service of `caller`, which waits for its jobs at the end of its turn.
    pub fn new(observer: Observer, caller: Caller) -> Self {
        Self { observer, caller, waits: true, signer: None, trust: None, proofs: None }
    }

    /// The same service, whose jobs are signed where there is a signer.
    #[must_use]
    pub fn signed_by(self, signer: Option<JobSigner>) -> Self {
        Self { signer, ..self }
    }

    /// The same service, which accepts only those answers and messages that a trust file does, where there is one, and shows of
    /// other jobs only what it accepts. Agents are named as `team` names them, which is the caller's, verified.
    #[must_use]
    pub fn trusting(self, trust: Option<Arc<Trust>>, team: Option<Arc<Team>>) -> Self {
        let proofs = Proofs::new(trust.as_ref(), self.caller.session, team);
        Self { trust, proofs, ..self }
    }

    /// The same service, whose [`settled`](legwork_common::service::Mailbox::settled) returns at once: for a root that stops or
    /// leaves its jobs when its turn ends.
    pub fn without_waiting(self) -> Self {
        Self { waits: false, ..self }
    }

    /// Dispatches several jobs, in the order of the requests, in batches. If the queue refuses one of the batches, the
    /// answer has what was stored before it. A crash in between leaves the batches before it stored; a repeat with the
    /// same keys finds them.
    ///
    /// # Errors
    ///
    /// [`ServiceError`] when no batch is known to be stored; a repeat with the same keys finds what is.
    pub async fn run_all(&self, requests: Vec<RunRequest>) -> Result<Batch, ServiceError> {
        let mut batch = Batch::default();
        let mut requests = requests.into_iter().peekable();
        while requests.peek().is_some() {
            match self.run_batch(requests.by_ref().take(ENQUEUE_BATCH_SIZE).collect()).await {
                Ok(answers) => batch.answers.extend(answers),
                Err(error) if batch.answers.is_empty() => return Err(error),
                Err(error) => {
                    batch.refused = Some(error);
                    break;
                }
            }
        }
        Ok(batch)
    }

    /// Refuses a request whose agent is on the way from the root down to the caller. The way of a job never changes, so it
    /// is read before the job is stored.
    async fn check_way(&self, requests: &[RunRequest]) -> Result<(), ServiceError> {
        if self.caller.policy.allows_recursion() {
            return Ok(());
        }
        let mut way: Vec<String> = self.caller.root_agent.iter().cloned().collect();
        if let DispatchedBy::Job { id, .. } = self.caller.by {
            way.extend(self.queue().agents_down_to(id).await?);
        }
        match requests.iter().find(|request| way.contains(&request.agent)) {
            None => Ok(()),
            Some(again) => {
                way.push(again.agent.clone());
                Err(ServiceError::Cycle { way })
            }
        }
    }

    /// Dispatches one batch. The team is stored first where the queue does not have it: most often an earlier job did.
    pub(crate) async fn run_batch(
        &self,
        requests: Vec<RunRequest>,
    ) -> Result<Vec<Result<JobId, ServiceError>>, ServiceError> {
        let span = self.dispatch_span(&requests);
        let trace = legwork_spans::trace_parent(&span).or_else(|| self.caller.trace.clone());
        self.store_batch(requests, trace).instrument(span).await
    }

    /// The span of one dispatch. In a run it is below the call of the tool that dispatches, elsewhere in the caller's trace.
    fn dispatch_span(&self, requests: &[RunRequest]) -> Span {
        let span = tracing::info_span!(
            target: SPAN_TARGET,
            "dispatch",
            otel.kind = "producer",
            messaging.system = "legwork",
            messaging.operation.name = "dispatch",
            messaging.operation.type = "send",
            messaging.batch.message_count = requests.len(),
            gen_ai.agent.name = requests.first().map(|request| request.agent.as_str()),
            gen_ai.conversation.id = %self.caller.session,
        );
        if legwork_spans::trace_parent(&Span::current()).is_none() {
            legwork_spans::set_parent(&span, self.caller.trace.as_ref());
        }
        span
    }

    async fn store_batch(
        &self,
        requests: Vec<RunRequest>,
        trace: Option<TraceParent>,
    ) -> Result<Vec<Result<JobId, ServiceError>>, ServiceError> {
        self.check_way(&requests).await?;
        let keys: Vec<Option<String>> = requests.iter().map(|request| request.key.clone()).collect();
        let request = Enqueue {
            session: self.caller.session,
            by: self.caller.by,
            team: self.caller.team.clone(),
            jobs: requests.into_iter().map(|request| self.new_job(request, trace.clone())).collect(),
            signer: self.signer.clone(),
        };
        let mut stored = self.queue().enqueue(&request).await?;
        if stored == Err(EnqueueRefusal::NoTeam) {
            let Caller { session, team, team_json, .. } = &self.caller;
            self.queue().store_team(*session, team, team_json).await?;
            stored = self.queue().enqueue(&request).await?;
        }
        let stored = stored.map_err(|refusal| self.refused(refusal))?;
        Ok(stored
            .into_iter()
            .zip(keys)
            .map(|(outcome, key)| match outcome {
                Enqueued::Stored(id) => Ok(id),
                // Only an operator's retry names a job that it retries.
                Enqueued::Retried(id) => Ok(id),
                Enqueued::Conflict(id) => Err(ServiceError::Conflict { key: key.unwrap_or_default(), id }),
            })
            .collect())
    }

    /// One job below the caller, as soon as it has changed: see [`Observer::view_grown`].
    ///
    /// # Errors
    ///
    /// [`ServiceError::NotFound`] for a job that is not below the caller, or [`ServiceError::Unavailable`].
    pub async fn view_grown(
        &self,
        id: JobId,
        since: Option<u64>,
        deadline: Instant,
    ) -> Result<JobView, ServiceError> {
        self.check_reach(id).await?;
        self.proven(self.observer.view_grown(id, since, deadline).await?, None).await
    }

    /// Whether all jobs that the caller dispatched have ended.
    ///
    /// # Errors
    ///
    /// [`ServiceError`] when Redis cannot be reached.
    pub async fn is_settled(&self) -> Result<bool, ServiceError> {
        let live = self.queue().live_children(self.caller.session, self.caller.dispatcher()).await;
        live.map(|live| live == 0).map_err(|error| self.plain(error.into()))
    }

    /// Asks a person about a call of the caller, which is a job: the answer, or the question that waits for one.
    ///
    /// # Errors
    ///
    /// [`ServiceError`] when the caller's attempt is over, or Redis cannot be reached.
    pub async fn ask(
        &self,
        call: CallIndex,
        question: &Question,
        expiry: Duration,
    ) -> Result<Result<Answer, WaitingQuestion>, ServiceError> {
        let DispatchedBy::Job { id, token } = self.caller.by else { return Err(ServiceError::LeaseLost) };
        match self.queue().ask(Lease { id, token }, call, question, expiry).await? {
            Asked::Open { number, expires_in } => Ok(Err(WaitingQuestion { id, number, expires_in })),
            Asked::Answered(answer, seal) => {
                Ok(Ok(self.trusted_answer(id, (call, question), answer, seal.as_deref())?))
            }
            Asked::Stopping => Err(ServiceError::Stopping),
            Asked::Lost => Err(ServiceError::LeaseLost),
        }
    }

    /// The answer, or a denial in the place of one that no trusted person signed: the call is not made then.
    fn trusted_answer(
        &self,
        job: JobId,
        (call, question): (CallIndex, &Question),
        answer: Answer,
        seal: Option<&str>,
    ) -> Result<Answer, ServiceError> {
        let Some(trust) = self.trust.as_ref().filter(|_| answer != Answer::Expired) else {
            return Ok(answer);
        };
        let [place, asked, text] = sealed_texts(call, question, &answer)?;
        let terms = AnswerTerms { job, place: &place, question: &asked, answer: &text };
        match trust.check_answer(&terms, seal) {
            Ok(()) => Ok(answer),
            Err(refusal) => {
                tracing::warn!(%job, %refusal, "an answer counts as a denial");
                Ok(Answer::Denied { why: Some(refusal.to_string()) })
            }
        }
    }

    /// Waits until a question has an answer, or its time is over: asking again then answers. Dropping the future changes
    /// nothing.
    ///
    /// # Errors
    ///
    /// [`ServiceError`] when Redis cannot be reached.
    pub async fn until_decided(&self, question: WaitingQuestion) -> Result<(), ServiceError> {
        // `None` for a time beyond the clock's range, which never comes.
        let expires = Instant::now().checked_add(question.expires_in);
        let channel = self.queue().keys().session_channel(self.caller.session);
        let mut listener = self.observer.hints().listen(channel).await;
        while expires.is_none_or(|expires| Instant::now() < expires)
            && self.queue().decided(question.id, question.number).await?.is_none()
        {
            // A hint or the timeout: the answer is read again either way.
            let poll = Instant::now() + POLL_INTERVAL;
            let until = expires.map_or(poll, |expires| expires.min(poll));
            let _hint = tokio::time::timeout_at(until, listener.next()).await;
        }
        Ok(())
    }

    fn queue(&self) -> &crate::queue::Queue {
        self.observer.queue()
    }

    fn refused(&self, refusal: EnqueueRefusal) -> ServiceError {
        match refusal {
            EnqueueRefusal::NoSession => ServiceError::NotFound(self.caller.session.to_string()),
            EnqueueRefusal::Closed => ServiceError::SessionClosed(self.caller.session.to_string()),
            EnqueueRefusal::Stale => ServiceError::LeaseLost,
            EnqueueRefusal::TooDeep => ServiceError::TooDeep(MAX_DEPTH),
            EnqueueRefusal::Stopping => ServiceError::Stopping,
            EnqueueRefusal::Full { unfinished, quota } => ServiceError::SessionFull { unfinished, quota },
            EnqueueRefusal::NoTeam => ServiceError::Full {
                what: "Redis",
                detail: "the team was dropped between two calls".to_owned(),
            },
        }
    }

    fn state_refused(&self, refusal: SessionStateRefusal) -> ServiceError {
        match refusal {
            SessionStateRefusal::NoSession => ServiceError::NotFound(self.caller.session.to_string()),
            SessionStateRefusal::Stale => ServiceError::LeaseLost,
            SessionStateRefusal::Full => {
                ServiceError::Full { what: "the shared todo list", detail: "it has 1,000 todos".to_owned() }
            }
        }
    }

    fn new_job(&self, request: RunRequest, trace: Option<TraceParent>) -> NewJob {
        let job_options =
            request.job_options.clone().unwrap_or_else(|| self.caller.policy.job_options(&request.agent));
        let idempotency_key = idempotency_key::key_of(&self.caller, &request, &job_options);
        NewJob {
            id: JobId::random_in(self.caller.session),
            spec: JobSpec {
                agent: request.agent,
                task: request.task,
                safety: request.safety,
                expected_output: request.expected_output,
                team: self.caller.team.clone(),
                working_dir: self.caller.working_dir.clone(),
                key: request.key,
                retry_of: None,
                fresh: false,
                budget: job_options.budget,
                trace,
                root_agent: self.caller.root_agent.clone(),
                approvals: self.caller.approvals,
                notify: job_options.notify.clone(),
            },
            job_options,
            idempotency_key,
            again: false,
        }
    }

    async fn waited(&self, request: WaitRequest) -> Result<Vec<WaitItem>, ServiceError> {
        let parsed: Vec<Option<JobId>> = request.ids.iter().map(|text| text.trim().parse().ok()).collect();
        let known: Vec<JobId> = parsed.iter().flatten().copied().collect();
        let mut below =
            self.queue().below(&known, self.caller.session, self.caller.dispatcher()).await?.into_iter();
        let in_reach = parsed.into_iter().map(|id| id.filter(|_| below.next() == Some(true)));
        let ids: Vec<_> = request.ids.into_iter().zip(in_reach).collect();
        let deadline = request.timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let (detail, excerpt) = match (request.detail, &self.proofs) {
            (WaitDetail::Whole, _) => (WaitDetail::Whole, None),
            // What of a text is left out cannot be checked.
            (WaitDetail::Status, Some(_)) => (WaitDetail::Excerpt, Some(EXCERPT_BYTES)),
            (detail, _) => (detail, Some(EXCERPT_BYTES)),
        };
        self.proven_items(self.observer.wait(&ids, request.mode, detail, deadline).await?, excerpt).await
    }

    /// Refuses a job that is not below the caller, as if it did not exist.
    async fn check_reach(&self, id: JobId) -> Result<(), ServiceError> {
        if self.reaches(id).await? { Ok(()) } else { Err(ServiceError::NotFound(id.to_string())) }
    }

    /// Whether a job is below the caller.
    async fn reaches(&self, id: JobId) -> Result<bool, ServiceError> {
        Ok(self.queue().is_below(id, self.caller.session, self.caller.dispatcher()).await?)
    }
}

#[async_trait]
impl BackgroundAgents for Service {
    async fn run(&self, request: RunRequest) -> Result<JobId, ServiceError> {
        let stored = self.run_all(vec![request]).await;
        let id = stored.and_then(|mut stored| stored.answers.pop().unwrap_or(Err(ServiceError::LeaseLost)));
        id.map_err(|error| self.plain(error))
    }

    async fn list(&self) -> Result<JobList, ServiceError> {
        let list = self.queue().children(self.caller.session, self.caller.dispatcher()).await;
        list.map(|list| self.proven_list(list)).map_err(|error| self.plain(error.into()))
    }

    async fn view(&self, id: JobId, since: Option<u64>) -> Result<JobView, ServiceError> {
        let view = async {
            self.check_reach(id).await?;
            self.proven(self.observer.view(id, since).await?, None).await
        };
        view.await.map_err(|error| self.plain(error))
    }

    async fn stop(&self, id: JobId) -> Result<StopReply, ServiceError> {
        let asker = match self.caller.by {
            DispatchedBy::Root => Asker::Root,
            DispatchedBy::Job { id, .. } => Asker::Job(id),
        };
        let stopped = async {
            self.check_reach(id).await?;
            match self.observer.stop(StopRoot::Job(id), asker, Cause::Tool).await? {
                StopOutcome::Marked(_) => Ok(StopReply::Stopping),
                StopOutcome::AlreadyEnded(state) => Ok(StopReply::AlreadyEnded(state)),
                StopOutcome::NotFound => Err(ServiceError::NotFound(id.to_string())),
            }
        };
        stopped.await.map_err(|error| self.plain(error))
    }

    async fn wait(&self, request: WaitRequest) -> Result<Vec<WaitItem>, ServiceError> {
        self.waited(request).await.map_err(|error| self.plain(error))
    }

    async fn send(&self, request: SendRequest) -> Result<(), ServiceError> {
        let key = idempotency_key::message_key(&self.caller, request.call);
        let signer = self.signer.as_ref().map(JobSigner::key);
        let seal = signer.map(|key| key.seal_message(request.id, &request.message));
        let sent = async {
            self.check_reach(request.id).await?;
            self.observer.send(request.id, &request.message, &key, seal.as_deref()).await
        };
        sent.await.map_err(|error| self.plain(error))
    }
}

#[async_trait]
impl SessionState for Service {
    async fn todos(&self, change: TodoChange, call: Option<CallIndex>) -> Result<TodoList, ServiceError> {
        let Caller { session, by, .. } = self.caller;
        let call = idempotency_key::recorded_place(&self.caller, call);
        self.queue().todos(session, by, &change, call).await?.map_err(|refusal| self.state_refused(refusal))
    }

    async fn reserve(&self, used: u64, wanted: u64) -> Result<BudgetReservation, ServiceError> {
        let Caller { session, by, .. } = self.caller;
        self.queue().reserve(session, by, used, wanted).await?.map_err(|refusal| self.state_refused(refusal))
    }

    async fn cost_limit(&self) -> Result<Option<Money>, ServiceError> {
        Ok(self.queue().cost_limit(self.caller.session).await?)
    }

    async fn spend(&self, run: &str, used: &[(String, u64)]) -> Result<Vec<u64>, ServiceError> {
        let Caller { session, by, .. } = self.caller;
        self.queue().spend(session, by, run, used).await?.map_err(|refusal| self.state_refused(refusal))
    }
}
