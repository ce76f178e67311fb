//! Draws the state: a line about the fleet, the jobs, the workers where there is room, and the selected job's output.

use std::time::Duration;

use legwork_common::duration;
use legwork_common::job::Job;
use legwork_common::lifecycle::State;
use legwork_queue::operator::WorkerCondition;
use ratatui::Frame;
use ratatui::layout::Constraint;
use ratatui::layout::Layout;
use ratatui::layout::Rect;
use ratatui::style::Color;
use ratatui::style::Modifier;
use ratatui::style::Style;
use ratatui::text::Line;
use ratatui::text::Span;
use ratatui::text::Text;
use ratatui::widgets::Block;
use ratatui::widgets::Borders;
use ratatui::widgets::Cell;
use ratatui::widgets::Paragraph;
use ratatui::widgets::Row as TableRow;
use ratatui::widgets::Table;
use ratatui::widgets::TableState;
use unicode_width::UnicodeWidthStr as _;

use crate::many::thousands;
use crate::render;
use crate::top::state::Detail;
use crate::top::state::Mode;
use crate::top::state::Row;
use crate::top::state::Top;

/// The width from which on workers stand next to the jobs.
const WIDE: u16 = 140;
/// Cells of the workers' column.
const WORKERS_WIDTH: u16 = 56;
/// The most characters of a task in a row; the column cuts before.
const TASK_CHARS: usize = 200;
/// Spaces of one level of the tree.
const INDENT: usize = 2;

/// Draws one frame. `place` is where the fleet is.
pub fn draw(frame: &mut Frame<'_>, top: &Top, place: &str) {
    let [head, body, foot] =
        Layout::vertical([Constraint::Length(2), Constraint::Min(3), Constraint::Length(1)])
            .areas(frame.area());
    frame.render_widget(Paragraph::new(heading(top, place, usize::from(head.width))), head);
    if top.is_detail_whole {
        detail(frame, top, body);
    } else {
        let [upper, lower] =
            Layout::vertical([Constraint::Percentage(60), Constraint::Percentage(40)]).areas(body);
        if frame.area().width >= WIDE {
            let [left, right] =
                Layout::horizontal([Constraint::Min(60), Constraint::Length(WORKERS_WIDTH)]).areas(upper);
            jobs(frame, top, left);
            workers(frame, top, right);
        } else {
            jobs(frame, top, upper);
        }
        detail(frame, top, lower);
    }
    frame.render_widget(Paragraph::new(footer(top)), foot);
}

/// The first of the texts that fits into so many columns; the last one where none does.
fn fitting(texts: [String; 2], columns: usize) -> String {
    let [whole, short] = texts;
    if whole.width() <= columns { whole } else { short }
}

/// Two lines of so many columns: what waits and runs, and what ended lately.
fn heading(top: &Top, place: &str, columns: usize) -> Text<'static> {
    let bold = Style::new().add_modifier(Modifier::BOLD);
    let Some(stats) = &top.snapshot.stats else {
        return Text::from(Line::from(vec![Span::styled("legwork top", bold), format!("  {place}").into()]));
    };
    let sum =
        |count: fn(&legwork_queue::operator::QueueStats) -> u64| stats.queues.iter().map(count).sum::<u64>();
    let oldest = stats.queues.iter().filter_map(|queue| queue.oldest_queued_ms).max();
    let oldest = oldest.map(|ms| format!(" (oldest {})", duration::age(Duration::from_millis(ms))));
    let paused: Vec<&str> = stats
        .queues
        .iter()
        .filter(|queue| queue.paused_since.is_some())
        .map(|queue| queue.queue.as_str())
        .collect();
    let mut first = vec![
        Span::styled("legwork top", bold),
        format!(
            "  {} queued{}  {} running  {} waiting  {} later",
            thousands(sum(|queue| queue.queued)),
            oldest.unwrap_or_default(),
            thousands(sum(|queue| queue.running)),
            thousands(sum(|queue| queue.waiting)),
            thousands(sum(|queue| queue.scheduled)),
        )
        .into(),
    ];
    if !paused.is_empty() {
        let left = columns.saturating_sub(first.iter().map(Span::width).sum());
        let texts = [format!("  paused: {}", paused.join(", ")), format!("  {} paused", paused.len())];
        let text = fitting(texts, left);
        first.push(Span::styled(text, Style::new().fg(Color::Yellow)));
    }
    let workers = &stats.workers;
    let mut second = format!(
        "workers {}  slots {}/{}  a minute: {:.1} in, {:.1} ended",
        workers.serving + workers.draining + workers.sick,
        workers.used,
        workers.slots,
        top.snapshot.rates.dispatched,
        top.snapshot.rates.ended,
    );
    if let Some(hour) = stats.ended.first() {
        let [completed, failed, stopped] = [hour.completed, hour.failed, hour.stopped].map(thousands);
        let tokens = thousands(hour.usage.input_tokens + hour.usage.output_tokens);
        let all = thousands(hour.completed + hour.failed + hour.stopped);
        let whole = format!(
            "  last hour: {completed} completed, {failed} failed, {stopped} stopped, {tokens} tokens"
        );
        let short = format!("  hour: {failed} of {all} failed");
        second.push_str(&fitting([whole, short], columns.saturating_sub(second.width())));
    }
    Text::from(vec![Line::from(first), Line::from(second)])
}

fn jobs(frame: &mut Frame<'_>, top: &Top, area: Rect) {
    let (rows, is_wide) = (top.rows(), frame.area().width >= WIDE);
    let title = if top.filter.is_empty() {
        format!(" Jobs: {} ({}) ", top.shown.name(), rows.len())
    } else {
        format!(" Jobs: {} with \"{}\" ({}) ", top.shown.name(), top.filter, rows.len())
    };
    let header = ["ID", "STATUS", "AGENT", "AGE", "RUNTIME", "TASK"];
    let widest = |text: &dyn Fn(&Job) -> String, most: usize| {
        let cells = rows.iter().map(|row| text(&row.job).width()).max().unwrap_or(0).clamp(6, most);
        Constraint::Length(u16::try_from(cells).unwrap_or(6))
    };
    let widths = [
        Constraint::Length(8 + indent(&rows)),
        widest(&render::status, if is_wide { 30 } else { 16 }),
        widest(&|job| job.agent.clone(), if is_wide { 24 } else { 14 }),
        Constraint::Length(6),
        Constraint::Length(7),
        Constraint::Min(10),
    ];
    let header = TableRow::new(header).style(Style::new().add_modifier(Modifier::BOLD));
    let place = top.place();
    let (mut lines, mut selected) = (Vec::with_capacity(rows.len()), None);
    for (index, row) in rows.iter().enumerate() {
        if index == 0 || rows.get(index - 1).is_some_and(|before| before.job.session != row.job.session) {
            lines.push(session_row(&rows, row));
        }
        if place == Some(index) {
            selected = Some(lines.len());
        }
        lines.push(job_row(row, top));
    }
    let table = Table::new(lines, widths)
        .header(header)
        .block(Block::new().borders(Borders::TOP).title(title))
        .row_highlight_style(Style::new().add_modifier(Modifier::REVERSED));
    let mut state = TableState::new().with_selected(selected);
    frame.render_stateful_widget(table, area, &mut state);
}

/// Cells by which the deepest row is moved to the right; a deeper tree is cut there.
fn indent(rows: &[&Row]) -> u16 {
    let deepest = rows.iter().map(|row| row.depth + 1).max().unwrap_or(0);
    u16::try_from((deepest * INDENT).min(12)).unwrap_or(0)
}

/// The line above the jobs of a session.
fn session_row(rows: &[&Row], first: &Row) -> TableRow<'static> {
    let session = first.job.session;
    let jobs = rows.iter().filter(|row| row.job.session == session);
    let (all, live) =
        jobs.fold((0, 0), |(all, live), row| (all + 1, live + usize::from(!row.job.status.is_terminal())));
    let mut cells = vec![Cell::from(render::short(session)), Cell::from("session")];
    cells.extend(["", "", ""].map(Cell::from));
    cells.push(Cell::from(format!("{}, {live} live", crate::many::jobs(all))));
    TableRow::new(cells).style(Style::new().add_modifier(Modifier::DIM))
}

fn job_row(row: &Row, top: &Top) -> TableRow<'static> {
    let job = &row.job;
    let stale = job.silent_ms.map(Duration::from_millis);
    let runtime = if job.attempt == 0 { "-".to_owned() } else { duration::short(job.runtime()) };
    TableRow::new(vec![
        Cell::from(format!("{}{}", " ".repeat((row.depth + 1) * INDENT), render::short_id(job))),
        Cell::from(Span::styled(
            render::status_with_staleness(job, stale),
            Style::new().fg(color(job.status)),
        )),
        Cell::from(job.agent.clone()),
        Cell::from(duration::age(render::since(job.created_at, top.snapshot.at))),
        Cell::from(runtime),
        Cell::from(render::first_line(&job.task, TASK_CHARS)),
    ])
}

/// The colours of the command line.
fn color(state: State) -> Color {
    match state {
        State::Completed => Color::Green,
        State::Failed => Color::Red,
        State::Stopped | State::Stopping => Color::Yellow,
        State::Running | State::Reaping => Color::Cyan,
        State::Waiting => Color::Blue,
        State::Queued | State::Scheduled => Color::DarkGray,
    }
}

fn workers(frame: &mut Frame<'_>, top: &Top, area: Rect) {
    let all = &top.snapshot.workers;
    let rows = all.iter().map(|(worker, condition)| {
        let (state, color) = match condition {
            WorkerCondition::Serving => ("serving".to_owned(), Color::Green),
            WorkerCondition::Draining => ("draining".to_owned(), Color::Yellow),
            WorkerCondition::Lost(age) => (format!("lost {}", duration::age(*age)), Color::Red),
            WorkerCondition::Sick(_) => ("sick".to_owned(), Color::Red),
        };
        TableRow::new(vec![
            Cell::from(worker.id.to_string()),
            Cell::from(Span::styled(state, Style::new().fg(color))),
            Cell::from(format!("{}/{}", worker.used, worker.slots)),
            Cell::from(worker.lanes.join(",")),
        ])
    });
    let widths = [Constraint::Min(20), Constraint::Length(9), Constraint::Length(8), Constraint::Max(14)];
    let table = Table::new(rows, widths)
        .header(
            TableRow::new(["ID", "STATE", "SLOTS", "QUEUES"])
                .style(Style::new().add_modifier(Modifier::BOLD)),
        )
        .block(
            Block::new().borders(Borders::TOP | Borders::LEFT).title(format!(" Workers ({}) ", all.len())),
        );
    frame.render_widget(table, area);
}

/// The last lines of the selected job's output, or of its turns.
fn detail(frame: &mut Frame<'_>, top: &Top, area: Rect) {
    let Some(job) = top.job() else {
        frame.render_widget(Block::new().borders(Borders::TOP).title(" no job "), area);
        return;
    };
    let what = if top.detail == Detail::Turns { "turns, " } else { "" };
    let title = format!(" {what}{} {} {} ", render::short_id(job), job.agent, render::status(job));
    let rows = usize::from(area.height.saturating_sub(1));
    let mut lines = about(job);
    if top.snapshot.text_of == Some((job.id, top.detail)) {
        let text = render::visible(&top.snapshot.text);
        lines.extend(wrapped(&text, usize::from(area.width)).into_iter().map(Line::from));
    }
    let skipped = lines.len().saturating_sub(rows);
    let shown: Vec<Line<'static>> = lines.into_iter().skip(skipped).collect();
    frame.render_widget(
        Paragraph::new(Text::from(shown)).block(Block::new().borders(Borders::TOP).title(title)),
        area,
    );
}

/// What a job waits for or failed with, above its output.
fn about(job: &Job) -> Vec<Line<'static>> {
    let mut lines = Vec::new();
    if let Some(reason) = &job.waits_for {
        lines.push(Line::styled(format!("waits: {}", reason.phrase()), Style::new().fg(Color::Blue)));
    }
    if let Some(error) = &job.error {
        lines.push(Line::styled(render::first_line(error, TASK_CHARS), Style::new().fg(Color::Red)));
    }
    lines
}

/// The lines of a text, each cut into pieces of this many characters.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = Vec::new();
    for line in text.lines() {
        let characters: Vec<char> = line.chars().collect();
        if characters.is_empty() {
            lines.push(String::new());
        }
        lines.extend(characters.chunks(width.max(1)).map(|piece| piece.iter().collect::<String>()));
    }
    lines
}

/// What the keys do now, or what became of the last change.
fn footer(top: &Top) -> Line<'static> {
    let warning = Style::new().fg(Color::Yellow).add_modifier(Modifier::BOLD);
    match &top.mode {
        Mode::Confirm(change, id) => {
            let session = top.job().map(|job| render::short(job.session)).unwrap_or_default();
            Line::styled(change.question(&render::short(id.uuid()), &session), warning)
        }
        Mode::Write(id, message) => {
            let id = render::short(id.uuid());
            Line::from(format!("to {id}: {message}▏ Enter sends it, Esc does not"))
        }
        Mode::Filter => Line::from(format!("/{}▏ Enter keeps the filter, Esc clears it", top.filter)),
        Mode::Browse => match (&top.snapshot.error, top.note.as_str()) {
            (Some(error), _) => Line::styled(error.clone(), warning),
            (None, "") => Line::styled(
                "q quit  Enter whole  t turns  / find  a which  s/S stop job/all  r retry  m send",
                Style::new().add_modifier(Modifier::DIM),
            ),
            (None, note) => Line::from(note.to_owned()),
        },
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use legwork_common::id::SessionId;
    use legwork_common::id::WorkerId;
    use legwork_common::job::Cause;
    use legwork_common::job::Usage;
    use legwork_common::waits_for::WaitsFor;
    use legwork_queue::operator::AskingStats;
    use legwork_queue::operator::Counted;
    use legwork_queue::operator::EndedStats;
    use legwork_queue::operator::FleetStats;
    use legwork_queue::operator::QueueStats;
    use legwork_queue::operator::WorkerRecord;
    use legwork_queue::operator::WorkerReport;
    use legwork_queue::operator::WorkerStats;
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::*;
    use crate::top::state::Change;
    use crate::top::state::Rates;
    use crate::top::state::Snapshot;

    fn row(number: u32, depth: usize, status: State, task: &str) -> Row {
        let session: SessionId = "00000000-0000-4000-8000-00000000abcd".parse().unwrap();
        let id =
            format!("agent_task_{:08x}-1111-4111-8111-11111111abcd", number * 0x0123_4567).parse().unwrap();
        let agent = if depth == 0 { "code_analyst" } else { "reviewer" }.to_owned();
        let created_at = Timestamp::from_second(600 - i64::from(number)).unwrap();
        let attempt = u32::from(status != State::Queued);
        let job =
            Job { agent, status, task: task.to_owned(), created_at, attempt, ..Job::queued(id, session) };
        Row { depth, job }
    }

    fn fleet() -> FleetStats {
        let queue = |name: &str, queued, oldest| QueueStats {
            queue: name.to_owned(),
            queued,
            oldest_queued_ms: oldest,
            running: 4,
            ..QueueStats::default()
        };
        let nightly =
            QueueStats { paused_since: Timestamp::from_second(1).ok(), ..queue("nightly", 3, None) };
        FleetStats {
            at: Timestamp::from_second(600).unwrap(),
            queues: vec![queue("code", 12, Some(185_000)), nightly],
            agents: vec![],
            workers: WorkerStats { serving: 2, used: 8, slots: 40, ..WorkerStats::default() },
            asking: AskingStats::default(),
            live: Counted::default(),
            ended: vec![EndedStats {
                completed: 1_204,
                failed: 8,
                stopped: 2,
                usage: Usage { input_tokens: 901_234, output_tokens: 12_345, ..Usage::default() },
                ..EndedStats::default()
            }],
        }
    }

    fn busy() -> Top {
        let mut rows = vec![
            row(1, 0, State::Running, "Count the source files and say which is the largest of them all"),
            row(2, 1, State::Running, "Read a.rs"),
            row(3, 2, State::Queued, "Read b.rs"),
            row(4, 0, State::Failed, "Review the change"),
        ];
        rows[2].job.waits_for = Some(WaitsFor::Paused { queue: "nightly".to_owned(), since: None });
        (rows[3].job.cause, rows[3].job.error) =
            (Some(Cause::ProviderError), Some("openai answered 503: overloaded".to_owned()));
        rows.extend((5..60).map(|number| row(number, 0, State::Completed, "Summarise the log")));
        let worker = WorkerRecord {
            id: WorkerId::from_stored("build-17-3f2a9c1b".to_owned()),
            host: "build-17".to_owned(),
            process: None,
            lanes: vec!["code".to_owned(), "default".to_owned()],
            slots: 20,
            used: 8,
            jobs: 9,
            seen: Timestamp::UNIX_EPOCH,
            draining: false,
            began: None,
            age: Duration::ZERO,
            report: WorkerReport::default(),
            unreadable: None,
        };
        let lost = WorkerCondition::Lost(Duration::from_secs(26));
        let mut top = Top::default();
        let text_of = Some((rows[0].job.id, Detail::Output));
        top.take(Snapshot {
            at: Timestamp::from_second(600).unwrap(),
            rows,
            workers: vec![(worker.clone(), WorkerCondition::Serving), (worker, lost)],
            stats: Some(fleet()),
            text_of,
            rates: Rates { dispatched: 4.2, ended: 3.8 },
            text: "I call list_files.\nThere are 12 of them.\n\x1b[31mred\x07\n".to_owned(),
            error: None,
        });
        top
    }

    /// What a terminal of this size shows, without colours.
    fn shown(top: &Top, width: u16, height: u16) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(frame, top, "127.0.0.1:6379")).unwrap();
        let buffer = terminal.backend().buffer();
        let lines = buffer.content().chunks(usize::from(width));
        let text =
            |cells: &[ratatui::buffer::Cell]| cells.iter().map(|cell| cell.symbol()).collect::<String>();
        lines.map(|cells| text(cells).trim_end().to_owned() + "\n").collect()
    }

    #[test]
    fn two_sizes_of_a_terminal() {
        insta::assert_snapshot!("top_80", shown(&busy(), 80, 24));
        insta::assert_snapshot!("top_200", shown(&busy(), 200, 60));
    }

    #[test]
    fn questions_filters_and_an_empty_fleet() {
        let mut top = busy();
        top.mode = Mode::Confirm(Change::Stop, top.selected.unwrap());
        let last = |top: &Top| shown(top, 80, 24).lines().last().unwrap().to_owned();
        assert_eq!(last(&top), "stop job 01234567 and all below it? y/N");
        top.mode = Mode::Filter;
        top.filter = "rev".to_owned();
        assert_eq!(last(&top), "/rev▏ Enter keeps the filter, Esc clears it");
        insta::assert_snapshot!("top_empty", shown(&Top::default(), 80, 24));
    }

    #[test]
    fn a_small_terminal_is_drawn_too() {
        for (width, height) in [(1, 1), (10, 3), (40, 6)] {
            shown(&busy(), width, height);
        }
    }
}
