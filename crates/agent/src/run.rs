//! Runs one agent to its end: [`turn`](crate::turn) decides each step, this carries it out.
//!
//! ```text
//! recorded turns ─► next step ─┬─ Work ──────► all open calls at once, each result recorded ─► next step
//!                              ├─ Ask ───────► lease, handoff, mail, summary, budget, reply ─► next step
//!                              ├─ Rest ──────► until no job of the agent runs ─┬─ mail ──────► next step
//!                              │                                               └─ no mail ───► completed
//!                              └─ Exhausted ─► failed; so does a model that repeats itself
//! ```
//!
//! What can happen at any await:
//!
//! - **The run is cancelled.** Each wait is raced against the token, and a record that loses the race is durable or
//!   not. Both are safe, because nothing is done after it: a reply is recorded before its first call starts, a
//!   result before the reply that sees it, so the next attempt never misses the cause of something that was done.
//! - **The lease is lost**, or the worker suspends the attempt. The journal reports both as lost. The run then ends
//!   without another write, because another attempt may be writing already.
//! - **The run waits for its own jobs.** The worker may park the job for that time and give its slot to another.
//!   The run does not notice, except that the lease is checked again before anything is started after the wait.
//! - **The process dies.** The next attempt is given the recorded entries and begins with the same decision that
//!   this one would have made next.

mod agents;
mod approval;
mod budget;
mod cached;
mod command;
mod compact;
mod excerpt;
mod halt;
mod hooks;
mod inner;
mod mail;
mod model_call;
mod open_agent;
mod pots;
mod spans;
mod state;
mod submitted;
mod tool_calls;
mod written;

use std::ops::ControlFlow;
use std::sync::Arc;

use legwork_common::job::Cause;
use legwork_common::job::Usage;
use legwork_common::secrets::Secrets;
use legwork_common::team::AgentKind;
use legwork_common::team::Team;
use serde_json::json;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use self::command::Program;
use self::compact::Summarized;
use self::halt::Halt;
use self::model_call::NoReply;
use self::open_agent::OpenAgent;
use self::pots::Pots;
use self::state::RunState;
use crate::active_agent::ActiveAgent;
use crate::assignment::Assignment;
use crate::assignment::Opening;
use crate::assignment::Outcome;
use crate::assignment::Ports;
use crate::hooks::STOP;
use crate::journal::RedactingJournal;
use crate::person::Person;
use crate::person::RedactingPerson;
use crate::pruning;
use crate::turn::Step;
use crate::turn::Transcript;

/// Runs an agent from its recorded turns to its end.
///
/// Cancelling the token ends the model call and every tool, with the processes that they started, and the outcome
/// is [`Outcome::Stopped`] within about two seconds. Dropping the future does the same without waiting for the
/// processes. A crash leaves the recorded turns, from which the next attempt resumes.
///
/// A program runs thousands of these at once, which mostly wait for a model. A future is as large as its largest wait and all
/// that it was ever given by value, so what is rare or over before the first model call is in boxes of its own.
pub fn run(
    assignment: Assignment,
    ports: Ports,
    cancel: CancellationToken,
) -> impl Future<Output = Outcome> + Send {
    // Not an `async fn`, whose future would hold both for as long as it lives.
    run_boxed(Box::new(assignment), Box::new(ports), cancel)
}

async fn run_boxed(assignment: Box<Assignment>, ports: Box<Ports>, cancel: CancellationToken) -> Outcome {
    let team = Arc::clone(&assignment.team);
    let Some(agent) = team.agent(&assignment.agent) else {
        let message = format!("the team has no agent `{}`", assignment.agent);
        return Outcome::Failed { cause: Cause::Rejected, message, usage: Usage::default() };
    };
    let secrets = Arc::clone(&ports.environment.secrets);
    let journal = Arc::new(RedactingJournal::new(Arc::clone(&ports.journal), Arc::clone(&secrets)));
    let ports = redacting(ports, &journal, &secrets);
    let span = spans::of_agent(&agent.name);
    let running = async {
        match &agent.kind {
            AgentKind::Models(_) | AgentKind::Auto => run_model(&team, assignment, ports, cancel).await,
            AgentKind::Command { program, args, env, working_dir } => {
                let program =
                    Program { name: program, args, variables: env, working_dir: working_dir.as_deref() };
                let input = command::input(agent, &assignment.opening);
                let ended = Box::pin(command::run(program, input, &ports, &cancel)).await;
                (ended, Usage::default())
            }
        }
    };
    let (end, usage) = running.instrument(span.clone()).await;
    if let Err(Halt::Failed { cause, .. }) = &end {
        spans::record_error(&span, cause.as_str());
    }
    let redacted = |text: String| secrets.redacted(&text).into_owned();
    match Box::pin(journal.finish()).await.map_err(Halt::from).and(end) {
        Ok(result) => Outcome::Completed { result: redacted(result), usage },
        Err(Halt::Failed { cause, message }) => Outcome::Failed { cause, message: redacted(message), usage },
        Err(Halt::Stopped) => Outcome::Stopped { usage },
        Err(Halt::Lost) => Outcome::Lost,
    }
}

/// The ports, which let no secret through to a journal or to a person.
fn redacting(mut ports: Box<Ports>, journal: &Arc<RedactingJournal>, secrets: &Arc<Secrets>) -> Box<Ports> {
    ports.journal = Arc::clone(journal) as _;
    ports.person = ports
        .person
        .take()
        .map(|inner| Arc::new(RedactingPerson { inner, secrets: Arc::clone(secrets) }) as Arc<dyn Person>);
    ports
}

/// Runs an agent that a model drives, and the agents that the conversation is handed to.
async fn run_model(
    team: &Arc<Team>,
    assignment: Box<Assignment>,
    ports: Box<Ports>,
    cancel: CancellationToken,
) -> (Result<String, Halt>, Usage) {
    let is_prompted = matches!(assignment.opening, Opening::Conversation { .. });
    let mut state = match Box::pin(opened(team, assignment, ports, cancel)).await {
        Ok(state) => state,
        Err((halt, usage)) => return (Err(halt), usage),
    };
    let end = match Box::pin(state.submit_prompt(is_prompted)).await {
        Ok(()) => state.drive().await,
        Err(halt) => Err(halt),
    };
    Box::pin(state.end(&end)).await;
    (end, state.transcript.usage())
}

/// The state of a run whose active agent has its tools open; or why there is none, and what earlier attempts used.
async fn opened(
    team: &Arc<Team>,
    assignment: Box<Assignment>,
    ports: Box<Ports>,
    cancel: CancellationToken,
) -> Result<Box<RunState<'_>>, (Halt, Usage)> {
    let Assignment { agent: first_agent, opening, mut recorded, budget, max_cost, prices, safety, .. } =
        *assignment;
    let transcript = Transcript::new(opening.messages(), &recorded);
    let mut active_agent = ActiveAgent::new(Arc::clone(team), &first_agent, &recorded);
    // From here on only the calls are needed, to be replayed to tools that keep a state.
    pruning::prune(&mut recorded);
    // An attempt that died between a handoff and the next reply resumes with the agent that it was handed to.
    if let Step::Ask { .. } = transcript.next(None) {
        active_agent.complete_handoff();
    }
    let usage = transcript.usage();
    let Some(agent) = team.agent(active_agent.name()) else {
        let message = format!("the team has no agent `{}`", active_agent.name());
        return Err((Halt::Failed { cause: Cause::Rejected, message }, usage));
    };
    let current = OpenAgent::open(team, agent, &ports, &cancel).await.map_err(|halt| (halt, usage))?;
    Ok(Box::new(RunState {
        pots: Pots::new(usage.input_tokens.saturating_add(usage.output_tokens), max_cost, prices),
        team,
        first_agent,
        recorded,
        budget,
        inner_runs: Arc::default(),
        session_is_unlimited: false,
        active_agent,
        current,
        inactive: Vec::new(),
        permissions: team.permissions(),
        inherited_safety: safety,
        transcript,
        ports,
        cancel,
        first_model_cooldown_until: None,
        asked: None,
        reminders: 0,
        context: Vec::new(),
        lasting_context: 0,
        next_summary_at: 0,
    }))
}

impl RunState<'_> {
    /// After the last step: reports what it used and how it ended, and closes the tools.
    async fn end(&mut self, end: &Result<String, Halt>) {
        self.settle_pots().await;
        self.report_end(end).await;
        self.close().await;
    }

    /// Carries out step after step; returns the agent's last message.
    async fn drive(&mut self) -> Result<String, Halt> {
        Box::pin(self.resume()).await?;
        loop {
            if let Some(answer) = self.submitted()
                && Box::pin(self.ends_with_submitted(&answer)).await?
            {
                return Ok(answer);
            }
            match self.transcript.next(self.active_agent.turn_limit()) {
                // Boxed, as all steps are that wait for no model: see `run`.
                Step::Work { open } => Box::pin(self.run_calls(open)).await?,
                Step::Ask { turn } => {
                    self.end_repetition()?;
                    self.take_turn(turn).await?;
                }
                Step::Finish { result } => {
                    if Box::pin(self.ends_with(&result)).await? {
                        return Ok(result);
                    }
                }
                Step::Exhausted { turns } => return Err(self.exhausted(turns)),
            }
        }
    }

    /// When the model has submitted its answer: whether that ends the run.
    async fn ends_with_submitted(&mut self, answer: &str) -> Result<bool, Halt> {
        if self.has_news().await? || !self.is_over(answer).await? {
            return Ok(false);
        }
        self.write_submitted(answer).await?;
        Ok(true)
    }

    /// When the model asks for nothing more: whether its last message ends the run.
    async fn ends_with(&mut self, result: &str) -> Result<bool, Halt> {
        // First the jobs: a model that waits for them has nothing to answer yet.
        if self.has_news().await? || self.remind().await? || !self.is_over(result).await? {
            return Ok(false);
        }
        self.keep_answer(result).await?;
        Ok(true)
    }

    /// When the model asks for nothing more: waits for the agent's jobs. Whether there is mail, which the model has not seen.
    async fn has_news(&mut self) -> Result<bool, Halt> {
        self.settle_pots().await;
        self.wait_for_jobs_and_mail().await
    }

    /// When the active agent has answered: whether that ends the run. Otherwise the conversation was passed on.
    async fn is_over(&mut self, result: &str) -> Result<bool, Halt> {
        if self.pass_on().await? {
            return Ok(false);
        }
        self.observe(STOP, json!({"last_message": result})).await?;
        Ok(true)
    }

    /// Makes the model call of one turn. The order of the steps before it matters:
    ///
    /// 1. The lease is checked before anything is done for the turn.
    /// 2. A handoff is completed: it decides whose prompt, tools, window and limits the other steps go by.
    /// 3. Tools that changed are listed anew, now that it is known whose tools they are.
    /// 4. Mail is delivered before the size of the request is measured.
    /// 5. A message that was answered before is answered from the cache, without a model call.
    /// 6. The pots of the active agent are checked: an empty one ends the run before anything is paid for.
    /// 7. The conversation is compacted before a budget is reserved for the request that is sent in the end.
    /// 8. The budget is reserved last, so that it is withheld from other jobs only during the call, and it is
    ///    settled whether or not the call succeeds.
    async fn take_turn(&mut self, turn: u32) -> Result<(), Halt> {
        if Box::pin(self.prepare_turn(turn)).await?.is_break() {
            return Ok(());
        }
        let recorded = self.call_model(turn).await;
        Box::pin(self.settle_budget()).await;
        match recorded? {
            Ok(()) => Ok(()),
            Err(no_reply) if no_reply.is_window_full => {
                Box::pin(self.take_shorter_turn(turn, no_reply)).await
            }
            Err(no_reply) => Err(no_reply.into()),
        }
    }

    /// The steps before the model call; it breaks off where the turn is answered from the cache.
    async fn prepare_turn(&mut self, turn: u32) -> Result<ControlFlow<()>, Halt> {
        self.check_lease().await?;
        self.switch_agent().await?;
        self.begin_turn(turn).await?;
        self.refresh_tools().await?;
        self.deliver_mail().await?;
        if self.answer_from_cache(turn).await? {
            return Ok(ControlFlow::Break(()));
        }
        self.check_pots().await?;
        self.compact(turn).await?;
        self.reserve_budget().await?;
        Ok(ControlFlow::Continue(()))
    }

    /// Makes the model call once more with a shorter conversation, after the model reported that it was too long. The
    /// window of a model is not always known, and the size of a request is an estimate.
    async fn take_shorter_turn(&mut self, turn: u32, no_reply: NoReply) -> Result<(), Halt> {
        match self.summarize(turn).await? {
            Summarized::Replaced => {}
            Summarized::Nothing => return Err(no_reply.into()),
            Summarized::Failed(why) => return Err(no_reply.without_summary(&why).into()),
        }
        self.reserve_budget().await?;
        let recorded = self.call_model(turn).await;
        self.settle_budget().await;
        Ok(recorded??)
    }

    /// Ends the run of a model that made the same calls in too many replies in a row. Their results are recorded.
    fn end_repetition(&self) -> Result<(), Halt> {
        let (tool, times) = self.transcript.repeated_calls();
        if times < self.current.agent.limits.consecutive_tool_calls() {
            return Ok(());
        }
        // The first words are docker-agent's.
        let message = format!(
            "Agent terminated: detected {times} consecutive identical calls to {tool}. The model makes no progress (max_consecutive_tool_calls)."
        );
        Err(Halt::Failed { cause: Cause::AgentError, message })
    }

    /// The failure of an agent that may take no more turns; `turns` are those of all agents of the run.
    fn exhausted(&mut self, turns: u32) -> Halt {
        self.active_agent.complete_handoff();
        let used = turns.saturating_sub(self.active_agent.uncounted_turns());
        let message = match self.current.agent.max_iterations {
            // docker-agent's words.
            Some(limit) => {
                format!("Execution stopped after reaching the configured max_iterations limit ({limit}).")
            }
            None => format!(
                "the agent used up its {used} iterations (max_iterations, which its file does not set)"
            ),
        };
        Halt::Failed { cause: Cause::MaxIterations, message }
    }
}

#[cfg(test)]
mod tests;
