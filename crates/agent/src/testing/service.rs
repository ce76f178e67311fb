//! Background agents and a mailbox in memory. All jobs complete as soon as the run waits for one.

use std::collections::BTreeMap;
use std::sync::Mutex;

use async_trait::async_trait;
use legwork_common::id::JobId;
use legwork_common::id::SessionId;
use legwork_common::job::Job;
use legwork_common::lifecycle::State;
use legwork_common::money::Money;
use legwork_common::service::BackgroundAgents;
use legwork_common::service::CallIndex;
use legwork_common::service::JobList;
use legwork_common::service::JobView;
use legwork_common::service::Mail;
use legwork_common::service::MailContent;
use legwork_common::service::MailId;
use legwork_common::service::Mailbox;
use legwork_common::service::OutputSlice;
use legwork_common::service::RunRequest;
use legwork_common::service::SendRequest;
use legwork_common::service::ServiceError;
use legwork_common::service::StopReply;
use legwork_common::service::WaitItem;
use legwork_common::service::WaitRequest;
use legwork_common::session_state::BudgetReservation;
use legwork_common::session_state::SessionState;
use legwork_common::session_state::Todo;
use legwork_common::session_state::TodoChange;
use legwork_common::session_state::TodoList;

/// The id of the job that was dispatched as this number, counted from 0.
pub(crate) fn job_id(number: usize) -> JobId {
    format!("agent_task_{number:08x}-1111-4111-8111-11111111abcd").parse().unwrap()
}

/// A job as `view` shows it. `result` is the error of a failed one.
pub(crate) fn viewed(number: usize, agent: &str, status: State, result: &str) -> JobView {
    let session: SessionId = "00000000-0000-4000-8000-00000000abcd".parse().unwrap();
    let job = Job {
        agent: agent.into(),
        task: "t".into(),
        status,
        error: (status == State::Failed).then(|| result.to_owned()),
        attempt: 1,
        runtime_ms: 2000,
        result: (status == State::Completed).then(|| result.to_owned()),
        ..Job::queued(job_id(number), session)
    };
    JobView { job, output: OutputSlice::default(), truncated: false, since: None, cut: None, seal: None }
}

#[derive(Debug, Default)]
struct Inner {
    requests: Vec<RunRequest>,
    jobs: Vec<JobView>,
    mail: Vec<Mail>,
    acknowledged: Vec<MailId>,
    sent: Vec<SendRequest>,
    settled: usize,
    waits: Vec<WaitRequest>,
    todos: Vec<Todo>,
    /// The session's budget; `None` for no limit.
    budget: Option<u64>,
    /// The session's budget in money; `None` for no limit.
    max_cost: Option<Money>,
    /// The arguments of each reservation: tokens used, tokens wanted.
    reserved: Vec<(u64, u64)>,
    /// What is spent of each pot, and what each run reported last.
    pots: BTreeMap<String, u64>,
    reports: BTreeMap<(String, String), u64>,
    /// How many reads of the mailbox fail before one is answered.
    failing_reads: usize,
}

#[derive(Debug, Default)]
pub(crate) struct FakeService(Mutex<Inner>);

impl FakeService {
    pub(crate) fn requests(&self) -> Vec<RunRequest> {
        self.0.lock().unwrap().requests.clone()
    }

    pub(crate) fn acknowledged(&self) -> Vec<String> {
        self.0.lock().unwrap().acknowledged.iter().map(|id| id.0.clone()).collect()
    }

    pub(crate) fn sent(&self) -> Vec<SendRequest> {
        self.0.lock().unwrap().sent.clone()
    }

    pub(crate) fn waits(&self) -> Vec<WaitRequest> {
        self.0.lock().unwrap().waits.clone()
    }

    pub(crate) fn settled_calls(&self) -> usize {
        self.0.lock().unwrap().settled
    }

    /// Lets the next reads of the mailbox fail.
    pub(crate) fn fail_mailbox(&self, reads: usize) {
        self.0.lock().unwrap().failing_reads = reads;
    }

    /// Puts a message into the mailbox.
    pub(crate) fn post(&self, id: &str, text: &str) {
        let content = MailContent::Message(text.into());
        self.0.lock().unwrap().mail.push(Mail { id: MailId(id.into()), content });
    }

    /// Puts the end of a job into the mailbox.
    pub(crate) fn post_end(&self, id: &str, view: JobView) {
        let content = MailContent::Ended(Box::new(view));
        self.0.lock().unwrap().mail.push(Mail { id: MailId(id.into()), content });
    }

    /// Gives the session a budget in money.
    pub(crate) fn set_max_cost(&self, max: Money) {
        self.0.lock().unwrap().max_cost = Some(max);
    }

    /// Gives the session a budget.
    pub(crate) fn set_budget(&self, tokens: u64) {
        self.0.lock().unwrap().budget = Some(tokens);
    }

    /// The arguments of each reservation: tokens used, tokens wanted.
    pub(crate) fn reserved(&self) -> Vec<(u64, u64)> {
        self.0.lock().unwrap().reserved.clone()
    }

    /// What is spent of each pot.
    pub(crate) fn pots(&self) -> BTreeMap<String, u64> {
        self.0.lock().unwrap().pots.clone()
    }

    /// Adds a job of the caller.
    pub(crate) fn have(&self, view: JobView) {
        self.0.lock().unwrap().jobs.push(view);
    }
}

impl Inner {
    /// Completes all jobs and puts their ends into the mailbox.
    fn complete_all(&mut self) {
        for (number, job) in self.jobs.iter_mut().enumerate() {
            if !job.job.status.is_terminal() {
                *job = viewed(number, &job.job.agent, State::Completed, &format!("result {number}"));
                let content = MailContent::Ended(Box::new(job.clone()));
                self.mail.push(Mail { id: MailId(format!("end-{number}")), content });
            }
        }
    }

    fn find(&self, id: JobId) -> Result<JobView, ServiceError> {
        let found = self.jobs.iter().find(|view| view.job.id == id).cloned();
        found.ok_or_else(|| ServiceError::NotFound(id.to_string()))
    }
}

#[async_trait]
impl BackgroundAgents for FakeService {
    async fn run(&self, request: RunRequest) -> Result<JobId, ServiceError> {
        let mut inner = self.0.lock().unwrap();
        if let Some(number) = inner.requests.iter().position(|known| known.call == request.call) {
            return Ok(job_id(number));
        }
        let number = inner.jobs.len();
        inner.jobs.push(viewed(number, &request.agent, State::Running, ""));
        inner.requests.push(request);
        Ok(job_id(number))
    }

    async fn list(&self) -> Result<JobList, ServiceError> {
        let jobs = self.0.lock().unwrap().jobs.iter().map(|view| view.job.clone()).collect();
        Ok(JobList { jobs, ..JobList::default() })
    }

    async fn view(&self, id: JobId, since: Option<u64>) -> Result<JobView, ServiceError> {
        let view = self.0.lock().unwrap().find(id)?;
        Ok(JobView { since, ..view })
    }

    async fn stop(&self, id: JobId) -> Result<StopReply, ServiceError> {
        let view = self.0.lock().unwrap().find(id)?;
        if view.job.status.is_terminal() {
            return Ok(StopReply::AlreadyEnded(view.job.status));
        }
        Ok(StopReply::Stopping)
    }

    async fn wait(&self, request: WaitRequest) -> Result<Vec<WaitItem>, ServiceError> {
        let mut inner = self.0.lock().unwrap();
        inner.complete_all();
        inner.waits.push(request.clone());
        let item = |id: String| match id.parse().ok().and_then(|id| inner.find(id).ok()) {
            Some(view) => WaitItem::Found(Box::new(view)),
            None => WaitItem::NotFound(id),
        };
        Ok(request.ids.into_iter().map(item).collect())
    }

    async fn send(&self, request: SendRequest) -> Result<(), ServiceError> {
        let mut inner = self.0.lock().unwrap();
        let status = inner.find(request.id)?.job.status;
        if status.is_terminal() {
            return Err(ServiceError::NotRunning { id: request.id, status });
        }
        inner.sent.push(request);
        Ok(())
    }
}

#[async_trait]
impl SessionState for FakeService {
    async fn todos(&self, change: TodoChange, _call: Option<CallIndex>) -> Result<TodoList, ServiceError> {
        let todos = &mut self.0.lock().unwrap().todos;
        let first_added = todos.len();
        match change {
            TodoChange::Read => {}
            TodoChange::Add(texts) => {
                todos.extend(texts.into_iter().zip(first_added..).map(|(description, place)| Todo {
                    id: Todo::id_at(place),
                    description,
                    status: "pending".into(),
                }))
            }
            TodoChange::Update(updates) => {
                for (id, status) in updates {
                    todos[Todo::index(&id).unwrap()].status = status;
                }
            }
        }
        Ok(TodoList { todos: todos.clone(), first_added })
    }

    async fn reserve(&self, used: u64, wanted: u64) -> Result<BudgetReservation, ServiceError> {
        let mut inner = self.0.lock().unwrap();
        inner.reserved.push((used, wanted));
        Ok(match inner.budget {
            None => BudgetReservation::Unlimited,
            Some(budget) if used + wanted > budget => BudgetReservation::Exhausted { spent: used, budget },
            Some(_) => BudgetReservation::Granted,
        })
    }

    async fn cost_limit(&self) -> Result<Option<Money>, ServiceError> {
        Ok(self.0.lock().unwrap().max_cost)
    }

    async fn spend(&self, run: &str, used: &[(String, u64)]) -> Result<Vec<u64>, ServiceError> {
        let mut inner = self.0.lock().unwrap();
        let mut totals = Vec::new();
        for (pot, used) in used {
            let last = inner.reports.insert((run.to_owned(), pot.clone()), *used).unwrap_or_default();
            let spent = inner.pots.entry(pot.clone()).or_default();
            *spent += used - last;
            totals.push(*spent);
        }
        Ok(totals)
    }
}

#[async_trait]
impl Mailbox for FakeService {
    async fn mail(&self) -> Result<Vec<Mail>, ServiceError> {
        let mut inner = self.0.lock().unwrap();
        if let Some(left) = inner.failing_reads.checked_sub(1) {
            inner.failing_reads = left;
            return Err(ServiceError::Unavailable("down".into()));
        }
        Ok(inner.mail.clone())
    }

    async fn acknowledge(&self, mail: &[MailId]) -> Result<(), ServiceError> {
        let mut inner = self.0.lock().unwrap();
        inner.acknowledged.extend_from_slice(mail);
        inner.mail.retain(|piece| !mail.contains(&piece.id));
        Ok(())
    }

    async fn settled(&self) -> Result<(), ServiceError> {
        let mut inner = self.0.lock().unwrap();
        inner.settled += 1;
        inner.complete_all();
        Ok(())
    }
}
