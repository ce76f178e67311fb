//! The screen of `run`: the answer on standard output, and below it a live panel of the background jobs.
//!
//! On a terminal the panel is redrawn below the answer; a line of the answer that is not complete yet is shown
//! in the panel, because redrawing would wipe it. Elsewhere each change of a job is one plain line.

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
use legwork_common::id::Dispatcher;
use legwork_common::id::JobId;
use legwork_common::id::SessionId;
use legwork_common::job::Job;
use legwork_common::lifecycle::State;
use legwork_queue::Observer;
use legwork_queue::port::Watch as _;
use serde_json::Value;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::output::Output;
use crate::render;

/// How often the panel looks at the jobs.
const LOOK_EVERY: Duration = Duration::from_millis(400);
/// How often spinners turn.
const SPIN_EVERY: Duration = Duration::from_millis(100);
/// Bytes of output of which the last line is shown.
const LAST_LINE_BYTES: u64 = 400;
/// Jobs that the panel shows at most.
const SHOWN: usize = 12;
/// Characters of the answer's open line that the panel shows: they fit a narrow terminal.
const OPEN_LINE: usize = 72;

/// The screen. All writing of `run` goes through it.
pub struct Screen {
    output: Output,
    state: Mutex<ScreenState>,
    /// Cancelled when nobody reads the answer any more.
    pub unread: CancellationToken,
}

#[derive(Default)]
struct ScreenState {
    panel: Option<Panel>,
    /// The line of the answer that is not complete yet, held back while the panel is up.
    partial: String,
    /// The last status of each job that was shown.
    seen: BTreeMap<JobId, State>,
    /// Whether the answer's last character was a line break.
    at_line_start: bool,
    /// Whether the terminal's last line is one of the answer that is not complete yet.
    line_open: bool,
}

impl ScreenState {
    /// The answer went on.
    fn answered(&mut self, text: &str) {
        if !text.is_empty() {
            self.at_line_start = text.ends_with('\n');
        }
    }

    /// A piece of the answer was written to where the terminal may be.
    fn written(&mut self, text: &str) {
        if !text.is_empty() {
            self.line_open = !text.ends_with('\n');
        }
    }

    /// Whether the terminal's line has to be ended before anything else is shown; asked once for each.
    fn take_break(&mut self) -> bool {
        std::mem::take(&mut self.line_open)
    }
}

/// The drawn panel.
struct Panel {
    all: MultiProgress,
    partial: ProgressBar,
    bars: BTreeMap<JobId, ProgressBar>,
    /// How many jobs are not shown.
    rest: ProgressBar,
}

impl Panel {
    fn new() -> Self {
        let all = MultiProgress::new();
        let partial = all.add(ProgressBar::new_spinner().with_style(style("{wide_msg}")));
        let rest = all.add(ProgressBar::new_spinner().with_style(style("{msg}")));
        Self { all, partial, bars: BTreeMap::new(), rest }
    }

    fn show(&mut self, job: &Job, last_line: &str) {
        let bar = self.bars.entry(job.id).or_insert_with(|| {
            let bar = self.all.insert_before(&self.rest, ProgressBar::new_spinner());
            bar.enable_steady_tick(SPIN_EVERY);
            bar.set_style(style("{spinner} {wide_msg}"));
            bar
        });
        let runtime = duration::short(job.runtime());
        let text = format!(
            "{} {:<16} {:<9} {runtime:>6}  {}",
            render::short_id(job),
            job.agent,
            job.status.as_str(),
            render::first_line(last_line, 60),
        );
        if bar.message() != text {
            bar.set_message(text);
        }
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
            if let Some(bar) = self.bars.remove(&id) {
                bar.finish_and_clear();
                self.all.remove(&bar);
            }
        }
    }
}

/// A style from a template of ours, or the default one should it be wrong.
fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_spinner())
}

impl Screen {
    /// A screen without a panel yet.
    pub fn new(output: Output) -> Self {
        let state = ScreenState { at_line_start: true, ..ScreenState::default() };
        Self { output, state: Mutex::new(state), unread: CancellationToken::new() }
    }

    fn state(&self) -> MutexGuard<'_, ScreenState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A piece of the answer.
    pub fn answer(&self, text: &str) {
        if self.output.json {
            self.event("output", &json!({"text": text}));
            return;
        }
        let mut state = self.state();
        state.answered(text);
        if state.panel.is_none() {
            self.print(text);
            state.written(text);
            return;
        }
        state.partial.push_str(text);
        let whole = state.partial.rfind('\n').map_or(0, |at| at + 1);
        let lines: String = state.partial.drain(..whole).collect();
        if let Some(panel) = &state.panel {
            if !lines.is_empty() {
                panel.all.suspend(|| self.print(&lines));
            }
            panel.partial.set_message(render::line_end(&state.partial, OPEN_LINE));
        }
    }

    /// Ends the answer's last line.
    pub fn end_answer(&self) {
        let open = !self.state().at_line_start;
        if open && !self.output.json {
            self.answer("\n");
        }
    }

    /// Whether a person sees what is noted.
    pub fn is_seen(&self) -> bool {
        self.output.live
    }

    /// A line about what goes on; not with `--json`.
    pub fn note(&self, line: &str) {
        if self.output.json {
            return;
        }
        self.line(&mut self.state(), line);
    }

    /// A line beside the answer. On a terminal both streams meet: it begins on a line of its own.
    fn line(&self, state: &mut ScreenState, line: &str) {
        if let Some(panel) = &state.panel {
            panel.all.suspend(|| self.output.note(line));
            return;
        }
        self.end_open_line(state);
        self.output.note(line);
    }

    /// Ends the terminal's line where the answer left it open; the answer itself stays as it is.
    fn end_open_line(&self, state: &mut ScreenState) {
        if self.output.live && state.take_break() {
            self.output.note("");
        }
    }

    /// One event of `--json`; nothing without.
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

    /// Standard output that cannot be written is a closed pipe, which the run hears of and ends in order, or a
    /// full disk, about which nothing can be done here.
    fn print(&self, text: &str) {
        match self.output.try_text(text) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => self.unread.cancel(),
            Err(error) => tracing::error!(%error, "the answer cannot be written"),
        }
    }

    /// Shows what changed since the last call.
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
        let more = live.len().saturating_sub(SHOWN);
        live.truncate(SHOWN);
        if live.is_empty() {
            self.take_down(&mut state);
            return;
        }
        if state.panel.is_none() {
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

    /// A job is in another state than before: a line for it, or an event.
    fn changed(&self, state: &mut ScreenState, job: &Job) {
        if self.output.json {
            self.event("job", &json!({"job": job}));
            return;
        }
        // The panel shows what runs; its end stays on the screen.
        if self.output.live && !job.status.is_terminal() {
            return;
        }
        let runtime = duration::short(job.runtime());
        let line = format!("[{}] {} {} {runtime}", render::short_id(job), job.agent, render::status(job));
        self.line(state, &line);
    }

    /// Takes the panel down and gives the line that was held back to the terminal.
    fn take_down(&self, state: &mut ScreenState) {
        if let Some(mut panel) = state.panel.take() {
            panel.drop_ended(&[]);
            panel.partial.finish_and_clear();
            panel.rest.finish_and_clear();
            // A failed redraw leaves a line on a terminal, nothing else.
            if let Err(error) = panel.all.clear() {
                tracing::debug!(%error, "could not clear the panel");
            }
            let partial = std::mem::take(&mut state.partial);
            self.print(&partial);
            state.written(&partial);
        }
    }

    /// Shows the jobs of a session until `over`.
    pub async fn follow(&self, observer: &Observer, session: SessionId, over: CancellationToken) {
        let channel = observer.queue().keys().session_channel(session);
        let mut ends = observer.hints().listen(channel).await;
        while !over.is_cancelled() {
            self.look(observer, session).await;
            tokio::select! {
                _hint = ends.next() => {}
                () = tokio::time::sleep(LOOK_EVERY) => {}
                () = over.cancelled() => {}
            }
        }
        self.look(observer, session).await;
        self.take_down(&mut self.state());
    }

    /// Reads the session's jobs and shows them. What cannot be read now is shown the next time.
    async fn look(&self, observer: &Observer, session: SessionId) {
        let list = match observer.queue().children(session, Dispatcher::Root(session)).await {
            Ok(list) => list,
            Err(error) => {
                tracing::debug!(%error, "could not read the session's jobs");
                return;
            }
        };
        let mut jobs = Vec::with_capacity(list.jobs.len());
        for job in list.jobs {
            let live = !job.status.is_terminal() && self.output.live;
            let line = if live { last_line(observer, &job).await } else { String::new() };
            jobs.push((job, line));
        }
        self.show(&jobs);
    }
}

/// The last line of a job's output; nothing if it cannot be read now.
async fn last_line(observer: &Observer, job: &Job) -> String {
    let from = job.output_bytes.saturating_sub(LAST_LINE_BYTES);
    let read = observer.queue().output(job.id, from, usize::try_from(LAST_LINE_BYTES).unwrap_or(400)).await;
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
    fn an_open_line_is_ended_once() {
        let mut state = ScreenState::default();
        assert!(!state.take_break());
        for (text, open) in [("a", true), ("", false), ("b\n", false), ("c\nd", true)] {
            state.written(text);
            assert_eq!(state.take_break(), open, "{text:?}");
            assert!(!state.take_break(), "{text:?}");
        }
    }

    #[test]
    fn an_answer_ends_its_line_whatever_was_shown_beside_it() {
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
