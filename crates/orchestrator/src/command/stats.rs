//! `legwork stats`: how many jobs wait, run and have ended, and which workers there are.

use std::time::Duration;

use jiff::Timestamp;
use legwork_common::duration;
use legwork_common::error::ExitStatus;
use legwork_queue::ConnectionKind;
use legwork_queue::operator::AgentStats;
use legwork_queue::operator::AskingStats;
use legwork_queue::operator::Counted;
use legwork_queue::operator::EndedStats;
use legwork_queue::operator::FleetStats;
use legwork_queue::operator::QueueStats;
use legwork_queue::operator::SpentStats;
use legwork_queue::operator::WorkerStats;

use crate::context::Context;
use crate::failure::Failure;
use crate::many::thousands;
use crate::render;
use crate::render::table;
use crate::render::table::Column;

const QUEUE_COLUMNS: [Column; 8] = [
    Column::cut("QUEUE"),
    Column::whole("QUEUED"),
    Column::whole("OLDEST"),
    Column::whole("RUNNING"),
    Column::whole("WAITING"),
    Column::whole("LATER"),
    Column::whole("SLOTS"),
    Column::cut("STATE"),
];
const AGENT_COLUMNS: [Column; 3] = [Column::cut("AGENT"), Column::whole("QUEUED"), Column::whole("RUNNING")];
const ENDED_COLUMNS: [Column; 3] =
    [Column::cut("ENDED"), Column::whole("LAST HOUR"), Column::whole("LAST DAY")];

/// Models and agents that are shown, the most expensive: a screen has no room for more, and `--json` has all.
const MAX_SPENT: usize = 10;

/// The columns of what models or agents used.
fn spent_columns(name: &'static str) -> [Column; 5] {
    let [jobs, input, output, cost] = ["JOBS", "TOKENS IN", "TOKENS OUT", "COST"].map(Column::whole);
    [Column::cut(name), jobs, input, output, cost]
}

/// Counts and shows.
pub(super) async fn stats(context: Context) -> Result<ExitStatus, Failure> {
    let connection = context.connect(ConnectionKind::Pooled).await?;
    let stats = connection.operator.stats().await;
    connection.leave().await?;
    let stats = stats?;
    if context.output.json {
        context.output.object(&stats)?;
    } else {
        context.output.text(&text(&stats, context.output.width))?;
    }
    Ok(ExitStatus::Success)
}

/// The tables, and a line about the workers.
fn text(stats: &FleetStats, width: Option<usize>) -> String {
    let queues: Vec<Vec<String>> = stats.queues.iter().map(|queue| queue_row(queue, stats.at)).collect();
    let mut parts = vec![table::text(&QUEUE_COLUMNS, &queues, width)];
    if !stats.agents.is_empty() {
        let agents: Vec<Vec<String>> = stats.agents.iter().map(agent_row).collect();
        parts.push(table::text(&AGENT_COLUMNS, &agents, width));
    }
    parts.push(table::text(&ENDED_COLUMNS, &ended_rows(&stats.ended), width));
    for (columns, spent) in stats.ended.last().into_iter().flat_map(|day| {
        [(spent_columns("MODEL, LAST DAY"), &day.models), (spent_columns("AGENT, LAST DAY"), &day.agents)]
    }) {
        if !spent.is_empty() {
            parts.push(table::text(&columns, &spent_rows(spent), width));
        }
    }
    parts.push(workers(&stats.workers));
    parts.extend(asking(&stats.asking));
    parts.extend(not_all(stats).map(|note| render::wrapped(&note, width) + "\n"));
    parts.join("\n")
}

fn queue_row(queue: &QueueStats, now: Timestamp) -> Vec<String> {
    let oldest = queue.oldest_queued_ms.map(|ms| duration::age(Duration::from_millis(ms)));
    let state = match (queue.paused_since, queue.workers) {
        (Some(since), _) => format!("paused {}", duration::age(render::since(since, now))),
        (None, 0) => "no worker".to_owned(),
        (None, workers) => legwork_common::waits_for::counted(workers, "worker"),
    };
    vec![
        queue.queue.clone(),
        thousands(queue.queued),
        oldest.unwrap_or_else(|| "-".to_owned()),
        thousands(queue.running),
        thousands(queue.waiting),
        thousands(queue.scheduled),
        format!("{}/{}", queue.used, queue.slots),
        state,
    ]
}

fn agent_row(agent: &AgentStats) -> Vec<String> {
    vec![agent.agent.clone(), thousands(agent.queued), thousands(agent.running)]
}

/// One row for each outcome, for each cause below it, and for what was used.
fn ended_rows(ended: &[EndedStats]) -> Vec<Vec<String>> {
    let row = |name: String, value: &dyn Fn(&EndedStats) -> u64| {
        let values = ended.iter().map(|ended| thousands(value(ended)));
        std::iter::once(name).chain(values).collect::<Vec<String>>()
    };
    let mut rows = vec![
        row("completed".to_owned(), &|ended| ended.completed),
        row("failed".to_owned(), &|ended| ended.failed),
        row("stopped".to_owned(), &|ended| ended.stopped),
    ];
    let causes = ended.last().map(|ended| ended.causes.keys().cloned().collect::<Vec<_>>());
    for cause in causes.unwrap_or_default() {
        rows.push(row(format!("  {cause}"), &|ended| ended.causes.get(&cause).copied().unwrap_or(0)));
    }
    rows.push(row("model calls".to_owned(), &|ended| ended.usage.turns));
    rows.push(row("tokens in".to_owned(), &|ended| ended.usage.input_tokens));
    rows.push(row("  from cache".to_owned(), &|ended| ended.usage.cached_tokens));
    rows.push(row("tokens out".to_owned(), &|ended| ended.usage.output_tokens));
    let costs = ended.iter().map(|ended| ended.cost_usd.to_string());
    rows.push(std::iter::once("cost".to_owned()).chain(costs).collect());
    rows
}

/// What models and agents used in the last day.
fn spent_rows(spent: &[SpentStats]) -> Vec<Vec<String>> {
    let row = |spent: &SpentStats| {
        let usage = spent.usage;
        let cost = spent.cost_usd.map_or_else(|| "-".to_owned(), |cost| cost.to_string());
        let tokens = [usage.input_tokens, usage.output_tokens].map(thousands);
        [vec![spent.name.clone(), thousands(spent.jobs)], tokens.to_vec(), vec![cost]].concat()
    };
    spent.iter().take(MAX_SPENT).map(row).collect()
}

fn workers(workers: &WorkerStats) -> String {
    let WorkerStats { serving, draining, lost, sick, slots, used } = workers;
    let mut text = format!("workers: {serving} serving");
    for (count, word) in [(draining, "draining"), (sick, "sick"), (lost, "lost")] {
        if *count > 0 {
            text.push_str(&format!(", {count} {word}"));
        }
    }
    format!("{text}; {used} of {slots} slots in use\n")
}

/// The jobs that wait for a person, where there are any.
fn asking(asking: &AskingStats) -> Option<String> {
    let oldest = asking.oldest_ms.map(|ms| duration::age(Duration::from_millis(ms))).unwrap_or_default();
    let jobs = legwork_common::waits_for::counted(asking.jobs, "job");
    (asking.jobs > 0)
        .then(|| format!("waiting for a person: {jobs}, the first for {oldest}; see `legwork approve`\n"))
}

/// That there are more jobs than were counted.
fn not_all(stats: &FleetStats) -> Option<String> {
    let part = |of: &Counted, what: &str| {
        (of.counted < of.total).then(|| {
            format!("{} of {} jobs that {what} were counted", thousands(of.counted), thousands(of.total))
        })
    };
    let ended = stats.ended.last().and_then(|ended| part(&ended.jobs, "ended in the last day"));
    let parts: Vec<String> = part(&stats.live, "have not ended").into_iter().chain(ended).collect();
    (!parts.is_empty()).then(|| parts.join("; "))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use legwork_common::job::Usage;
    use legwork_common::money::Money;

    use super::*;

    fn busy() -> FleetStats {
        let queue = |name: &str, queued, oldest, workers| QueueStats {
            queue: name.to_owned(),
            queued,
            oldest_queued_ms: oldest,
            workers,
            slots: workers * 20,
            used: workers * 9,
            ..QueueStats::default()
        };
        let since = Timestamp::from_second(600).ok();
        let spent = |name: &str, jobs, cost: Option<u64>| SpentStats {
            name: name.to_owned(),
            jobs,
            usage: Usage { input_tokens: 9_000 * jobs, output_tokens: 110 * jobs, ..Usage::default() },
            cost_usd: cost.map(Money),
        };
        let ended = |within_ms, factor: u64| EndedStats {
            within_ms,
            jobs: Counted { total: 130 * factor, counted: 130 * factor.min(10) },
            completed: 120 * factor,
            failed: 8 * factor,
            stopped: 2 * factor,
            causes: BTreeMap::from([
                ("provider_error".to_owned(), 7 * factor),
                ("deadline".to_owned(), factor),
            ]),
            usage: Usage {
                input_tokens: 901_234 * factor,
                cached_tokens: 500_000 * factor,
                output_tokens: 12_345 * factor,
                turns: 400 * factor,
            },
            cost_usd: Money(2_345_678 * factor),
            unpriced: 3 * factor,
            models: vec![
                spent("anthropic/claude-sonnet-4-5", 80 * factor, Some(2_300_000 * factor)),
                spent("-", 3, None),
            ],
            agents: vec![spent("code_analyst", 90 * factor, Some(2_345_678 * factor))],
        };
        FleetStats {
            at: Timestamp::from_second(900).unwrap(),
            queues: vec![
                QueueStats { running: 9, waiting: 2, ..queue("code", 1_234, Some(185_000), 1) },
                QueueStats { scheduled: 3, ..queue("default", 0, None, 2) },
                queue("gpu-with-a-rather-long-name", 7, Some(7_200_000), 0),
                QueueStats { paused_since: since, ..queue("nightly", 40, Some(61_000), 1) },
            ],
            agents: vec![
                AgentStats { agent: "code_analyst".to_owned(), queued: 1_241, running: 9 },
                AgentStats { agent: "reviewer".to_owned(), queued: 43, running: 2 },
            ],
            workers: WorkerStats { serving: 2, draining: 1, lost: 0, sick: 1, slots: 80, used: 27 },
            live: Counted { total: 1_295, counted: 1_295 },
            asking: AskingStats { jobs: 2, oldest_ms: Some(10_800_000) },
            ended: vec![ended(3_600_000, 1), ended(86_400_000, 22)],
        }
    }

    #[test]
    fn the_fleet_in_numbers() {
        insta::assert_snapshot!("stats_80", text(&busy(), Some(80)));
        insta::assert_json_snapshot!("stats_json", busy());
    }

    #[test]
    fn an_empty_fleet_has_headers_and_no_workers() {
        let nothing = FleetStats {
            queues: vec![],
            agents: vec![],
            workers: WorkerStats::default(),
            live: Counted::default(),
            asking: AskingStats::default(),
            ended: vec![EndedStats::default(), EndedStats::default()],
            ..busy()
        };
        insta::assert_snapshot!("stats_empty", text(&nothing, Some(80)));
    }
}
