//! What the screen shows, and what a key does to it. Pure: no terminal, no Redis, no clock.

use jiff::Timestamp;
use legwork_common::id::JobId;
use legwork_common::job::Job;
use legwork_common::lifecycle::State;
use legwork_queue::operator::FleetStats;
use legwork_queue::operator::WorkerCondition;
use legwork_queue::operator::WorkerRecord;
use ratatui::crossterm::event::KeyCode;
use ratatui::crossterm::event::KeyEvent;
use ratatui::crossterm::event::KeyModifiers;

/// Rows that a page key moves.
const PAGE_ROWS: usize = 10;
/// The longest filter: more does not fit its line.
const MAX_FILTER: usize = 60;

/// Which jobs are read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Shown {
    /// The newest.
    #[default]
    All,
    /// Those that have not ended.
    Live,
    /// Those that failed and were not retried.
    Failed,
}

impl Shown {
    fn next(self) -> Self {
        match self {
            Self::All => Self::Live,
            Self::Live => Self::Failed,
            Self::Failed => Self::All,
        }
    }

    /// Its name on the screen.
    pub fn name(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Live => "live",
            Self::Failed => "failed",
        }
    }
}

/// One row of the jobs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// How many dispatchers of the list are above the job.
    pub depth: usize,
    /// The job.
    pub job: Job,
}

/// What was read from Redis.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Snapshot {
    /// When, by this machine's clock.
    pub at: Timestamp,
    /// The jobs as a tree, newest first.
    pub rows: Vec<Row>,
    /// The workers.
    pub workers: Vec<(WorkerRecord, WorkerCondition)>,
    /// The numbers; `None` before they were read first.
    pub stats: Option<FleetStats>,
    /// The job whose output follows.
    pub output_of: Option<JobId>,
    /// The end of its output.
    pub output: String,
    /// Why the rest may be old.
    pub error: Option<String>,
}

/// What is done to a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Stop it and what is below it.
    Stop,
    /// Retry it as a new job.
    Retry,
}

impl Change {
    /// The verb.
    pub fn verb(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Retry => "retry",
        }
    }
}

/// What the keys mean now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Mode {
    /// They move and act.
    #[default]
    Browse,
    /// They write the filter.
    Filter,
    /// `y` does it, any other key does not.
    Confirm(Change, JobId),
}

/// What a key asks for beyond the screen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// End the program.
    Quit,
    /// Change a job.
    Change(Change, JobId),
}

/// The screen's state.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Top {
    /// The last snapshot.
    pub snapshot: Snapshot,
    /// The selected job; the first one without any.
    pub selected: Option<JobId>,
    /// What a row must contain.
    pub filter: String,
    /// Which jobs are read.
    pub shown: Shown,
    /// What the keys mean.
    pub mode: Mode,
    /// Whether the output takes the whole screen.
    pub is_output_whole: bool,
    /// What became of the last change.
    pub note: String,
}

impl Top {
    /// Takes in what was read. The selection stays with its job while that is listed.
    pub fn take(&mut self, snapshot: Snapshot) {
        self.snapshot = snapshot;
        if self.place().is_none() {
            self.selected = self.rows().first().map(|row| row.job.id);
        }
    }

    /// The rows that the filter lets through.
    pub fn rows(&self) -> Vec<&Row> {
        let wanted = self.filter.to_lowercase();
        self.snapshot.rows.iter().filter(|row| wanted.is_empty() || contains(&row.job, &wanted)).collect()
    }

    /// The place of the selected job among the rows.
    pub fn place(&self) -> Option<usize> {
        let selected = self.selected?;
        self.rows().iter().position(|row| row.job.id == selected)
    }

    /// The selected job.
    pub fn job(&self) -> Option<&Job> {
        let place = self.place()?;
        self.rows().get(place).map(|row| &row.job)
    }

    /// Applies a key.
    pub fn handle(&mut self, key: KeyEvent) -> Option<Action> {
        if key.modifiers.contains(KeyModifiers::CONTROL) && key.code == KeyCode::Char('c') {
            return Some(Action::Quit);
        }
        match self.mode {
            Mode::Filter => {
                self.write_filter(key.code);
                None
            }
            Mode::Confirm(change, id) => {
                self.mode = Mode::Browse;
                matches!(key.code, KeyCode::Char('y' | 'Y')).then_some(Action::Change(change, id))
            }
            Mode::Browse => self.browse(key.code),
        }
    }

    fn browse(&mut self, key: KeyCode) -> Option<Action> {
        self.note.clear();
        match key {
            KeyCode::Char('q') => return Some(Action::Quit),
            KeyCode::Esc if self.is_output_whole => self.is_output_whole = false,
            KeyCode::Esc => self.refilter(|filter| filter.clear()),
            KeyCode::Up | KeyCode::Char('k') => self.step(|place| place.saturating_sub(1)),
            KeyCode::Down | KeyCode::Char('j') => self.step(|place| place + 1),
            KeyCode::PageUp => self.step(|place| place.saturating_sub(PAGE_ROWS)),
            KeyCode::PageDown => self.step(|place| place + PAGE_ROWS),
            KeyCode::Home | KeyCode::Char('g') => self.step(|_| 0),
            KeyCode::End | KeyCode::Char('G') => self.step(|_| usize::MAX),
            KeyCode::Enter => self.is_output_whole = !self.is_output_whole,
            KeyCode::Char('a') => self.shown = self.shown.next(),
            KeyCode::Char('/') => self.mode = Mode::Filter,
            KeyCode::Char('s') => self.ask(Change::Stop, |state| !state.is_terminal()),
            KeyCode::Char('r') => {
                self.ask(Change::Retry, |state| matches!(state, State::Failed | State::Stopped));
            }
            _ => {}
        }
        None
    }

    /// Asks before a change, where the selected job's state allows it.
    fn ask(&mut self, change: Change, is_possible: impl Fn(State) -> bool) {
        let Some(job) = self.job() else { return };
        let (id, status) = (job.id, job.status);
        if is_possible(status) {
            self.mode = Mode::Confirm(change, id);
        } else {
            self.note = format!("cannot {} a job that is {status}", change.verb());
        }
    }

    fn write_filter(&mut self, key: KeyCode) {
        match key {
            KeyCode::Enter => self.mode = Mode::Browse,
            KeyCode::Esc => {
                self.mode = Mode::Browse;
                self.refilter(|filter| filter.clear());
            }
            KeyCode::Backspace => self.refilter(|filter| {
                filter.pop();
            }),
            KeyCode::Char(character) if self.filter.chars().count() < MAX_FILTER => {
                self.refilter(|filter| filter.push(character));
            }
            _ => {}
        }
    }

    /// Changes the filter; a job that it hides is no longer selected.
    fn refilter(&mut self, change: impl FnOnce(&mut String)) {
        change(&mut self.filter);
        if self.place().is_none() {
            self.selected = self.rows().first().map(|row| row.job.id);
        }
    }

    fn step(&mut self, to: impl FnOnce(usize) -> usize) {
        let rows = self.rows();
        let Some(last) = rows.len().checked_sub(1) else { return };
        let place = to(self.place().unwrap_or(0)).min(last);
        self.selected = rows.get(place).map(|row| row.job.id);
    }
}

/// Whether a job's id, agent, status, cause, queue, worker or task contains a text in lower case.
fn contains(job: &Job, wanted: &str) -> bool {
    let cause = job.cause.map(|cause| cause.to_string()).unwrap_or_default();
    let worker = job.worker.as_ref().map(ToString::to_string).unwrap_or_default();
    [
        job.id.to_string(),
        job.status.to_string(),
        job.agent.clone(),
        job.task.clone(),
        job.queue.clone(),
        cause,
        worker,
    ]
    .iter()
    .any(|text| text.to_lowercase().contains(wanted))
}

#[cfg(test)]
mod tests {
    use legwork_common::id::SessionId;

    use super::*;

    fn job(number: u8, status: State, agent: &str) -> Row {
        let session: SessionId = "00000000-0000-4000-8000-00000000abcd".parse().unwrap();
        let id = format!("agent_task_{number:08x}-1111-4111-8111-11111111abcd").parse().unwrap();
        Row { depth: 0, job: Job { agent: agent.to_owned(), status, ..Job::queued(id, session) } }
    }

    fn top() -> Top {
        let rows = vec![
            job(1, State::Running, "coder"),
            job(2, State::Failed, "reviewer"),
            job(3, State::Completed, "coder"),
        ];
        let mut top = Top::default();
        top.take(Snapshot { rows, ..Snapshot::default() });
        top
    }

    fn press(top: &mut Top, keys: &str) -> Option<Action> {
        let key = |character| match character {
            '\n' => KeyCode::Enter,
            '\x1b' => KeyCode::Esc,
            '\x08' => KeyCode::Backspace,
            other => KeyCode::Char(other),
        };
        keys.chars().map(|character| top.handle(key(character).into())).last().flatten()
    }

    #[test]
    fn the_selection_moves_within_the_rows_and_stays_with_its_job() {
        let mut top = top();
        assert_eq!(top.place(), Some(0));
        press(&mut top, "jjjj");
        assert_eq!(top.place(), Some(2));
        press(&mut top, "k");
        let selected = top.selected;
        let mut rows = top.snapshot.rows.clone();
        rows.insert(0, job(9, State::Queued, "coder"));
        top.take(Snapshot { rows, ..Snapshot::default() });
        assert_eq!((top.place(), top.selected), (Some(2), selected));
        top.take(Snapshot::default());
        assert_eq!((top.place(), top.selected, top.job()), (None, None, None));
        assert_eq!(press(&mut top, "jsr"), None);
    }

    #[test]
    fn a_change_is_asked_for_and_only_yes_does_it() {
        let mut top = top();
        let id = top.selected.unwrap();
        assert_eq!(press(&mut top, "s"), None);
        assert_eq!(top.mode, Mode::Confirm(Change::Stop, id));
        assert_eq!(press(&mut top, "n"), None);
        assert_eq!(top.mode, Mode::Browse);
        assert_eq!(press(&mut top, "sy"), Some(Action::Change(Change::Stop, id)));
        press(&mut top, "r");
        assert_eq!((top.note.as_str(), &top.mode), ("cannot retry a job that is running", &Mode::Browse));
        let failed = top.snapshot.rows[1].job.id;
        assert_eq!(press(&mut top, "jry"), Some(Action::Change(Change::Retry, failed)));
        assert_eq!(press(&mut top, "s"), None);
        assert_eq!(top.note, "cannot stop a job that is failed");
    }

    #[test]
    fn the_filter_hides_rows_and_escape_shows_them_again() {
        let mut top = top();
        // Within the filter, letters are letters.
        assert_eq!(press(&mut top, "/revqs\x08\x08\n"), None);
        assert_eq!((top.filter.as_str(), top.rows().len(), top.place()), ("rev", 1, Some(0)));
        assert_eq!(top.job().unwrap().agent, "reviewer");
        press(&mut top, "\x1b");
        assert_eq!((top.rows().len(), top.place()), (3, Some(1)));
        assert_eq!(press(&mut top, "q"), Some(Action::Quit));
    }
}
