//! The requests of `legwork dispatch`: that of the command line, or those of a batch file.

use std::path::Path;

use legwork_common::job::JobOptions;
use legwork_common::policy::Policy;
use legwork_common::service::RunRequest;
use legwork_common::team::Team;
use legwork_queue::operator::JobRequest;
use legwork_queue::operator::check_request;

use crate::cli::DispatchArgs;
use crate::context::read;
use crate::failure::Failure;
use crate::many::thousands;

/// Wrong lines of a batch that an error lists: a screen of a terminal.
const MAX_LINES_SHOWN: usize = 20;

/// A request, and the line of the batch that it stands in.
#[derive(Debug)]
pub(super) struct Requested {
    /// Counted from 1; 1 for the request of the command line.
    pub(super) line: usize,
    pub(super) request: RunRequest,
}

/// What is wrong with one line of a batch.
#[derive(Debug)]
struct WrongLine {
    line: usize,
    /// Where the JSON is broken, counted from 1.
    column: Option<usize>,
    failure: Failure,
}

impl WrongLine {
    fn text(&self) -> String {
        match self.column {
            Some(column) => format!("line {}, column {column}: {}", self.line, self.failure.message),
            None => format!("line {}: {}", self.line, self.failure.message),
        }
    }
}

/// The request of the command line, or those of a batch. Each is checked here, before a connection is made: a wrong
/// line stores nothing.
pub(super) fn requests(args: &DispatchArgs, team: &Team, policy: &Policy) -> Result<Vec<Requested>, Failure> {
    let Some(batch) = &args.batch else {
        let agent = args.agent.clone().unwrap_or_default();
        let request = RunRequest {
            safety: None,
            job_options: Some(job_options(args, policy, &agent)),
            agent,
            task: args.task.join(" "),
            expected_output: args.expected_output.clone(),
            call: None,
            key: args.key.clone(),
        };
        check_request(&request, team)?;
        return Ok(vec![Requested { line: 1, request }]);
    };
    let bytes = if batch == Path::new("-") {
        std::io::read_to_string(std::io::stdin())
            .map_err(|error| Failure::usage(format!("cannot read the batch: {error}")))?
            .into_bytes()
    } else {
        read(batch)?
    };
    of_batch(args, team, policy, &String::from_utf8_lossy(&bytes))
}

/// The requests of a batch. All wrong lines are reported together.
fn of_batch(
    args: &DispatchArgs,
    team: &Team,
    policy: &Policy,
    text: &str,
) -> Result<Vec<Requested>, Failure> {
    let (mut requests, mut wrong) = (Vec::new(), Vec::new());
    for (number, line) in (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty()) {
        match checked_line(args, team, policy, line) {
            Ok(request) => requests.push(Requested { line: number, request }),
            Err((column, failure)) => wrong.push(WrongLine { line: number, column, failure }),
        }
    }
    if let Some(failure) = wrong_lines(wrong) {
        return Err(failure);
    }
    if requests.is_empty() {
        return Err(Failure::usage("the batch is empty"));
    }
    Ok(requests)
}

/// The error of wrong lines: the first in its message, the others below it; `None` without any.
fn wrong_lines(mut wrong: Vec<WrongLine>) -> Option<Failure> {
    if wrong.is_empty() {
        return None;
    }
    let first = wrong.remove(0);
    let (count, message) = (wrong.len() + 1, first.text());
    if wrong.is_empty() {
        let message = format!("the batch has a wrong line, and nothing was stored: {message}");
        return Some(Failure { message, ..first.failure });
    }
    let mut lines: Vec<String> = wrong.iter().take(MAX_LINES_SHOWN).map(WrongLine::text).collect();
    let more = wrong.len() - lines.len();
    if more > 0 {
        lines.push(format!("and {} more", thousands(more as u64)));
    }
    Some(Failure {
        message: format!(
            "the batch has {} wrong lines, and nothing was stored: {message}; {}",
            thousands(count as u64),
            lines.join("; ")
        ),
        ..first.failure
    })
}

/// Reads and checks one line; an error has the column where the JSON is broken.
fn checked_line(
    args: &DispatchArgs,
    team: &Team,
    policy: &Policy,
    line: &str,
) -> Result<RunRequest, (Option<usize>, Failure)> {
    let line: JobRequest = serde_json::from_str(line).map_err(|error| broken(&error))?;
    // What the line leaves open comes from the command line, then from the policy.
    let defaults = job_options(args, policy, &line.agent);
    let request = line.resolve(defaults).map_err(|error| (None, error.into()))?;
    check_request(&request, team).map_err(|error| (None, error.into()))?;
    Ok(request)
}

/// The error of a line that is not JSON, or is not a request. The position that the parser adds to its words is that
/// within the line, and is reported in front of them.
fn broken(error: &serde_json::Error) -> (Option<usize>, Failure) {
    let words = error.to_string();
    let words = words.rsplit_once(" at line ").map_or(words.as_str(), |(words, _)| words);
    let message = match error.classify() {
        serde_json::error::Category::Data => words.to_owned(),
        _ => format!("not JSON: {words}"),
    };
    let hint = "`legwork dispatch --help` lists the fields of a line";
    (Some(error.column()), Failure::usage(message).with_hint(hint))
}

/// The job options of the command line; the policy fills in what it leaves open.
fn job_options(args: &DispatchArgs, policy: &Policy, agent: &str) -> JobOptions {
    JobOptions { delay: args.delay, ..args.options.or(policy.job_options(agent)) }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;
    use legwork_common::team;

    use super::*;
    use crate::cli::Cli;
    use crate::cli::Command;

    fn of_text(text: &str) -> Result<Vec<Requested>, Failure> {
        let cli = Cli::try_parse_from(["legwork", "dispatch", "f.yaml", "--batch", "b", "--retries", "2"]);
        let Command::Dispatch(args) = cli.unwrap().command else { panic!() };
        let file = b"agents: {root: {model: openai/test, instruction: i}}";
        let team = team::parse("f.yaml", file).unwrap().team;
        of_batch(&args, &team, &Policy::default(), text)
    }

    #[test]
    fn all_wrong_lines_are_reported_with_their_places() {
        let text = "{\"agent\": \"root\", \"task\": \"t\"}\n\n{agent\n{\"agent\": \"ghost\", \"task\": \"t\"}\n\
                    {\"agent\": \"root\", \"task\": \"t\", \"colour\": 1}\n";
        let failure = of_text(text).unwrap_err();
        insta::assert_snapshot!(failure.text(false));
    }

    #[test]
    fn a_wrong_line_is_named_with_line_and_column() {
        let failure = of_text("{\"agent\": \"root\", \"task\": \"t\"}\nnonsense\n").unwrap_err();
        insta::assert_snapshot!(failure.text(false));
        let many = "x\n".repeat(30);
        assert!(of_text(&many).unwrap_err().message.ends_with("; and 9 more"));
        assert_eq!(of_text("\n").unwrap_err().message, "the batch is empty");
    }

    #[test]
    fn a_request_remembers_its_line_and_takes_the_options_of_the_command_line() {
        let lines = "\n{\"agent\": \"root\", \"task\": \"t\"}\n\n{\"agent\": \"root\", \"task\": \"t\", \"retries\": 5}\n";
        let found: Vec<(usize, u32)> = of_text(lines)
            .unwrap()
            .into_iter()
            .map(|requested| (requested.line, requested.request.job_options.unwrap().retries))
            .collect();
        assert_eq!(found, [(2, 2), (4, 5)]);
    }
}
