//! Every path with its role, its handler and its line in the document: the router and the document are made of this list.

use std::sync::Arc;

use axum::Router;
use axum::http::StatusCode;
use axum::middleware;
use axum::routing::MethodRouter;
use axum::routing::get;
use axum::routing::post;

use crate::access::Access;
use crate::access::Gate;
use crate::access::Role;
use crate::access::gate;
use crate::api::Api;
use crate::board;
use crate::change;
use crate::dispatch;
use crate::events;
use crate::fleet;
use crate::jobs;
use crate::list_events;
use crate::metrics;
use crate::page;
use crate::problem::Problem;
use crate::questions;

/// Who may call a route that only reads.
const READ: &[Role] = &[Role::Viewer];
const DISPATCH: &[Role] = &[Role::Dispatcher];
const STEER: &[Role] = &[Role::Dispatcher, Role::Operator];
const OPERATE: &[Role] = &[Role::Operator];

/// One route.
#[derive(Debug)]
pub struct Route {
    /// `get` or `post`, as the document writes it.
    pub method: &'static str,
    /// The path, with its parameters in braces.
    pub path: &'static str,
    /// The roles of which one is needed; none for what everyone may read.
    pub any_of: &'static [Role],
    /// The name of the operation in clients that are generated.
    pub operation: &'static str,
    /// What it does, in one line.
    pub summary: &'static str,
    handler: MethodRouter<Arc<Api>>,
}

/// All routes.
pub fn routes() -> Vec<Route> {
    [reading(), changing(), fleet()].into_iter().flatten().collect()
}

fn route(
    (method, path): (&'static str, &'static str),
    any_of: &'static [Role],
    (operation, summary): (&'static str, &'static str),
    handler: MethodRouter<Arc<Api>>,
) -> Route {
    Route { method, path, any_of, operation, summary, handler }
}

/// Reading jobs.
fn reading() -> Vec<Route> {
    vec![
        route(("get", "/v1/jobs"), READ, ("list", "List jobs, newest first"), get(jobs::list)),
        route(
            ("get", "/v1/jobs/events"),
            READ,
            ("listEvents", "Follow a list of jobs"),
            get(list_events::follow),
        ),
        route(("get", "/v1/jobs/{id}"), READ, ("view", "Show a job and its output"), get(jobs::view)),
        route(
            ("get", "/v1/jobs/{id}/events"),
            READ,
            ("events", "Follow a job's output and states"),
            get(events::of_job),
        ),
        route(
            ("get", "/v1/jobs/{id}/turns"),
            READ,
            ("turns", "Show a job's turns and tool calls"),
            get(jobs::turns),
        ),
        route(
            ("get", "/v1/jobs/{id}/explanation"),
            READ,
            ("explain", "Explain why a job is in its state, and what would change it"),
            get(jobs::explain),
        ),
        route(
            ("get", "/v1/questions"),
            READ,
            ("questions", "List what waits for a person"),
            get(questions::list),
        ),
        route(("post", "/v1/wait"), READ, ("wait", "Wait until jobs have ended"), post(jobs::wait)),
    ]
}

/// Dispatching and changing jobs.
fn changing() -> Vec<Route> {
    vec![
        route(("post", "/v1/jobs"), DISPATCH, ("dispatch", "Dispatch a job"), post(dispatch::one)),
        route(
            ("post", "/v1/jobs/batch"),
            DISPATCH,
            ("dispatchBatch", "Dispatch many jobs"),
            post(dispatch::many),
        ),
        route(
            ("post", "/v1/jobs/{id}/stop"),
            STEER,
            ("stop", "Stop a job and the whole tree below it"),
            post(change::stop),
        ),
        route(
            ("post", "/v1/jobs/{id}/retry"),
            STEER,
            ("retry", "Retry an ended job as a new one"),
            post(change::retry),
        ),
        route(
            ("post", "/v1/jobs/{id}/fork"),
            DISPATCH,
            ("fork", "Dispatch a job like this one, from the beginning, with the same task or another"),
            post(change::fork),
        ),
        route(
            ("post", "/v1/jobs/{id}/messages"),
            STEER,
            ("send", "Send a message to a job"),
            post(change::send),
        ),
        route(
            ("post", "/v1/jobs/{id}/approve"),
            OPERATE,
            ("approve", "Approve a call that waits for a person, or answer a question"),
            post(questions::approve),
        ),
        route(
            ("post", "/v1/jobs/{id}/deny"),
            OPERATE,
            ("deny", "Deny a call that waits for a person, or decline to answer"),
            post(questions::deny),
        ),
        route(
            ("post", "/v1/sessions/{id}/stop"),
            STEER,
            ("stopSession", "Stop all jobs of a session"),
            post(change::stop_session),
        ),
    ]
}

/// The fleet, and the server itself.
fn fleet() -> Vec<Route> {
    vec![
        route(("get", "/v1/stats"), READ, ("stats", "Count jobs and workers"), get(fleet::stats)),
        route(
            ("get", "/v1/stats/history"),
            READ,
            ("history", "Count what was dispatched and what ended over time"),
            get(board::history),
        ),
        route(
            ("get", "/v1/stats/events"),
            READ,
            ("statsEvents", "Follow the fleet's numbers"),
            get(board::follow),
        ),
        route(
            ("get", "/v1/teams"),
            READ,
            ("teams", "List the agents that jobs may be dispatched to"),
            get(fleet::teams),
        ),
        route(("get", "/v1/workers"), READ, ("workers", "List the workers"), get(fleet::workers)),
        route(
            ("post", "/v1/workers/{id}/drain"),
            OPERATE,
            ("drain", "Ask a worker to drain"),
            post(fleet::drain),
        ),
        route(("post", "/v1/queues/{queue}/pause"), OPERATE, ("pause", "Pause a queue"), post(fleet::pause)),
        route(
            ("post", "/v1/queues/{queue}/unpause"),
            OPERATE,
            ("unpause", "End a pause"),
            post(fleet::unpause),
        ),
        route(("get", "/metrics"), READ, ("metrics", "Numbers for Prometheus"), get(fleet::metrics)),
        route(("get", "/openapi.json"), &[], ("document", "This document"), get(fleet::document)),
        route(("get", "/healthz"), &[], ("healthy", "Whether the server lives"), get(fleet::healthy)),
        route(("get", "/readyz"), &[], ("ready", "Whether Redis answers"), get(fleet::ready)),
    ]
}

/// The router of all routes. There are no headers for other origins: CORS is off.
pub fn router(api: Arc<Api>, access: &Access) -> Router {
    let counted = api.metrics.clone();
    let mut router: Router<Arc<Api>> = Router::new();
    for Route { path, any_of, handler, operation, .. } in routes() {
        let handler = if any_of.is_empty() {
            handler
        } else {
            handler.layer(middleware::from_fn_with_state(Gate { access: access.clone(), any_of }, gate))
        };
        let counter = (counted.clone(), operation);
        router = router.route(path, handler.layer(middleware::from_fn_with_state(counter, metrics::count)));
    }
    let unknown =
        async || Problem::new(StatusCode::NOT_FOUND, "not_found", "no such path; see /openapi.json");
    let wrong = async || {
        Problem::new(StatusCode::METHOD_NOT_ALLOWED, "usage", "no such method here; see /openapi.json")
    };
    router.merge(page::routes()).fallback(unknown).method_not_allowed_fallback(wrong).with_state(api)
}
