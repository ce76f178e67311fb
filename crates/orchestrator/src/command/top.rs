//! `legwork top`: the fleet on a full screen, until `q`.

use std::io::IsTerminal as _;
use std::pin::pin;
use std::time::Duration;

use futures::StreamExt as _;
use legwork_common::error::ExitStatus;
use legwork_common::id::JobId;
use legwork_process::tasks::TaskKind;
use legwork_process::tasks::Tasks;
use legwork_queue::ConnectionKind;
use legwork_queue::Operator;
use legwork_queue::operator::RetryMode;
use legwork_queue::operator::StopRoot;
use ratatui::DefaultTerminal;
use ratatui::crossterm::event;
use ratatui::crossterm::event::Event;
use tokio::sync::mpsc;
use tokio::sync::watch;

use crate::context::Connection;
use crate::context::Context;
use crate::failure::Failure;
use crate::local_worker;
use crate::outage::Outage;
use crate::top::loader::Wanted;
use crate::top::loader::load;
use crate::top::screen::draw;
use crate::top::state::Action;
use crate::top::state::Change;
use crate::top::state::Top;

/// How often the terminal is asked for keys: a key is answered before a person notices a delay.
const KEY_INTERVAL: Duration = Duration::from_millis(30);
/// Changes and their outcomes that are on their way; more keys than that wait.
const CHANNEL_CAPACITY: usize = 4;
/// How long the reads in progress may take at the end.
const GRACE_PERIOD: Duration = Duration::from_secs(3);

/// Shows the fleet. Needs a terminal.
pub(super) async fn top(context: Context) -> Result<ExitStatus, Failure> {
    if !std::io::stdout().is_terminal() || !std::io::stdin().is_terminal() {
        return Err(Failure::usage("`legwork top` needs a terminal")
            .with_hint("`legwork stats` and `legwork list --watch` print the same"));
    }
    let connection = context.connect(ConnectionKind::Pooled).await?;
    let tasks = Tasks::new();
    let shown = Outage::of(&context, &connection)
        .while_serving(&connection.operator, on_screen(&context, &connection, &tasks))
        .await;
    tasks.close_and_wait(GRACE_PERIOD).await;
    connection.leave().await?;
    shown.map(|()| ExitStatus::Success)
}

async fn on_screen(context: &Context, connection: &Connection, tasks: &Tasks) -> Result<(), Failure> {
    let mut terminal =
        ratatui::try_init().map_err(|error| Failure::usage(format!("cannot use the terminal: {error}")))?;
    let shown = show(context, connection, tasks, &mut terminal).await;
    ratatui::restore();
    shown.map_err(|error| Failure::usage(format!("cannot use the terminal: {error}")))
}

/// The loop of the screen: keys, snapshots and outcomes of changes, one frame after each.
async fn show(
    context: &Context,
    connection: &Connection,
    tasks: &Tasks,
    terminal: &mut DefaultTerminal,
) -> std::io::Result<()> {
    let mut top = Top::default();
    let (wanted, reads) = watch::channel(Wanted::default());
    let (snapshots, mut loaded) = mpsc::channel(1);
    let (changes, orders) = mpsc::channel(CHANNEL_CAPACITY);
    let (outcomes, mut ended) = mpsc::channel(CHANNEL_CAPACITY);
    tasks.spawn(TaskKind::Panel, load(connection.operator.clone(), reads, snapshots));
    let changer = Changer {
        context: context.clone(),
        operator: connection.operator.clone(),
        is_embedded: connection.backend.is_embedded(),
    };
    tasks.spawn(TaskKind::Panel, changer.run(orders, outcomes));
    let place = connection.place();
    let mut keys = tokio::time::interval(KEY_INTERVAL);
    terminal.draw(|frame| draw(frame, &top, &place))?;
    loop {
        let mut is_changed = true;
        tokio::select! {
            Some(snapshot) = loaded.recv() => top.take(snapshot),
            Some(note) = ended.recv() => top.note = note,
            _tick = keys.tick() => {
                is_changed = false;
                while let Some(event) = next_event()? {
                    // A new size of the terminal is one too.
                    is_changed = true;
                    let Some(key) = event.as_key_press_event() else { continue };
                    match top.handle(key) {
                        Some(Action::Quit) => return Ok(()),
                        Some(action) => {
                            // With as many on their way already, the key does nothing.
                            let is_sent = changes.try_send(action).is_ok();
                            top.note = if is_sent { "…" } else { "busy" }.to_owned();
                        }
                        None => {}
                    }
                }
            }
        }
        if is_changed {
            terminal.draw(|frame| draw(frame, &top, &place))?;
        }
        let now = Wanted { shown: top.shown, selected: top.selected, detail: top.detail };
        wanted.send_if_modified(|before| std::mem::replace(before, now) != now);
    }
}

/// The next event of the terminal, without waiting.
fn next_event() -> std::io::Result<Option<Event>> {
    if event::poll(Duration::ZERO)? { event::read().map(Some) } else { Ok(None) }
}

/// Changes jobs in a task of its own, so that keys are answered while Redis is asked.
struct Changer {
    context: Context,
    operator: Operator,
    is_embedded: bool,
}

impl Changer {
    async fn run(self, mut orders: mpsc::Receiver<Action>, outcomes: mpsc::Sender<String>) {
        while let Some(action) = orders.recv().await {
            let done = match action {
                Action::Quit => return,
                Action::Change(Change::Stop, id) => self.stop(StopRoot::Job(id)).await,
                Action::Change(Change::StopSession, id) => self.stop_session(id).await,
                Action::Change(Change::Retry, id) => self.retry(id).await,
                Action::Send(id, message) => self.send(id, &message).await,
            };
            let note = done.unwrap_or_else(|failure| format!("error: {}", failure.message));
            if outcomes.send(note).await.is_err() {
                return;
            }
        }
    }

    async fn stop(&self, root: StopRoot) -> Result<String, Failure> {
        let report = self.operator.stop(root).await?;
        Ok(format!("stopping {}", crate::many::jobs(report.count())))
    }

    async fn stop_session(&self, id: JobId) -> Result<String, Failure> {
        let session = self.operator.job(id).await?.session;
        self.stop(StopRoot::Session { id: session, close: false }).await
    }

    async fn send(&self, id: JobId, message: &str) -> Result<String, Failure> {
        let operator = self.operator.clone().with_key(self.context.dispatcher_key()?);
        operator.send(id, message).await?;
        Ok("the message is stored; the agent reads it before its next model call".to_owned())
    }

    async fn retry(&self, id: JobId) -> Result<String, Failure> {
        // Read for each retry: without a usable key the screen is shown all the same. Before the plan, which verifies what the
        // key is about to sign again.
        let operator = self.operator.clone().with_key(self.context.dispatcher_key()?);
        let plan = operator.plan_retry(id, RetryMode::Resume, false).await?;
        let retried = pin!(operator.retry_many(vec![plan])).next().await;
        let Some(retried) = retried.transpose()? else { return Ok(String::new()) };
        if self.is_embedded {
            local_worker::serve_in_background(&self.context, &self.operator, retried.session, None).await?;
        }
        Ok(format!("retried as {}", retried.id))
    }
}
