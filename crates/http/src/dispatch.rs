//! Dispatching: one job, or a batch.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::StatusCode;
use axum::http::header::LOCATION;
use axum::response::IntoResponse as _;
use axum::response::Response;
use legwork_common::id::JobId;
use legwork_common::job::Job;
use legwork_common::money::SpendingLimit;
use legwork_common::question::Approvals;
use legwork_common::service::RunRequest;
use legwork_common::trace::TraceParent;
use legwork_queue::operator::DispatchOrder;
use legwork_queue::operator::JobRequest;
use legwork_queue::operator::SessionOptions;
use legwork_queue::operator::check_request;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Map;
use serde_json::Value;
use serde_json::json;

use crate::api::Api;
use crate::body::Json;
use crate::problem::Problem;

/// The header that names an idempotency key; the same as the field `key`.
const KEY_HEADER: &str = "idempotency-key";
/// The W3C trace that the jobs belong to.
const TRACE_HEADER: &str = "traceparent";
/// Jobs of one batch: what a body of the greatest size has room for.
const MAX_BATCH: usize = 10_000;

/// What holds for all jobs of a call.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct CallOptions {
    /// The name of a team of the server.
    team: Option<String>,
    /// The text of an agent file.
    agent_file: Option<String>,
    /// The session to dispatch into.
    session: Option<String>,
    /// The cap of a new session.
    cap: Option<u32>,
    /// The quota of unfinished jobs of a new session.
    session_jobs: Option<u32>,
    /// The budget of a new session.
    session_budget: Option<SpendingLimit>,
    /// What becomes of calls that need a person's approval.
    approvals: Option<Approvals>,
}

/// The fields of [`CallOptions`]; all others are those of a job.
const CALL_FIELDS: [&str; 7] =
    ["team", "agent_file", "session", "cap", "session_jobs", "session_budget", "approvals"];

/// Reads what holds for the call and what is left of a body. A field that no one knows is an error in one of the two.
fn split(mut body: Map<String, Value>) -> Result<(CallOptions, Value), Problem> {
    let of_call: Map<String, Value> =
        CALL_FIELDS.iter().filter_map(|name| body.remove_entry(*name)).collect();
    Ok((read(Value::Object(of_call))?, Value::Object(body)))
}

fn read<T: DeserializeOwned>(value: Value) -> Result<T, Problem> {
    serde_json::from_value(value).map_err(|error| Problem::bad_request(format!("the body: {error}")))
}

/// Reads what [`split`] left of a body with one job. An unknown field is answered with all that the body may have.
fn read_job(value: Value) -> Result<JobRequest, Problem> {
    let of_call: String = CALL_FIELDS.iter().map(|name| format!("`{name}`, ")).collect();
    read(value).map_err(|problem: Problem| Problem {
        detail: problem.detail.replace("expected one of ", &format!("expected one of {of_call}")),
        ..problem
    })
}

/// Checks that nothing but `jobs` is left of the body of a batch.
fn check_left(left: &Value) -> Result<(), Problem> {
    let mut names = left.as_object().into_iter().flat_map(Map::keys);
    let Some(unknown) = names.find(|name| *name != "jobs") else { return Ok(()) };
    let known: String = CALL_FIELDS.iter().map(|name| format!(", `{name}`")).collect();
    Err(Problem::bad_request(format!("the body: unknown field `{unknown}`, expected one of `jobs`{known}")))
}

/// What is left of a batch.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Jobs {
    jobs: Vec<JobRequest>,
}

/// `POST /v1/jobs`.
pub async fn one(
    State(api): State<Arc<Api>>,
    headers: HeaderMap,
    Json(body): Json<Map<String, Value>>,
) -> Result<Response, Problem> {
    let (call, job) = split(body)?;
    let mut job = read_job(job)?;
    if let Some(key) = header(&headers, KEY_HEADER)? {
        if job.key.as_ref().is_some_and(|other| *other != key) {
            return Err(Problem::bad_request("`key` and the header Idempotency-Key differ"));
        }
        job.key = Some(key);
    }
    let (_, answers) = store(api, call, vec![job], &headers).await?;
    let job = answers.into_iter().next().ok_or_else(Problem::ending)??;
    let location = format!("/v1/jobs/{}", job.id);
    Ok((StatusCode::CREATED, [(LOCATION, location)], axum::Json(job)).into_response())
}

/// `POST /v1/jobs/batch`. If one request is wrong, none is stored; a refusal after that is in the place of its job.
pub async fn many(
    State(api): State<Arc<Api>>,
    headers: HeaderMap,
    Json(body): Json<Map<String, Value>>,
) -> Result<axum::Json<Value>, Problem> {
    let (call, jobs) = split(body)?;
    check_left(&jobs)?;
    let Jobs { jobs } = read(jobs)?;
    if jobs.is_empty() || jobs.len() > MAX_BATCH {
        return Err(Problem::bad_request(format!("`jobs` must have 1 to {MAX_BATCH} jobs")));
    }
    let (session, answers) = store(api, call, jobs, &headers).await?;
    let jobs: Vec<Value> = answers
        .into_iter()
        .map(|answer| match answer {
            Ok(job) => json!({"id": job.id, "status": job.status}),
            Err(problem) => json!({"error": problem.object()}),
        })
        .collect();
    Ok(axum::Json(json!({"session": session, "jobs": jobs})))
}

/// Stores jobs, sees to a worker, and reads them back: one answer for each, in their order.
async fn store(
    api: Arc<Api>,
    call: CallOptions,
    jobs: Vec<JobRequest>,
    headers: &HeaderMap,
) -> Result<(String, Vec<Result<Job, Problem>>), Problem> {
    let team = api.teams.select(call.team.as_deref(), call.agent_file.as_deref())?;
    let mut requests: Vec<RunRequest> = Vec::with_capacity(jobs.len());
    let is_batch = jobs.len() > 1;
    for (number, job) in (1..).zip(jobs) {
        let placed = |problem: Problem| {
            let detail = if is_batch { format!("job {number}: {}", problem.detail) } else { problem.detail };
            Problem { detail, ..problem }
        };
        let defaults = api.policy.job_options(&job.agent);
        let request = job.resolve(defaults).map_err(|error| placed(error.into()))?;
        check_request(&request, &team.team).map_err(|error| placed(error.into()))?;
        requests.push(request);
    }
    let agents: BTreeSet<&str> = requests.iter().map(|request| request.agent.as_str()).collect();
    agents.iter().try_for_each(|agent| api.workers.check(&team.team, agent))?;
    let order = DispatchOrder {
        session: api.session(call.session.as_deref()).await?,
        options: SessionOptions::new(call.cap, call.session_budget, team.team.token_budget())
            .with_jobs(call.session_jobs),
        team: team.team,
        team_json: team.json,
        digest: team.digest,
        working_dir: api.working_dir.clone(),
        policy: Arc::clone(&api.policy),
        trace: header(headers, TRACE_HEADER)?.and_then(|trace| trace.parse::<TraceParent>().ok()),
        approvals: call.approvals,
    };
    let shared = Arc::clone(&api);
    api.finish(async move { store_all(&shared, order, requests).await }).await
}

async fn store_all(
    api: &Api,
    order: DispatchOrder,
    requests: Vec<RunRequest>,
) -> Result<(String, Vec<Result<Job, Problem>>), Problem> {
    let total = requests.len();
    let turn = api.operator.dispatch_turn().await;
    let dispatched = api.operator.dispatch(order, requests).await?;
    drop(turn);
    api.workers.serve(dispatched.session).await?;
    let answers = dispatched.batch.answers;
    let ids: Vec<JobId> = answers.iter().filter_map(|answer| answer.as_ref().ok().copied()).collect();
    let mut jobs = api.operator.jobs(&ids).await?.into_iter().peekable();
    let mut results: Vec<Result<Job, Problem>> = Vec::with_capacity(total);
    for answer in answers {
        results.push(match answer {
            // Two requests of one key are one job, which is read for each of them.
            Ok(id) => jobs.next_if(|job| job.id == id).ok_or_else(|| gone(id)),
            Err(error) => Err(error.into()),
        });
    }
    // After a refusal of a whole batch the rest was not stored.
    let refused = dispatched.batch.refused.map(Problem::from);
    while let Some(problem) = refused.clone().filter(|_| results.len() < total) {
        results.push(Err(problem));
    }
    Ok((dispatched.session.to_string(), results))
}

fn gone(id: JobId) -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "not_found", format!("task not found: {id}"))
}

/// A header's text; `None` where it is missing or empty.
fn header(headers: &HeaderMap, name: &str) -> Result<Option<String>, Problem> {
    let Some(value) = headers.get(name) else { return Ok(None) };
    let text = value.to_str().map_err(|_| Problem::bad_request(format!("the header {name} is not ASCII")))?;
    Ok(Some(text.trim().to_owned()).filter(|text| !text.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn detail(refused: Result<impl std::fmt::Debug, Problem>) -> String {
        refused.unwrap_err().detail
    }

    #[test]
    fn an_unknown_field_is_answered_with_all_fields_of_the_body() {
        let body = json!({"agent": "a", "task": "t", "team": "x", "colour": 1});
        let Value::Object(body) = body else { panic!("{body}") };
        let (_, job) = split(body).unwrap();
        let detail_of_job = detail(read_job(job));
        for field in ["`colour`", "`agent`", "`task`"].into_iter().chain(CALL_FIELDS) {
            assert!(detail_of_job.contains(field), "{field} is not in {detail_of_job}");
        }
        assert_eq!(
            detail(check_left(&json!({"jobs": [], "colour": 1}))),
            "the body: unknown field `colour`, expected one of `jobs`, `team`, `agent_file`, `session`, `cap`, \
             `session_jobs`, `session_budget`, `approvals`"
        );
        // A field of one job of a batch is one of a job only.
        let of_batch = detail(read::<Jobs>(json!({"jobs": [{"colour": 1}]})));
        assert!(of_batch.contains("`colour`") && !of_batch.contains("agent_file"), "{of_batch}");
    }
}
