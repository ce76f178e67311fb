//! Budgets in money, and those of the agent file in money, time and tokens: each limit is a pot. That of a job's budget is its
//! own, all others are shared by the agents of a session. They are checked between turns, so that a run exceeds one by a turn
//! at most.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use legwork_common::duration;
use legwork_common::job::Cause;
use legwork_common::job::Usage;
use legwork_common::money::Money;
use legwork_common::money::Price;
use legwork_common::money::Prices;
use legwork_common::team::Agent;
use legwork_common::team::AgentKind;
use legwork_common::team::Budget;
use legwork_common::team::ModelSettings;
use legwork_common::team::Team;

use super::halt::Halt;
use super::state::RunState;
use crate::assignment::CostLimit;

/// What a limit counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Millionths of a US dollar.
    Cost,
    /// Input and output tokens.
    Tokens,
    /// Milliseconds.
    Time,
}

/// A limit, and the pot that it is for.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Limit {
    /// The name of the pot. For a budget of the file it is the place of the limit: `budgets.day.max_cost`.
    pot: String,
    /// What the limit is called in messages.
    name: String,
    kind: Kind,
    max: u64,
}

/// The limits that hold for an agent. The tokens of the session's own budget are not among them: those are reserved before
/// each call.
fn limits(team: &Team, agent: &Agent) -> Vec<Limit> {
    let session = team.budget().map(|budget| Budget { max_tokens: 0, ..budget });
    let named = agent.budgets.iter().filter_map(|name| Some((name, team.budgets().get(name)?)));
    let named = named.flat_map(|(name, budget)| of(&format!("budgets.{name}"), *budget));
    session.into_iter().flat_map(|budget| of("budget", budget)).chain(named).collect()
}

/// The limits of one budget, which is at `path` in the file.
fn of(path: &str, budget: Budget) -> Vec<Limit> {
    let Budget { max_tokens, max_cost, max_time } = budget;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a cast from a float saturates"
    )]
    let cost = max_cost.map(|dollars| (dollars * 1e6).ceil() as u64);
    let time = max_time.map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
    let tokens = Some(max_tokens).filter(|tokens| *tokens > 0);
    let all = [
        ("max_cost", Kind::Cost, cost),
        ("max_tokens", Kind::Tokens, tokens),
        ("max_time", Kind::Time, time),
    ];
    let all = all.map(|(key, kind, max)| {
        let pot = format!("{path}.{key}");
        Some(Limit { name: pot.clone(), pot, kind, max: max? })
    });
    all.into_iter().flatten().collect()
}

/// The end of a run whose pot is empty. The sentence is docker-agent's.
fn reached(limit: &Limit, used: u64) -> Halt {
    #[expect(clippy::cast_precision_loss, reason = "a sum of money is shown with four digits")]
    let dollars = |micro: u64| format!("${:.4}", micro as f64 / 1e6);
    let time = |milliseconds: u64| duration::short(Duration::from_millis(milliseconds));
    let amounts = match limit.kind {
        Kind::Cost => format!("used {} of {}", dollars(used), dollars(limit.max)),
        Kind::Tokens => format!("used {used} of {} tokens", limit.max),
        Kind::Time => format!("used {} of {}", time(used), time(limit.max)),
    };
    let message =
        format!("Execution stopped after reaching the configured {} limit ({amounts}).", limit.name);
    Halt::Failed { cause: Cause::Budget, message }
}

/// What this execution of a run used of each pot.
#[derive(Debug)]
pub(super) struct Pots {
    /// The name of this execution, which distinguishes its reports from those of another attempt.
    run: String,
    used: BTreeMap<String, u64>,
    /// Tokens of the transcript that are in `used`, or were used by earlier attempts.
    counted_tokens: u64,
    /// The cost of model calls that is not yet in `used`.
    cost: AtomicU64,
    /// When the current turn began; `None` between turns.
    turn_started: Option<Instant>,
    /// How much of the current turn is not in `used`, because runs within this one count it.
    time_elsewhere: Duration,
    /// Whether a model without a price was reported.
    has_warned: AtomicBool,
    /// The budget in money of the job, and once it is known that of the session. A model without a price does not pass
    /// these: they are limits that someone set for this run, and not a habit of a file.
    own_limits: Vec<Limit>,
    /// Whether the session was asked for its budget in money.
    session_was_asked: bool,
    /// What models cost whose agent file does not say.
    pub(super) prices: Prices,
    /// The limit of the job, which holds for runs within this one too.
    pub(super) max_cost: Option<CostLimit>,
    /// A model without a price that was called.
    unpriced: OnceLock<String>,
}

/// The limit of a budget in money.
fn in_money(pot: String, name: &str, max: Money) -> Limit {
    Limit { pot, name: name.to_owned(), kind: Kind::Cost, max: max.0 }
}

impl Pots {
    /// Of an execution whose earlier attempts used this many tokens.
    pub(super) fn new(counted_tokens: u64, max_cost: Option<CostLimit>, prices: Prices) -> Self {
        let of_job = max_cost.clone().map(|limit| in_money(limit.pot, "--budget", limit.max));
        Self {
            run: format!("{:016x}", rand::random::<u64>()),
            used: BTreeMap::new(),
            counted_tokens,
            cost: AtomicU64::new(0),
            turn_started: None,
            time_elsewhere: Duration::ZERO,
            has_warned: AtomicBool::new(false),
            own_limits: of_job.into_iter().collect(),
            session_was_asked: false,
            prices,
            max_cost,
            unpriced: OnceLock::new(),
        }
    }

    /// Leaves out tokens and time that runs within this one have reported themselves.
    pub(super) fn leave_out(&mut self, tokens: u64, time: Duration) {
        self.counted_tokens = self.counted_tokens.saturating_add(tokens);
        self.time_elsewhere = self.time_elsewhere.saturating_add(time);
    }
}

impl RunState<'_> {
    /// Before a turn: ends the run where a pot that it draws from is empty.
    pub(super) async fn check_pots(&mut self) -> Result<(), Halt> {
        self.ask_session_for_limit().await?;
        self.check_prices()?;
        let limits = self.count_turn();
        self.pots.turn_started = Some(Instant::now());
        if limits.is_empty() {
            return Ok(());
        }
        let (run, used) = self.report(&limits);
        let session_state = Arc::clone(&self.ports.session_state);
        let totals = self.retry_while_unavailable(|| session_state.spend(&run, &used)).await?;
        let empty = limits.iter().zip(totals).find(|(limit, total)| *total >= limit.max);
        empty.map_or(Ok(()), |(limit, total)| Err(reached(limit, total)))
    }

    /// Asks the session once for its budget in money.
    async fn ask_session_for_limit(&mut self) -> Result<(), Halt> {
        if self.pots.session_was_asked {
            return Ok(());
        }
        let session_state = Arc::clone(&self.ports.session_state);
        let limit = self.retry_while_unavailable(|| session_state.cost_limit()).await?;
        self.pots.session_was_asked = true;
        let limit = limit.map(|max| in_money("session".to_owned(), "--session-budget", max));
        self.pots.own_limits.extend(limit);
        Ok(())
    }

    /// Ends a run whose budget in money cannot be kept, because the price of a model is not known: before it is called where
    /// the agent names it, and else after its first call.
    fn check_prices(&self) -> Result<(), Halt> {
        let Some(limit) = self.pots.own_limits.first() else { return Ok(()) };
        let named = match &self.current.agent.kind {
            AgentKind::Models(models) => models.as_slice(),
            AgentKind::Auto | AgentKind::Command { .. } => &[],
        };
        // The one that is called: a file may name it by a variable.
        let mut called = named.iter().map(|model| self.ports.environment.model(model));
        let unpriced = called.find(|model| self.price_of(model).is_none()).map(|model| model.reference());
        let Some(model) = self.pots.unpriced.get().cloned().or(unpriced) else { return Ok(()) };
        let message = format!(
            "the price of the model {model} is not known, so {} cannot be kept: set `cost` of the model in the agent file, \
             or `prices` in the policy file",
            limit.name
        );
        Err(Halt::Failed { cause: Cause::Budget, message })
    }

    fn price_of(&self, model: &ModelSettings) -> Option<Price> {
        model.cost.or_else(|| self.pots.prices.of(&model.reference()))
    }

    /// The limits that hold now: those of the active agent's file, the job's and the session's.
    fn limits(&self) -> Vec<Limit> {
        let mut limits = limits(self.team, self.current.agent);
        limits.extend(self.pots.own_limits.iter().cloned());
        limits
    }

    /// At the end of a run, and before it waits for its jobs: reports its last turn. An error is only logged: what is lost is
    /// one turn.
    pub(super) async fn settle_pots(&mut self) {
        let limits = self.count_turn();
        if limits.is_empty() {
            return;
        }
        let (run, used) = self.report(&limits);
        if let Ok(Err(error)) = self.unless_cancelled(self.ports.session_state.spend(&run, &used)).await {
            tracing::warn!(agent = %self.current.agent.name, %error, "could not report what a turn used of the budgets");
        }
    }

    /// Counts the cost of a model's reply.
    pub(super) fn count_cost(&self, settings: &ModelSettings, usage: Usage) {
        if let Some(price) = self.price_of(settings) {
            self.pots.cost.fetch_add(price.of(usage).0, Ordering::Relaxed);
            return;
        }
        self.pots.unpriced.get_or_init(|| settings.reference());
        let is_limited = limits(self.team, self.current.agent).iter().any(|limit| limit.kind == Kind::Cost);
        if is_limited && !self.pots.has_warned.swap(true, Ordering::Relaxed) {
            let model = settings.reference();
            self.warn(format!(
                "the price of the model {model} is not known (`cost`), so it adds nothing to max_cost"
            ));
        }
    }

    /// Ends the turn for the pots of the active agent, whose limits it returns.
    fn count_turn(&mut self) -> Vec<Limit> {
        let limits = self.limits();
        let tokens = self.used_tokens();
        let pots = &mut self.pots;
        let time = pots.turn_started.take().map_or(Duration::ZERO, |started| started.elapsed());
        let time = time.saturating_sub(std::mem::take(&mut pots.time_elsewhere));
        let cost = std::mem::take(pots.cost.get_mut());
        let more_tokens = tokens.saturating_sub(pots.counted_tokens);
        pots.counted_tokens = tokens;
        for limit in &limits {
            let more = match limit.kind {
                Kind::Cost => cost,
                Kind::Tokens => more_tokens,
                Kind::Time => u64::try_from(time.as_millis()).unwrap_or(u64::MAX),
            };
            let used = pots.used.entry(limit.pot.clone()).or_default();
            *used = used.saturating_add(more);
        }
        limits
    }

    /// What is reported of these pots.
    fn report(&self, limits: &[Limit]) -> (String, Vec<(String, u64)>) {
        let used = |limit: &Limit| self.pots.used.get(&limit.pot).copied().unwrap_or_default();
        (self.pots.run.clone(), limits.iter().map(|limit| (limit.pot.clone(), used(limit))).collect())
    }
}
