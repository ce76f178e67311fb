//! What the screen shows, and what a key does to it. Pure: no terminal, no Redis, no clock.

use jiff::Timestamp;
use legwork_common::id::JobId;
use legwork_common::id::SessionId;
use legwork_common::job::Job;
use legwork_common::lifecycle::State;
use legwork_queue::operator::Buckets;
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

/// The longest message: what is longer is written with `legwork send`.
const MAX_MESSAGE: usize = 500;
/// Minutes over which a rate is taken.
const RATE_MINUTES: usize = 5;

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

/// One row of the jobs: a root of a session's forest stands after a line about its session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// How many dispatchers of the list are above the job.
    pub depth: usize,
    /// The job.
    pub job: Job,
}

/// The rows with the trees of each session together, the session with the newest job first.
pub fn by_session(rows: Vec<Row>) -> Vec<Row> {
    let mut sessions: Vec<(SessionId, Vec<Row>)> = Vec::new();
    for row in rows {
        match sessions.iter_mut().find(|(session, _)| *session == row.job.session) {
            Some((_, known)) => known.push(row),
            None => sessions.push((row.job.session, vec![row])),
        }
    }
    sessions.into_iter().flat_map(|(_, rows)| rows).collect()
}

/// Jobs a minute, over the last five whole minutes.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Rates {
    /// Dispatched.
    pub dispatched: f64,
    /// Ended.
    pub ended: f64,
}

impl Rates {
    /// From numbers by the minute, whose last one is not over.
    pub fn of(hour: &Buckets) -> Self {
        let recent = |counts: &[u64]| {
            let counts: Vec<u64> = counts.iter().rev().skip(1).take(RATE_MINUTES).copied().collect();
            #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
            let rate = counts.iter().sum::<u64>() as f64 / RATE_MINUTES as f64;
            rate
        };
        let ended = [&hour.completed, &hour.failed, &hour.stopped];
        Self {
            dispatched: recent(&hour.dispatched),
            ended: ended.into_iter().map(|counts| recent(counts)).sum(),
        }
    }
}

/// What was read from Redis.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Snapshot {
    /// When, by this machine's clock.
    pub at: Timestamp,
    /// The jobs as trees, session by session.
    pub rows: Vec<Row>,
    /// The workers.
    pub workers: Vec<(WorkerRecord, WorkerCondition)>,
    /// The numbers; `None` before they were read first.
    pub stats: Option<FleetStats>,
    /// The rates that belong to them.
    pub rates: Rates,
    /// The job whose text follows.
    pub text_of: Option<(JobId, Detail)>,
    /// The end of its output, or of its turns.
    pub text: String,
    /// Why the rest may be old.
    pub error: Option<String>,
}

/// What is shown of the selected job.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Detail {
    /// Its output, as it comes.
    #[default]
    Output,
    /// Its recorded turns.
    Turns,
}

/// What is done to a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Stop it and what is below it.
    Stop,
    /// Stop all jobs of its session.
    StopSession,
    /// Retry it as a new job.
    Retry,
}

impl Change {
    /// The verb.
    pub fn verb(self) -> &'static str {
        match self {
            Self::Stop | Self::StopSession => "stop",
            Self::Retry => "retry",
        }
    }

    /// What a person is asked before it.
    pub fn question(self, job: &str, session: &str) -> String {
        match self {
            Self::Stop => format!("stop job {job} and all below it? y/N"),
            Self::StopSession => format!("stop all jobs of session {session}? y/N"),
            Self::Retry => format!("retry job {job}? y/N"),
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
    /// They write a message to a job.
    Write(JobId, String),
    /// `y` does it, any other key does not.
    Confirm(Change, JobId),
}

/// What a key asks for beyond the screen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// End the program.
    Quit,
    /// Change a job.
    Change(Change, JobId),
    /// Send a job a message.
    Send(JobId, String),
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
    /// What is shown of the selected job.
    pub detail: Detail,
    /// Whether that takes the whole screen.
    pub is_detail_whole: bool,
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
        match std::mem::take(&mut self.mode) {
            Mode::Filter => {
                self.mode = Mode::Filter;
                self.write_filter(key.code);
                None
            }
            Mode::Confirm(change, id) => {
                matches!(key.code, KeyCode::Char('y' | 'Y')).then_some(Action::Change(change, id))
            }
            Mode::Write(id, message) => self.write_message(id, message, key.code),
            Mode::Browse => self.browse(key.code),
        }
    }

    fn browse(&mut self, key: KeyCode) -> Option<Action> {
        self.note.clear();
        match key {
            KeyCode::Char('q') => return Some(Action::Quit),
            KeyCode::Esc if self.is_detail_whole => self.is_detail_whole = false,
            KeyCode::Esc => self.refilter(|filter| filter.clear()),
            KeyCode::Up | KeyCode::Char('k') => self.step(|place| place.saturating_sub(1)),
            KeyCode::Down | KeyCode::Char('j') => self.step(|place| place + 1),
            KeyCode::PageUp => self.step(|place| place.saturating_sub(PAGE_ROWS)),
            KeyCode::PageDown => self.step(|place| place + PAGE_ROWS),
            KeyCode::Home | KeyCode::Char('g') => self.step(|_| 0),
            KeyCode::End | KeyCode::Char('G') => self.step(|_| usize::MAX),
            KeyCode::Enter => self.is_detail_whole = !self.is_detail_whole,
            KeyCode::Char('a') => self.shown = self.shown.next(),
            KeyCode::Char('t') => {
                self.detail = if self.detail == Detail::Output { Detail::Turns } else { Detail::Output };
            }
            KeyCode::Char('/') => self.mode = Mode::Filter,
            KeyCode::Char('m') => self.begin_message(),
            KeyCode::Char('s') => self.ask(Change::Stop, |state| !state.is_terminal()),
            // The session may have other jobs that run.
            KeyCode::Char('S') => self.ask(Change::StopSession, |_| true),
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

    fn begin_message(&mut self) {
        let Some(job) = self.job() else { return };
        let (id, status) = (job.id, job.status);
        if status.is_terminal() {
            self.note = format!("cannot send a message to a job that is {status}");
        } else {
            self.mode = Mode::Write(id, String::new());
        }
    }

    /// Enter sends what was written; an empty message, and Escape, send none.
    fn write_message(&mut self, id: JobId, mut message: String, key: KeyCode) -> Option<Action> {
        match key {
            KeyCode::Enter => {
                return (!message.trim().is_empty()).then(|| Action::Send(id, message.trim().to_owned()));
            }
            KeyCode::Esc => return None,
            KeyCode::Backspace => {
                message.pop();
            }
            KeyCode::Char(character) if message.chars().count() < MAX_MESSAGE => message.push(character),
            _ => {}
        }
        self.mode = Mode::Write(id, message);
        None
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
    fn a_message_is_written_and_sent_and_escape_sends_none() {
        let mut top = top();
        let id = top.selected.unwrap();
        // Within a message, letters are letters.
        assert_eq!(press(&mut top, "m quit\x08"), None);
        assert_eq!(top.mode, Mode::Write(id, " qui".to_owned()));
        assert_eq!(press(&mut top, "t\n"), Some(Action::Send(id, "quit".to_owned())));
        assert_eq!(press(&mut top, "mhello\x1b"), None);
        assert_eq!((press(&mut top, "m \n"), &top.mode), (None, &Mode::Browse));
        assert_eq!((press(&mut top, "jm"), &top.mode), (None, &Mode::Browse));
        assert_eq!(top.note, "cannot send a message to a job that is failed");
    }

    #[test]
    fn the_trees_of_a_session_are_together_and_it_is_stopped_as_one() {
        let of = |session: &str, number| {
            let mut row = job(number, State::Running, "coder");
            row.job.session = format!("{session}0000000-0000-4000-8000-00000000abcd").parse().unwrap();
            row
        };
        let rows = by_session(vec![of("b", 4), of("a", 3), of("b", 2), of("a", 1)]);
        let ids: Vec<String> = rows.iter().map(|row| row.job.id.to_string()[11..19].to_owned()).collect();
        assert_eq!(ids, ["00000004", "00000002", "00000003", "00000001"]);
        let mut top = top();
        let id = top.snapshot.rows[2].job.id;
        assert_eq!(press(&mut top, "jjSy"), Some(Action::Change(Change::StopSession, id)), "others may run");
    }

    #[test]
    fn rates_are_those_of_whole_minutes() {
        let counts = |counts: &[u64]| counts.to_vec();
        let hour = Buckets {
            dispatched: counts(&[100, 1, 2, 3, 4, 5, 100]),
            completed: counts(&[0, 0, 0, 0, 0, 5, 100]),
            failed: counts(&[0, 0, 0, 0, 5, 0, 0]),
            ..Buckets::default()
        };
        assert_eq!(Rates::of(&hour), Rates { dispatched: 3.0, ended: 2.0 });
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
