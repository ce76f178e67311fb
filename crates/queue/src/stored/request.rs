//! The request of a job as JSON, behind its facts: a [`JobSpec`] without what the facts have.
//!
//! The request of a signed job has its envelope as the last field, which releases before it ignore. What is signed are the
//! bytes of the request without that field.

use std::borrow::Cow;

use legwork_common::id::JobId;
use legwork_common::job::JobSpec;
use legwork_common::job::TeamDigest;
use legwork_common::money::SpendingLimit;
use legwork_common::question::Approvals;
use legwork_common::stored::REQUEST;
use legwork_common::stored::Unreadable;
use legwork_common::team::SafetyMode;
use legwork_common::trace::TraceParent;
use legwork_common::webhook::WebhookUrl;
use legwork_signing::field;
use serde::Deserialize;
use serde::Serialize;

/// The field behind a request.
const ENVELOPE: &str = "envelope";

/// The JSON of a request.
#[derive(Serialize, Deserialize)]
struct Request<'a> {
    agent: Cow<'a, str>,
    task: Cow<'a, str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expected_output: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    root_agent: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    working_dir: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    retry_of: Option<JobId>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    fresh: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    budget: Option<SpendingLimit>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    safety: Option<SafetyMode>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    trace: Option<TraceParent>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    approvals: Option<Approvals>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    notify: Option<Cow<'a, WebhookUrl>>,
}

/// The JSON of a spec, without its team.
///
/// # Errors
///
/// [`serde_json::Error`] where it has no JSON.
pub(crate) fn encode(spec: &JobSpec) -> Result<String, serde_json::Error> {
    let borrowed = |text: &Option<String>| text.clone().map(Cow::Owned);
    // A worker that knows no parking denies all, and runs whatever may be denied; one that knows no webhook reports nothing.
    let parks = spec.approvals.is_some_and(|approvals| approvals != Approvals::Deny);
    let costs = matches!(spec.budget, Some(SpendingLimit::Money(_)));
    REQUEST
        .at_version(if parks || costs || spec.safety.is_some() || spec.notify.is_some() { 2 } else { 1 })
        .to_json(&Request {
            agent: Cow::Borrowed(&spec.agent),
            task: Cow::Borrowed(&spec.task),
            expected_output: borrowed(&spec.expected_output),
            root_agent: borrowed(&spec.root_agent),
            working_dir: borrowed(&spec.working_dir),
            key: borrowed(&spec.key),
            retry_of: spec.retry_of,
            fresh: spec.fresh,
            budget: spec.budget,
            safety: spec.safety,
            trace: spec.trace.clone(),
            approvals: spec.approvals,
            notify: spec.notify.as_ref().map(Cow::Borrowed),
        })
}

/// The spec of a request, with the team of its facts.
///
/// # Errors
///
/// [`Unreadable`] where a later release wrote it, or it is damaged.
pub(crate) fn decode(text: &str, team: &TeamDigest) -> Result<JobSpec, Unreadable> {
    let request: Request<'_> = REQUEST.from_json(text)?;
    let owned = |text: Option<Cow<'_, str>>| text.map(Cow::into_owned);
    Ok(JobSpec {
        agent: request.agent.into_owned(),
        task: request.task.into_owned(),
        expected_output: owned(request.expected_output),
        team: team.clone(),
        root_agent: owned(request.root_agent),
        working_dir: owned(request.working_dir),
        key: owned(request.key),
        retry_of: request.retry_of,
        fresh: request.fresh,
        budget: request.budget,
        safety: request.safety,
        trace: request.trace,
        approvals: request.approvals,
        notify: request.notify.map(Cow::into_owned),
    })
}

/// A request with its envelope behind it.
pub(crate) fn with_envelope(request: &str, envelope: &str) -> String {
    field::append(request, ENVELOPE, envelope)
}

/// The request that was signed, and its envelope; `None` where it has none.
pub(crate) fn split_envelope(request: &str) -> Option<(String, &str)> {
    field::split(request, ENVELOPE)
}

/// The agent of a job, from the beginning of its string: where the rest of its request is not read. `None` where a later
/// release wrote it.
pub(crate) fn agent(text: &str) -> Option<String> {
    let (_, request) = text.split_once('\n')?;
    serde_json::Deserializer::from_str(from_agent(request)?).into_iter().next()?.ok()
}

/// A request from its agent on, which comes first, after the version where that is not 1.
fn from_agent(request: &str) -> Option<&str> {
    request.strip_prefix("{\"agent\":").or_else(|| request.strip_prefix("{\"v\":2,\"agent\":"))
}

/// The agent and the beginning of the task of a request of which only the first bytes were read. `None` where these are
/// not in it, or a later release wrote it.
pub(crate) fn beginning(request: &str) -> Option<(String, String)> {
    let rest = from_agent(request)?;
    let mut agents = serde_json::Deserializer::from_str(rest).into_iter::<String>();
    let agent = agents.next()?.ok()?;
    let task = rest.get(agents.byte_offset()..)?.strip_prefix(",\"task\":\"")?;
    // The text may end within an escape, of twelve bytes at most, or within a character, which was replaced.
    let ends = task.char_indices().rev().map(|(at, _)| at).take(13);
    let cut = || {
        let mut ends = std::iter::once(task.len()).chain(ends);
        ends.find_map(|end| serde_json::from_str::<String>(&format!("\"{}\"", task.get(..end)?)).ok())
    };
    // The task may be whole, and what comes after it cut.
    let quoted = rest.get(rest.len() - task.len() - 1..)?;
    let whole: Option<String> = serde_json::Deserializer::from_str(quoted).into_iter().next()?.ok();
    let task = whole.or_else(cut)?;
    Some((agent, task.trim_end_matches('\u{fffd}').to_owned()))
}

#[cfg(test)]
mod tests {
    use legwork_common::id::SessionId;
    use legwork_common::money::Money;
    use proptest::prelude::*;

    use super::*;

    fn spec(agent: &str) -> JobSpec {
        JobSpec::new(agent, "", TeamDigest("0".repeat(64)))
    }

    proptest! {
        #[test]
        fn a_spec_comes_back_from_its_request(
            texts in proptest::array::uniform4("\\PC{0,20}"),
            flags in proptest::array::uniform4(any::<bool>()),
            budget in proptest::option::of(1..u64::MAX),
        ) {
            let [name, task, first, second] = texts;
            let spec = JobSpec {
                agent: name,
                task,
                expected_output: flags[0].then(|| first.clone()),
                team: TeamDigest("0".repeat(64)),
                root_agent: flags[3].then(|| second.clone()),
                working_dir: flags[1].then_some(first),
                key: flags[2].then_some(second),
                retry_of: flags[3].then(|| JobId::random_in(SessionId::random())),
                fresh: flags[0],
                budget: budget.map(|n| if flags[0] { SpendingLimit::Tokens(n) } else { SpendingLimit::Money(Money(n)) }),
                safety: flags[1].then_some(SafetyMode::Balanced),
                trace: None,
                approvals: flags[2].then_some(if flags[3] { Approvals::Park } else { Approvals::Deny }),
                notify: flags[0].then(|| "https://example.org/x?a=b".parse().unwrap()),
            };
            let text = encode(&spec).unwrap();
            prop_assert!(!text.contains("team"));
            let stored = format!("2 facts\n{text}");
            prop_assert_eq!(agent(&stored), Some(spec.agent.clone()));
            // The name alone is enough.
            prop_assert_eq!(agent(&format!("2 facts\n{}", &text[..text.find(",\"task\"").unwrap()])), Some(spec.agent.clone()));
            prop_assert_eq!(decode(&text, &spec.team), Ok(spec));
        }

        #[test]
        fn the_beginning_of_a_task_comes_back_wherever_its_request_is_cut(task in "[a\\\\\"\n\u{1}é😀]{0,40}", cut in 0usize..60) {
            let spec = JobSpec { task: task.clone(), expected_output: Some("x".repeat(60)), ..spec("quick") };
            let text = encode(&spec).unwrap();
            let first = "{\"agent\":\"quick\",\"task\":\"".len();
            let bytes = &text.as_bytes()[..(first + cut).min(text.len())];
            let (agent, found) = beginning(&String::from_utf8_lossy(bytes)).unwrap();
            prop_assert_eq!(agent, "quick");
            prop_assert!(task.starts_with(&found), "{found:?} of {task:?}");
            prop_assert!(found.len() + 12 >= task.len().min(cut / 6), "{found:?} of {task:?}");
        }
    }

    #[test]
    fn an_envelope_comes_back_from_behind_its_request_and_leaves_the_spec_as_it_is() {
        for task in ["t", "ends with ,", "says ,\"envelope\":\"x\"}", "\\", ""] {
            let spec = JobSpec { task: task.into(), ..spec("a") };
            let request = encode(&spec).unwrap();
            assert_eq!(split_envelope(&request), None, "{task}");
            let stored = with_envelope(&request, "1~abc-_.def");
            assert_eq!(split_envelope(&stored), Some((request, "1~abc-_.def")), "{task}");
            assert_eq!(decode(&stored, &spec.team), Ok(spec), "{task}");
        }
        for odd in
            ["{\"agent\":\"a\",\"envelope\":\"a\\u0041\"}", "{\"agent\":\"a\",\"envelope\":\"a\",\"x\":1}"]
        {
            assert_eq!(split_envelope(odd), None, "{odd}");
        }
    }

    #[test]
    fn a_safety_mode_raises_the_version_that_an_earlier_release_would_leave_out() {
        let with = |safety| JobSpec { task: "t".into(), safety, ..spec("a") };
        assert_eq!(encode(&with(None)).unwrap(), r#"{"agent":"a","task":"t"}"#);
        let restricted = encode(&with(Some(SafetyMode::Restricted))).unwrap();
        assert_eq!(restricted, r#"{"v":2,"agent":"a","task":"t","safety":"restricted"}"#);
        let stored = format!("2 facts\n{restricted}");
        assert_eq!(agent(&stored).as_deref(), Some("a"));
        assert_eq!(beginning(&restricted[..32]), Some(("a".to_owned(), "t".to_owned())));
        assert_eq!(agent(&stored.replace("\"v\":2", "\"v\":3")), None, "of a later release");
        let earlier = REQUEST.at_version(1).from_json::<Request<'_>>(&restricted).err().unwrap();
        assert_eq!(earlier.to_string(), "the request has version 2, and this release reads up to version 1");
    }
}
