//! `legwork doctor [FILE…]`: is this Redis safe for jobs, can this machine run these files.

use std::path::Path;
use std::time::Duration;

use legwork_agent::preflight::Lack;
use legwork_agent::preflight::lacks;
use legwork_common::error::ExitStatus;
use legwork_queue::Access;
use legwork_queue::ConnectionKind;
use legwork_queue::ServerFacts;
use serde_json::json;

use crate::cli::DoctorArgs;
use crate::context::Context;
use crate::context::working_dir;
use crate::failure::Failure;

/// Round trips longer than this are a warning: a turn takes several, and they would add up to a pause that a person
/// notices.
const SLOW_ROUND_TRIP: Duration = Duration::from_millis(20);
/// The oldest versions with every command that the Lua steps use.
const MIN_VERSIONS: [(&str, (u32, u32)); 2] = [("redis", (7, 0)), ("valkey", (7, 2))];

/// The result of one check; only `Bad` fails the command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Good,
    Warning,
    Bad,
}

impl Verdict {
    fn word(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Warning => "warning",
            Self::Bad => "bad",
        }
    }
}

/// The check of what the user of the connection may do.
const ACCESS: &str = "access";

/// One check and its result.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Finding {
    what: &'static str,
    verdict: Verdict,
    text: String,
}

fn finding(what: &'static str, verdict: Verdict, text: impl Into<String>) -> Finding {
    Finding { what, verdict, text: text.into() }
}

/// Checks the server and the files, and prints a line for each finding; the exit status is 0 when none is bad.
pub(super) async fn doctor(context: Context, args: DoctorArgs) -> Result<ExitStatus, Failure> {
    let connection = context.connect(ConnectionKind::Pooled).await?;
    let facts = connection.queue().server_facts().await;
    let is_embedded = connection.backend.is_embedded();
    connection.leave().await?;
    let mut of_redis = of_redis(&facts?);
    if is_embedded {
        // Its socket is for this user alone.
        of_redis.retain(|finding| finding.what != ACCESS);
    }
    let mut of_files = Vec::new();
    for file in &args.files {
        of_files.extend(of_file(&context, file)?);
    }
    let bad = |findings: &[Finding]| findings.iter().any(|finding| finding.verdict == Verdict::Bad);
    let status = match (bad(&of_redis), bad(&of_files)) {
        (true, _) => ExitStatus::Redis,
        (false, true) => ExitStatus::Usage,
        (false, false) => ExitStatus::Success,
    };
    for Finding { what, verdict, text } in of_redis.into_iter().chain(of_files) {
        if context.output.json {
            context.output.object(&json!({"what": what, "verdict": verdict.word(), "text": text}))?;
        } else {
            context.output.line(&format!("{:<9}{what}: {text}", verdict.word()))?;
        }
    }
    Ok(status)
}

/// Judges what the server reports. Pure.
fn of_redis(facts: &ServerFacts) -> Vec<Finding> {
    vec![version(facts), persistence(facts), eviction(facts), memory(facts), latency(facts), access(facts)]
}

fn version(facts: &ServerFacts) -> Finding {
    let (Some(name), Some(version)) = (&facts.name, &facts.version) else {
        return finding("version", Verdict::Warning, "the server does not report its version");
    };
    let mut numbers = version.split('.').map(|number| number.parse().unwrap_or(0));
    let has = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    let needs = MIN_VERSIONS.iter().find(|(known, _)| known == name).map_or((7, 0), |(_, oldest)| *oldest);
    if has >= needs {
        return finding("version", Verdict::Good, format!("{name} {version}"));
    }
    let text = format!("{name} {version} is too old: {name} {}.{} or newer is needed", needs.0, needs.1);
    finding("version", Verdict::Bad, text)
}

fn persistence(facts: &ServerFacts) -> Finding {
    let (verdict, text) = match (facts.append_only, facts.append_fsync.as_deref()) {
        (Some(false), _) => (
            Verdict::Bad,
            "no append-only file: a restart loses jobs; set appendonly yes, appendfsync always",
        ),
        (None, _) => (Verdict::Warning, "the server does not report whether it writes an append-only file"),
        (Some(true), Some("always")) => {
            (Verdict::Good, "every accepted job is on disk before its id is returned")
        }
        (Some(true), Some("everysec")) => (
            Verdict::Warning,
            "a kill or a power loss loses up to two seconds (appendfsync everysec); always loses nothing",
        ),
        (Some(true), Some(_)) => {
            (Verdict::Bad, "a power loss loses what the system had not flushed; set appendfsync always")
        }
        (Some(true), None) => (
            Verdict::Warning,
            "an append-only file is written; this user may not read how often it is flushed (appendfsync)",
        ),
    };
    finding("persistence", verdict, text)
}

fn eviction(facts: &ServerFacts) -> Finding {
    match facts.eviction_policy.as_deref() {
        Some("noeviction") => finding("eviction", Verdict::Good, "full memory drops nothing (noeviction)"),
        Some(policy) => {
            let text = format!("full memory drops jobs ({policy}); set maxmemory-policy noeviction");
            finding("eviction", Verdict::Bad, text)
        }
        None => finding("eviction", Verdict::Warning, "the server does not report its maxmemory-policy"),
    }
}

fn memory(facts: &ServerFacts) -> Finding {
    let (Some(used), Some(most)) = (facts.used_memory, facts.max_memory) else {
        return finding("memory", Verdict::Warning, "the server does not report it");
    };
    let mebibytes = |bytes: u64| bytes / (1 << 20);
    if most == 0 {
        let text = format!(
            "{} MiB used, no limit: the system kills the server when memory runs out",
            mebibytes(used)
        );
        return finding("memory", Verdict::Warning, text);
    }
    let verdict = if used > most / 5 * 4 { Verdict::Warning } else { Verdict::Good };
    finding("memory", verdict, format!("{} of {} MiB used", mebibytes(used), mebibytes(most)))
}

fn latency(facts: &ServerFacts) -> Finding {
    let milliseconds = facts.latency.as_secs_f64() * 1000.0;
    let verdict = if facts.latency > SLOW_ROUND_TRIP { Verdict::Warning } else { Verdict::Good };
    finding("latency", verdict, format!("{milliseconds:.1} ms a round trip"))
}

fn access(facts: &ServerFacts) -> Finding {
    let (verdict, text) = match facts.access {
        Access::Limited => (Verdict::Good, "this user may not administer the server"),
        Access::Administrator => (
            Verdict::Warning,
            "this user may administer the server; deploy/redis/users.acl has users that can do their work only",
        ),
        Access::Open => (
            Verdict::Warning,
            "no password: everyone who reaches the server can read and dispatch jobs; see deploy/redis/users.acl",
        ),
        Access::Unknown => (Verdict::Warning, "the server does not report what this user may do"),
    };
    finding(ACCESS, verdict, text)
}

/// Checks that this machine has what an agent file needs: every variable, key and program.
fn of_file(context: &Context, file: &Path) -> Result<Vec<Finding>, Failure> {
    let (team, _) = context.team(file)?;
    let environment = context.agent_environment(working_dir()?);
    let lacks = team.agents().iter().flat_map(|agent| lacks(agent, &environment));
    let mut findings: Vec<Finding> =
        lacks.map(|lack| finding(topic(&lack), Verdict::Bad, lack.to_string())).collect();
    if findings.is_empty() {
        findings.push(finding("file", Verdict::Good, format!("{} can run here", file.display())));
    }
    Ok(findings)
}

/// The first word of the line about something that is lacking.
fn topic(lack: &Lack) -> &'static str {
    match lack {
        Lack::Keys(_) => "keys",
        Lack::Variables(_) => "variables",
        Lack::Program { .. } => "programs",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn safe() -> ServerFacts {
        ServerFacts {
            name: Some("redis".into()),
            version: Some("7.0.15".into()),
            append_only: Some(true),
            append_fsync: Some("always".into()),
            eviction_policy: Some("noeviction".into()),
            used_memory: Some(10 << 20),
            max_memory: Some(100 << 20),
            access: Access::Limited,
            latency: Duration::from_micros(200),
        }
    }

    fn verdicts(facts: &ServerFacts) -> Vec<&'static str> {
        of_redis(facts).into_iter().map(|finding| finding.verdict.word()).collect()
    }

    #[test]
    fn a_safe_server_passes_every_check() {
        assert_eq!(verdicts(&safe()), ["good"; 6]);
    }

    #[test]
    fn settings_that_cost_jobs_are_bad_and_unknown_ones_are_warnings() {
        let old = ServerFacts { version: Some("6.2.1".into()), ..safe() };
        assert_eq!(verdicts(&old)[0], "bad");
        let early = ServerFacts { name: Some("valkey".into()), version: Some("7.1.0".into()), ..safe() };
        assert_eq!(verdicts(&early)[0], "bad");
        for (append_only, fsync, expected) in [
            (Some(false), None, "bad"),
            (Some(true), Some("everysec"), "warning"),
            (Some(true), Some("no"), "bad"),
            (Some(true), None, "warning"),
            (None, None, "warning"),
        ] {
            let facts = ServerFacts { append_only, append_fsync: fsync.map(str::to_owned), ..safe() };
            assert_eq!(verdicts(&facts)[1], expected, "{append_only:?} {fsync:?}");
        }
        assert_eq!(
            verdicts(&ServerFacts { eviction_policy: Some("allkeys-lru".into()), ..safe() })[2],
            "bad"
        );
        assert_eq!(verdicts(&ServerFacts { max_memory: Some(0), ..safe() })[3], "warning");
        assert_eq!(verdicts(&ServerFacts { used_memory: Some(90 << 20), ..safe() })[3], "warning");
        assert_eq!(verdicts(&ServerFacts { latency: Duration::from_millis(50), ..safe() })[4], "warning");
        assert_eq!(verdicts(&ServerFacts::default())[..4], ["warning"; 4]);
        for access in [Access::Open, Access::Administrator, Access::Unknown] {
            assert_eq!(verdicts(&ServerFacts { access, ..safe() })[5], "warning", "{access:?}");
        }
    }
}
