//! The screen of `run`: the answer on standard output, and below it a live panel of the background jobs.
//!
//! On a terminal the panel is redrawn below the answer. An incomplete line of the answer is shown inside the panel,
//! because a redraw would erase it. Without a terminal each change of a job is one plain line.
//!
//! A line of the answer stays whole: while it is being written, what would interrupt it waits, the panel as well as lines
//! about jobs. A reply that ends without a line break counts as whole.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

use indicatif::MultiProgress;
use indicatif::ProgressBar;
use indicatif::ProgressStyle;
use legwork_common::duration;
use legwork_common::id::JobId;
use legwork_common::id::SessionId;
use legwork_common::job::Job;
use legwork_common::lifecycle::State;
use legwork_queue::Operator;
use serde_json::Value;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::output::Output;
use crate::render;

/// Poll interval of the panel. Hints report only ends, so output and starts show up this late at most.
const POLL_INTERVAL: Duration = Duration::from_millis(400);
/// Interval between two frames of a spinner: looks smooth, and costs a terminal over SSH little.
const SPINNER_INTERVAL: Duration = Duration::from_millis(100);
/// Bytes read from the end of a job's output to find its last line: several times what a row has room for.
const LAST_LINE_BYTES: u64 = 400;
/// The most jobs in the panel, so that it fits a terminal of 24 rows with part of the answer above it.
const MAX_ROWS: usize = 12;
/// The most characters of a job's last line of output in its row.
const LAST_LINE_CHARS: usize = 60;
/// The most characters of the answer's incomplete line in the panel: they fit a terminal of 80 columns.
const PARTIAL_LINE_CHARS: usize = 72;

/// What the panel shows while reads fail: the rest of it may be old.
const UNANSWERED: &str = "  Redis does not answer; waiting for it";

/// The screen. Everything that `run` prints goes through it.
pub struct Screen {
    output: Output,
    state: Mutex<ScreenState>,
    /// Cancelled when standard output is a closed pipe, so that `run` can end in order.
    pub unread: CancellationToken,
}

#[derive(Default)]
struct ScreenState {
    panel: Option<Panel>,
    /// The incomplete line of the answer, buffered while the panel is up.
    partial: String,
    /// The last status shown of each job.
    seen: BTreeMap<JobId, State>,
    /// Whether the answer's last character was a line break.
    at_line_start: bool,
    /// Whether the terminal's last line is an incomplete line of the answer.
    line_open: bool,
    /// Whether the answer's incomplete line is still being written.
    is_growing: bool,
    /// Whether the terminal's last line was ended although the answer's was not.
    is_broken: bool,
    /// Lines that wait until the answer's line is whole.
    held: Vec<String>,
    /// Whether the last read of the jobs failed.
    is_unanswered: bool,
}

impl ScreenState {
    /// Records a chunk of the answer, whether it is printed or buffered.
    fn answered(&mut self, text: &str) {
        if !text.is_empty() {
            self.at_line_start = text.ends_with('\n');
            self.is_growing = !self.at_line_start;
        }
    }

    /// Whether the terminal's last line is still being written, so that nothing may interrupt it.
    fn is_writing(&self) -> bool {
        self.line_open && self.is_growing
    }

    /// Where a chunk of the answer has to be cut for the lines that wait: after its last line break. `None` where none
    /// waits, or the chunk ends no line.
    fn cut(&self, text: &str) -> Option<usize> {
        if self.held.is_empty() { None } else { text.rfind('\n').map(|at| at + 1) }
    }

    /// A chunk of the answer without the line break that a terminal has been given already.
    fn unbroken<'text>(&mut self, text: &'text str) -> &'text str {
        if text.is_empty() || !std::mem::take(&mut self.is_broken) {
            return text;
        }
        text.strip_prefix('\n').unwrap_or(text)
    }

    /// Records a chunk of the answer that was printed.
    fn written(&mut self, text: &str) {
        if !text.is_empty() {
            self.line_open = !text.ends_with('\n');
        }
    }

    /// Whether the terminal's line has to be ended before anything else is printed. Resets, so that it is ended once.
    fn take_break(&mut self) -> bool {
        let was_open = std::mem::take(&mut self.line_open);
        self.is_broken |= was_open;
        was_open
    }
}

/// The panel while it is on the terminal.
struct Panel {
    all: MultiProgress,
    partial: ProgressBar,
    bars: BTreeMap<JobId, ProgressBar>,
    /// The jobs with a row and their depths, from the top: each below the job that dispatched it.
    order: Vec<(JobId, u8)>,
    /// The row with the number of jobs that have no row.
    rest: ProgressBar,
}

impl Panel {
    fn new() -> Self {
        let all = MultiProgress::new();
        let partial = all.add(ProgressBar::new_spinner().with_style(style("{wide_msg}")));
        let rest = all.add(ProgressBar::new_spinner().with_style(style("{msg}")));
        Self { all, partial, bars: BTreeMap::new(), order: Vec::new(), rest }
    }

    fn show(&mut self, job: &Job, last_line: &str) {
        if !self.bars.contains_key(&job.id) {
            self.add(job);
        }
        let Some(bar) = self.bars.get(&job.id) else { return };
        let runtime = duration::short(job.runtime());
        let text = format!(
            "{}{} {:<16} {:<9} {runtime:>6}  {}",
            indent(job),
            render::short_id(job),
            job.agent,
            job.status.as_str(),
            render::first_line(last_line, LAST_LINE_CHARS),
        );
        let text = render::visible(&text);
        if bar.message() != text {
            bar.set_message(text.into_owned());
        }
    }

    /// Adds a row: below the last job of its dispatcher's tree, or at the end.
    fn add(&mut self, job: &Job) {
        let place = place_in(&self.order, job.parent);
        let next = self.order.get(place).and_then(|(id, _)| self.bars.get(id));
        let bar = self.all.insert_before(next.unwrap_or(&self.rest), ProgressBar::new_spinner());
        bar.enable_steady_tick(SPINNER_INTERVAL);
        bar.set_style(style("{spinner} {wide_msg}"));
        self.bars.insert(job.id, bar);
        self.order.insert(place, (job.id, job.depth));
    }

    fn show_rest(&self, more: usize) {
        let text = if more == 0 { String::new() } else { format!("  and {more} more") };
        if self.rest.message() != text {
            self.rest.set_message(text);
        }
    }

    fn drop_ended(&mut self, live: &[JobId]) {
        let ended: Vec<JobId> = self.bars.keys().filter(|id| !live.contains(id)).copied().collect();
        for id in ended {
            self.order.retain(|(shown, _)| *shown != id);
            if let Some(bar) = self.bars.remove(&id) {
                bar.finish_and_clear();
                self.all.remove(&bar);
            }
        }
    }
}

/// Where a job's row belongs among rows in the order of a tree: after the last job below its parent, or at the end.
fn place_in(order: &[(JobId, u8)], parent: Option<JobId>) -> usize {
    let Some(at) = order.iter().position(|(id, _)| Some(*id) == parent) else { return order.len() };
    let depth = order.get(at).map_or(0, |(_, depth)| *depth);
    let below = order.iter().skip(at + 1).take_while(|(_, below)| *below > depth).count();
    at + 1 + below
}

/// Two spaces for each level below the root's own jobs.
fn indent(job: &Job) -> String {
    "  ".repeat(usize::from(job.depth))
}

/// A style from a template, or the default spinner if the template is invalid.
fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_spinner())
}

impl Screen {
    /// A screen without a panel; the first live job brings it up.
    pub fn new(output: Output) -> Self {
        let state = ScreenState { at_line_start: true, ..ScreenState::default() };
        Self { output, state: Mutex::new(state), unread: CancellationToken::new() }
    }

    fn state(&self) -> MutexGuard<'_, ScreenState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Prints a chunk of the answer. With the panel up, only complete lines are printed.
    pub fn answer(&self, text: &str) {
        if self.output.json {
            self.event("output", &json!({"text": text}));
            return;
        }
        let text = &*self.output.harmless(text);
        let mut state = self.state();
        state.answered(text);
        let text = if self.output.is_terminal() { state.unbroken(text) } else { text };
        if state.panel.is_some() {
            return self.answer_above(&mut state, text);
        }
        let (whole, rest) = text.split_at(state.cut(text).unwrap_or(0));
        self.write(&mut state, whole);
        self.release(&mut state);
        self.write(&mut state, rest);
    }

    /// Prints a chunk of the answer that is not interrupted.
    fn write(&self, state: &mut ScreenState, text: &str) {
        self.print(text);
        state.written(text);
    }

    /// Prints the complete lines of the answer above the panel, and shows the incomplete one in it.
    fn answer_above(&self, state: &mut ScreenState, text: &str) {
        state.partial.push_str(text);
        let whole = state.partial.rfind('\n').map_or(0, |at| at + 1);
        let lines: String = state.partial.drain(..whole).collect();
        if let Some(panel) = &state.panel {
            if !lines.is_empty() {
                panel.all.suspend(|| self.print(&lines));
            }
            panel.partial.set_message(render::line_end(&state.partial, PARTIAL_LINE_CHARS));
        }
    }

    /// Notes that the answer does not grow for now: a reply is complete, or is tried again. What waited for its line is
    /// printed, and an incomplete line leaves the panel, which has room for its end only.
    pub fn settle(&self) {
        let mut state = self.state();
        state.is_growing = false;
        let partial = std::mem::take(&mut state.partial);
        if let Some(panel) = state.panel.as_ref().filter(|_| !partial.is_empty()) {
            let panel = (panel.all.clone(), panel.partial.clone());
            panel.0.suspend(|| {
                self.write(&mut state, &partial);
                self.end_open_line(&mut state);
            });
            panel.1.set_message("");
        }
        self.release(&mut state);
    }

    /// Prints the lines that waited, unless the answer's line still grows.
    fn release(&self, state: &mut ScreenState) {
        if self.output.is_shared && state.is_writing() {
            return;
        }
        for line in std::mem::take(&mut state.held) {
            self.line(state, &line);
        }
    }

    /// Ends the answer's last line, unless the answer ended it.
    pub fn end_answer(&self) {
        let open = !self.state().at_line_start;
        if open && !self.output.json {
            self.answer("\n");
        }
    }

    /// Whether notes go to a terminal, where a question can be read.
    pub fn is_live(&self) -> bool {
        self.output.live
    }

    /// Prints a line about the run's progress to standard error; nothing with `--json`, whose events report the same.
    pub fn note(&self, line: &str) {
        if self.output.json {
            return;
        }
        self.line(&mut self.state(), line);
    }

    /// Prints a line to standard error. Where both streams end up in one place, it waits for the end of the line that the
    /// answer is in, and a line that the answer left incomplete is ended first.
    fn line(&self, state: &mut ScreenState, line: &str) {
        if let Some(panel) = &state.panel {
            panel.all.suspend(|| self.output.note(line));
            return;
        }
        if self.output.is_shared && state.is_writing() {
            state.held.push(line.to_owned());
            return;
        }
        self.end_open_line(state);
        self.output.note(line);
    }

    /// Ends the line that the answer left incomplete, where both streams end up in one place.
    fn end_open_line(&self, state: &mut ScreenState) {
        if self.output.is_shared && state.take_break() {
            self.output.end_line();
        }
    }

    /// Prints one event; nothing without `--json`.
    pub fn event(&self, name: &str, fields: &Value) {
        if !self.output.json {
            return;
        }
        let mut event = json!({"event": name});
        if let (Some(event), Some(fields)) = (event.as_object_mut(), fields.as_object()) {
            event.extend(fields.clone());
        }
        self.print(&format!("{event}\n"));
    }

    /// Writes to standard output. A closed pipe cancels `unread`; any other error, such as a full disk, is logged,
    /// because the jobs should still be waited for.
    fn print(&self, text: &str) {
        match self.output.try_text(text) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => self.unread.cancel(),
            Err(error) => tracing::error!(%error, "could not write the answer"),
        }
    }

    /// Shows the session's jobs, each with its last line of output: a line for each that changed, and the panel.
    fn show(&self, jobs: &[(Job, String)]) {
        let mut state = self.state();
        for (job, _) in jobs {
            let before = state.seen.insert(job.id, job.status);
            if before != Some(job.status) {
                self.changed(&mut state, job);
            }
        }
        if !self.output.live {
            return;
        }
        let mut live: Vec<&(Job, String)> =
            jobs.iter().filter(|(job, _)| !job.status.is_terminal()).collect();
        let more = live.len().saturating_sub(MAX_ROWS);
        live.truncate(MAX_ROWS);
        if live.is_empty() {
            self.take_down(&mut state);
            return;
        }
        if state.panel.is_none() {
            // It comes up at the next poll after the line is whole.
            if self.output.is_shared && state.is_writing() {
                return;
            }
            self.end_open_line(&mut state);
        }
        let panel = state.panel.get_or_insert_with(Panel::new);
        for (job, last_line) in &live {
            panel.show(job, last_line);
        }
        let ids: Vec<JobId> = live.iter().map(|(job, _)| job.id).collect();
        panel.drop_ended(&ids);
        panel.show_rest(more);
    }

    /// Shows that Redis does not answer, once for each outage: in the panel's last row, or as a line.
    fn unanswered(&self) {
        let mut state = self.state();
        if std::mem::replace(&mut state.is_unanswered, true) {
            return;
        }
        match &state.panel {
            Some(panel) => panel.rest.set_message(UNANSWERED),
            None if self.output.json => {}
            None => self.line(&mut state, UNANSWERED.trim_start()),
        }
    }

    /// Reports a job whose status changed: as a line, or as an event.
    fn changed(&self, state: &mut ScreenState, job: &Job) {
        if self.output.json {
            self.event("job", &json!({"job": job}));
            return;
        }
        // The panel shows live jobs; only their ends are printed, to stay on the screen.
        if self.output.live && !job.status.is_terminal() {
            return;
        }
        let runtime = duration::short(job.runtime());
        let (indent, id, status) = (indent(job), render::short_id(job), render::status(job));
        let mut line = format!("{indent}[{id}] {} {status} {runtime}", job.agent);
        if let Some(reason) = render::reason(job) {
            line.push_str(&format!(": {reason}"));
        }
        self.line(state, &line);
    }

    /// Takes the panel down and prints the buffered line.
    fn take_down(&self, state: &mut ScreenState) {
        if let Some(mut panel) = state.panel.take() {
            panel.drop_ended(&[]);
            panel.partial.finish_and_clear();
            panel.rest.finish_and_clear();
            // A panel that is not cleared leaves lines on the terminal; the answer is not affected.
            if let Err(error) = panel.all.clear() {
                tracing::debug!(%error, "could not clear the panel");
            }
            let partial = std::mem::take(&mut state.partial);
            self.write(state, &partial);
        }
    }

    /// Shows the jobs of a session until `over`, then once more, so that the last ends are shown, and takes the panel
    /// down.
    pub async fn follow(&self, operator: &Operator, session: SessionId, over: CancellationToken) {
        let mut ends = operator.listen_to_session(session).await;
        while !over.is_cancelled() {
            self.refresh(operator, session).await;
            tokio::select! {
                _hint = ends.next() => {}
                () = tokio::time::sleep(POLL_INTERVAL) => {}
                () = over.cancelled() => {}
            }
        }
        self.refresh(operator, session).await;
        self.take_down(&mut self.state());
        self.settle();
    }

    /// The jobs to show. With `--json` those that changed, as every command prints them: a session's list has no result,
    /// and neither what a job waits for nor its model. `None` where Redis does not answer.
    async fn to_show(&self, operator: &Operator, jobs: Vec<Job>) -> Option<Vec<Job>> {
        if !self.output.json {
            return Some(jobs);
        }
        let has_changed = |job: &Job| self.state().seen.get(&job.id) != Some(&job.status);
        let changed: Vec<JobId> = jobs.iter().filter(|job| has_changed(job)).map(|job| job.id).collect();
        if changed.is_empty() {
            return Some(Vec::new());
        }
        operator.jobs(&changed).await.inspect_err(|error| tracing::debug!(%error, "could not read jobs")).ok()
    }

    /// Reads the session's jobs and shows them. A failed read is retried at the next poll.
    async fn refresh(&self, operator: &Operator, session: SessionId) {
        let list = match operator.session_jobs(session).await {
            Ok(list) => list,
            Err(error) => {
                tracing::debug!(%error, "could not read the session's jobs");
                self.unanswered();
                return;
            }
        };
        let Some(listed) = self.to_show(operator, list.jobs).await else { return self.unanswered() };
        self.state().is_unanswered = false;
        let mut jobs = Vec::with_capacity(listed.len());
        for job in listed {
            let live = !job.status.is_terminal() && self.output.live;
            let line = if live { last_line(operator, &job).await } else { String::new() };
            jobs.push((job, line));
        }
        self.show(&jobs);
    }
}

/// The last line of a job's output that is not blank; empty if it cannot be read now.
async fn last_line(operator: &Operator, job: &Job) -> String {
    let from = job.output_bytes.saturating_sub(LAST_LINE_BYTES);
    let read = operator.output(job.id, from, usize::try_from(LAST_LINE_BYTES).unwrap_or(400)).await;
    let bytes = read.map(|slice| slice.bytes).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default().to_owned()
}

impl fmt::Debug for Screen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Screen").field("output", &self.output).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_below_the_last_job_of_its_dispatchers_tree() {
        let session = SessionId::random();
        let [a, b, c, d, e] = [(); 5].map(|()| JobId::random_in(session));
        let order = [(a, 0), (b, 1), (c, 2), (d, 0)];
        for (parent, place) in
            [(None, 4), (Some(a), 3), (Some(b), 3), (Some(c), 3), (Some(d), 4), (Some(e), 4)]
        {
            assert_eq!(place_in(&order, parent), place);
        }
    }

    #[test]
    fn an_incomplete_line_is_ended_once() {
        let mut state = ScreenState::default();
        assert!(!state.take_break());
        for (text, open) in [("a", true), ("", false), ("b\n", false), ("c\nd", true)] {
            state.written(text);
            assert_eq!(state.take_break(), open, "{text:?}");
            assert!(!state.take_break(), "{text:?}");
        }
    }

    /// Prints a chunk as [`Screen::answer`] does without a panel.
    fn print(state: &mut ScreenState, text: &str) {
        state.answered(text);
        let text = state.unbroken(text);
        state.written(text);
    }

    #[test]
    fn nothing_interrupts_a_line_that_is_being_written() {
        let mut state = ScreenState::default();
        assert!(!state.is_writing());
        for (text, is_writing) in [("Both", true), (" are running.\n", false), ("I will", true), ("", true)] {
            print(&mut state, text);
            assert_eq!(state.is_writing(), is_writing, "{text:?}");
        }
        // The reply is complete.
        state.is_growing = false;
        assert!(!state.is_writing() && state.take_break());
    }

    #[test]
    fn lines_that_wait_are_printed_where_a_line_of_the_answer_ends() {
        let mut state = ScreenState::default();
        print(&mut state, "Both");
        assert_eq!(state.cut(" are\n\nrunning"), None);
        state.held.push("a job ended".to_owned());
        for (text, cut) in [(" are", None), (" are\n\nrunning", Some(6)), ("\n", Some(1))] {
            assert_eq!(state.cut(text), cut, "{text:?}");
        }
    }

    #[test]
    fn a_line_that_was_ended_for_the_terminal_is_not_ended_twice() {
        let mut state = ScreenState::default();
        print(&mut state, "Both are running.");
        assert!(state.take_break());
        assert_eq!(state.unbroken("\n\n# Found"), "\n# Found");
        assert_eq!(state.unbroken("\n"), "\n");
    }

    #[test]
    fn the_answers_line_break_does_not_depend_on_other_output() {
        let mut state = ScreenState::default();
        state.answered("a\n");
        state.answered("");
        assert!(state.at_line_start);
        state.answered("b");
        state.written("b");
        assert!(state.take_break());
        assert!(!state.at_line_start);
    }
}
