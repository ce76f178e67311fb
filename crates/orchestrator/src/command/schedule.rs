//! `legwork schedule`: jobs by cron expression and time zone.

use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use legwork_common::error::ExitStatus;
use legwork_queue::ConnectionKind;
use legwork_queue::Operator;
use legwork_queue::operator::Schedule;
use legwork_queue::operator::ScheduleStatus;
use legwork_queue::operator::check_agent;
use serde_json::json;

use crate::cli::ScheduleAddArgs;
use crate::cli::ScheduleCommand;
use crate::context::Context;
use crate::failure::Failure;
use crate::render;
use crate::render::table;
use crate::render::table::Column;

const COLUMNS: [Column; 7] = [
    Column::cut("NAME"),
    Column::whole("CRON"),
    Column::cut_extra("ZONE"),
    Column::whole("NEXT"),
    Column::cut("AGENT"),
    Column::whole("LAST"),
    Column::extra("MISSED/OVERLAP"),
];

/// Carries out one of the commands.
pub(super) async fn schedule(context: Context, command: ScheduleCommand) -> Result<ExitStatus, Failure> {
    let added = match &command {
        ScheduleCommand::Add(args) => Some(read(&context, args)?),
        _ => None,
    };
    let connection = context.connect(ConnectionKind::Pooled).await?;
    let done = carry_out(&context, &connection.operator, command, added).await;
    connection.leave().await?;
    done.map(|()| ExitStatus::Success)
}

async fn carry_out(
    context: &Context,
    operator: &Operator,
    command: ScheduleCommand,
    added: Option<Schedule>,
) -> Result<(), Failure> {
    match command {
        ScheduleCommand::Add(_) => {
            let Some(schedule) = added else { return Ok(()) };
            let next = operator.add_schedule(&schedule).await?;
            fires(context, &schedule.name, &schedule.zone, next)
        }
        ScheduleCommand::List => list(context, operator).await,
        ScheduleCommand::Pause { name } => {
            operator.pause_schedule(&name).await?;
            done(context, &name, &format!("paused {name}; `legwork schedule resume {name}` resumes it"))
        }
        ScheduleCommand::Resume { name } => {
            let next = operator.resume_schedule(&name).await?;
            let zone = zone_of(operator, &name).await?;
            fires(context, &name, &zone, next)
        }
        ScheduleCommand::Remove { name } => {
            operator.remove_schedule(&name).await?;
            done(context, &name, &format!("removed {name}"))
        }
        ScheduleCommand::RunNow { name } => {
            let id = operator.run_schedule_now(&name).await?;
            if context.output.json {
                context.output.object(&json!({"name": name, "id": id}))
            } else {
                context.output.line(&id.to_string())
            }
        }
    }
}

async fn zone_of(operator: &Operator, name: &str) -> Result<String, Failure> {
    let all = operator.schedules().await?;
    let zone = all.into_iter().find(|status| status.schedule.name == name);
    Ok(zone.map_or_else(|| "UTC".to_owned(), |status| status.schedule.zone))
}

fn done(context: &Context, name: &str, text: &str) -> Result<(), Failure> {
    if context.output.json {
        context.output.object(&json!({"name": name}))
    } else {
        context.output.line(text)
    }
}

fn fires(context: &Context, name: &str, zone: &str, next: Timestamp) -> Result<(), Failure> {
    if context.output.json {
        return context.output.object(&json!({"name": name, "next_at": format!("{next:.3}")}));
    }
    context.output.line(&format!("{name} runs next on {}", on_clock(next, zone)))
}

async fn list(context: &Context, operator: &Operator) -> Result<(), Failure> {
    let schedules = operator.schedules().await?;
    if context.output.json {
        for status in &schedules {
            context.output.object(&status.shown())?;
        }
        return Ok(());
    }
    context.output.text(&text(&schedules, context.output.width))?;
    if schedules.is_empty() {
        context.output.note("no schedules");
    }
    Ok(())
}

fn text(schedules: &[ScheduleStatus], width: Option<usize>) -> String {
    let rows: Vec<Vec<String>> = schedules.iter().map(row).collect();
    table::text(&COLUMNS, &rows, width)
}

fn row(status: &ScheduleStatus) -> Vec<String> {
    let schedule = &status.schedule;
    let next = status.next.map_or_else(|| "paused".to_owned(), |next| on_clock(next, &schedule.zone));
    let last = status.last.map(|last| last.id.uuid().to_string().chars().take(8).collect());
    let word = |value: serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    vec![
        schedule.name.clone(),
        schedule.cron.clone(),
        schedule.zone.clone(),
        next,
        render::first_line(&schedule.agent, 40),
        last.unwrap_or_else(|| "-".to_owned()),
        format!("{}/{}", word(json!(schedule.missed)), word(json!(schedule.overlap))),
    ]
}

/// An instant on the clock of a zone, in minutes, as a schedule has them.
fn on_clock(at: Timestamp, zone: &str) -> String {
    let zone = TimeZone::get(zone).unwrap_or(TimeZone::UTC);
    at.to_zoned(zone).strftime("%Y-%m-%d %H:%M").to_string()
}

/// The schedule of a command line, checked as a dispatch is.
fn read(context: &Context, args: &ScheduleAddArgs) -> Result<Schedule, Failure> {
    let (team, team_json) = context.team(&args.file)?;
    check_agent(&args.agent, &team)?;
    let task = args.task.join(" ");
    if task.trim().is_empty() {
        return Err(Failure::usage("task must not be empty"));
    }
    let policy = context.common.policy()?;
    let options = args.options.or(policy.job_options(&args.agent));
    let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    Ok(Schedule {
        name: args.name.clone(),
        cron: args.cron.clone(),
        zone: args.zone.clone(),
        missed: args.missed.into(),
        overlap: args.overlap.into(),
        agent: args.agent.clone(),
        task,
        expected_output: args.expected_output.clone(),
        queue: options.queue,
        priority: options.priority,
        timeout_ms: options.timeout.map(ms),
        retries: options.retries,
        retry_delay_ms: ms(options.retry_delay),
        budget: options.budget,
        notify: options.notify,
        team_json: team_json.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use legwork_common::job::Priority;
    use legwork_queue::operator::LastFire;
    use legwork_queue::operator::Missed;
    use legwork_queue::operator::Overlap;

    use super::*;

    fn schedule(name: &str, zone: &str) -> Schedule {
        Schedule {
            name: name.to_owned(),
            cron: "0 7 * * 1-5".to_owned(),
            zone: zone.to_owned(),
            missed: Missed::One,
            overlap: Overlap::Skip,
            agent: "code_analyst".to_owned(),
            task: "Summarise the night".to_owned(),
            expected_output: None,
            queue: "default".to_owned(),
            priority: Priority::Normal,
            timeout_ms: None,
            retries: 0,
            retry_delay_ms: 5000,
            budget: None,
            notify: None,
            team_json: String::new(),
        }
    }

    #[test]
    fn schedules_fit_eighty_columns() {
        let at: Timestamp = "2026-11-30T06:00:00Z".parse().unwrap();
        let id = "agent_task_11111111-1111-4111-8111-11111111abcd".parse().unwrap();
        let all = [
            ScheduleStatus {
                schedule: schedule("digest", "Europe/Berlin"),
                next: Some(at),
                last: Some(LastFire { at, id }),
            },
            ScheduleStatus { schedule: schedule("nightly-report-of-all", "UTC"), next: None, last: None },
        ];
        insta::assert_snapshot!("schedules_80", text(&all, Some(80)));
        insta::assert_snapshot!("schedules_120", text(&all, Some(120)));
        insta::assert_json_snapshot!("schedule_json", all[0].shown());
    }
}
