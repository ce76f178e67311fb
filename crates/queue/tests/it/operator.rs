//! The operator's handle: what each operation does, and what it reports for each item.

use std::collections::BTreeSet;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use futures::TryStreamExt as _;
use legwork_common::id::Dispatcher;
use legwork_common::id::JobId;
use legwork_common::id::SessionId;
use legwork_common::job::Cause;
use legwork_common::job::JobOptions;
use legwork_common::job::TeamDigest;
use legwork_common::lifecycle::State;
use legwork_common::service::RunRequest;
use legwork_common::service::ServiceError;
use legwork_common::service::StopReply;
use legwork_common::service::WaitDetail;
use legwork_common::service::WaitItem;
use legwork_common::service::WaitMode;
use legwork_common::team;
use legwork_queue::DispatchedBy;
use legwork_queue::Hints;
use legwork_queue::Observer;
use legwork_queue::Operator;
use legwork_queue::operator::DeleteError;
use legwork_queue::operator::DispatchError;
use legwork_queue::operator::DispatchOrder;
use legwork_queue::operator::FindError;
use legwork_queue::operator::JobFilter;
use legwork_queue::operator::Lane;
use legwork_queue::operator::OwnerTerms;
use legwork_queue::operator::Ownership;
use legwork_queue::operator::RequestError;
use legwork_queue::operator::RetryError;
use legwork_queue::operator::RetryMode;
use legwork_queue::operator::SessionEnd;
use legwork_queue::operator::SessionLanes;
use legwork_queue::operator::SessionOptions;
use legwork_queue::operator::StopError;
use legwork_queue::operator::StopRoot;
use legwork_queue::operator::ViewError;
use legwork_queue::operator::bench::Measurement;
use legwork_queue::operator::tree;
use legwork_queue::port::Append;
use legwork_queue::port::Claim;
use legwork_queue::port::Dispatch as _;
use legwork_queue::port::Ending;
use legwork_queue::port::Finished;
use legwork_queue::port::Heartbeat;
use legwork_queue::port::Renewal;
use legwork_queue::port::Upkeep as _;
use legwork_queue::port::Work as _;
use legwork_queue::port::WorkerReport;
use legwork_queue::settings::FleetSettings;

use crate::support::PrivateRedis;
use crate::support::TestSession;
use crate::support::completed;
use crate::support::next_number;
use crate::support::quick;

/// A namespace with an operator's handle and one open session.
struct Scene {
    _redis: PrivateRedis,
    operator: Operator,
    it: TestSession,
}

impl Scene {
    async fn set(settings: &FleetSettings) -> Self {
        let redis = PrivateRedis::start();
        let queue = redis.queue(settings).await;
        let it = TestSession::open(&queue, 1000).await;
        let hints = Hints::new(&redis.target()).unwrap();
        let operator = Operator::new(Observer::new(queue, hints), SessionLanes::Shared);
        Self { _redis: redis, operator, it }
    }

    /// A job that failed in its first attempt.
    async fn failed(&self) -> JobId {
        let id = self.it.one().await;
        let claimed = self.it.claim(1).await.remove(0);
        assert_eq!(claimed.lease.id, id);
        let failed = Ending::Failed { cause: Cause::AgentError, message: "no".to_owned() };
        assert_eq!(self.it.finish(claimed.lease, failed).await, Finished::Now(State::Failed));
        id
    }

    /// Reaps until something is so.
    async fn reap_until(&self, so: impl AsyncFn() -> bool) {
        while !so().await {
            self.it.queue.reap(false).await.unwrap();
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// A running job and a queued one below it.
    async fn parent_and_child(&self) -> (JobId, JobId) {
        let (parent, child) = self.it.parent_and_child().await;
        (parent.lease.id, child)
    }
}

/// The last item of a stream without errors.
async fn last<T, E: std::fmt::Debug>(stream: impl futures::Stream<Item = Result<T, E>>) -> T {
    stream.try_fold(None, async |_, item| Ok(Some(item))).await.unwrap().unwrap()
}

fn unknown() -> JobId {
    JobId::random_in(SessionId::random())
}

#[tokio::test]
async fn a_job_is_found_by_any_unambiguous_beginning_of_its_id() {
    let scene = Scene::set(&FleetSettings::default()).await;
    let id = scene.it.one().await;
    let uuid = id.uuid().to_string();
    for text in [&id.to_string(), &uuid, &uuid[..4], &uuid.to_uppercase()[..9], &id.to_string()[..20]] {
        assert_eq!(scene.operator.find(text).await.unwrap(), id, "{text}");
    }
    for text in ["zzzz", &uuid[..3], ""] {
        assert!(matches!(scene.operator.find(text).await, Err(FindError::NotFound { .. })), "{text}");
    }
    // A whole id is not looked up.
    let other = unknown();
    assert_eq!(scene.operator.find(&other.to_string()).await.unwrap(), other);
}

#[tokio::test]
async fn an_ambiguous_beginning_names_the_candidates() {
    let scene = Scene::set(&FleetSettings::default()).await;
    let mut ids: Vec<String> = Vec::new();
    let twice = loop {
        let jobs: Vec<_> = (0..200).map(|_| scene.it.job()).collect();
        ids.extend(jobs.iter().map(|job| job.id.uuid().to_string()));
        scene.it.enqueue(DispatchedBy::Root, jobs).await.unwrap();
        let mut starts: Vec<&str> = ids.iter().map(|id| &id[..4]).collect();
        starts.sort_unstable();
        if let Some(pair) = starts.windows(2).find(|pair| pair[0] == pair[1]) {
            break pair[0].to_owned();
        }
    };
    let Err(FindError::Ambiguous { candidates, .. }) = scene.operator.find(&twice).await else {
        panic!("{twice} is not ambiguous")
    };
    assert!(candidates.len() > 1, "{candidates:?}");
    assert!(candidates.iter().all(|id| id.starts_with(&format!("agent_task_{twice}"))), "{candidates:?}");
}

#[tokio::test]
async fn a_session_is_found_by_a_beginning_of_its_id() {
    let scene = Scene::set(&FleetSettings::default()).await;
    let session = scene.it.session;
    let text = session.to_string();
    let missing = scene.operator.find_session(&text[..8]).await.unwrap_err();
    assert_eq!(missing.to_string(), format!("session not found: {}", &text[..8]));
    scene.it.one().await;
    scene.it.one().await;
    for text in [text.as_str(), &text[..8]] {
        assert_eq!(scene.operator.find_session(text).await.unwrap(), session);
    }
}

#[tokio::test]
async fn pages_have_every_job_of_a_filter_once() {
    let scene = Scene::set(&FleetSettings::default()).await;
    let mut expected = BTreeSet::new();
    for _ in 0..3 {
        let other = TestSession::open(&scene.it.queue, 1000).await;
        let jobs: Vec<_> = (0..400).map(|_| other.job()).collect();
        expected.extend(jobs.iter().map(|job| job.id));
        other.enqueue(DispatchedBy::Root, jobs).await.unwrap();
    }
    let pages: Vec<_> = scene.operator.pages(JobFilter::default()).try_collect().await.unwrap();
    assert!(pages.len() > 2, "{}", pages.len());
    let listed: Vec<JobId> = pages.into_iter().flatten().map(|job| job.id).collect();
    assert_eq!(listed.len(), expected.len());
    assert_eq!(listed.into_iter().collect::<BTreeSet<_>>(), expected);

    let filter = JobFilter { session: Some(scene.it.session), ..JobFilter::default() };
    let pages: Vec<_> = scene.operator.pages(filter).try_collect().await.unwrap();
    assert_eq!(pages.concat(), []);
}

#[tokio::test]
async fn a_list_goes_from_page_to_page_and_makes_a_tree() {
    let scene = Scene::set(&FleetSettings::default()).await;
    let (parent, child) = scene.parent_and_child().await;
    let last = scene.it.one().await;
    let filter = JobFilter::default();
    let listing = scene.operator.list(&filter, 100, None).await.unwrap();
    assert_eq!(listing.next, None);
    let lines: Vec<(usize, JobId)> =
        tree(&listing.jobs).iter().map(|line| (line.depth, line.listed.job.id)).collect();
    assert!(lines.contains(&(0, last)), "{lines:?}");
    let at = lines.iter().position(|line| *line == (0, parent)).unwrap();
    assert_eq!(lines[at + 1], (1, child));

    let mut ids = Vec::new();
    let mut after = None;
    loop {
        let page = scene.operator.list(&filter, 1, after).await.unwrap();
        ids.extend(page.jobs.iter().map(|listed| listed.job.id));
        // As a person passes it on.
        after = page.next.map(|next| next.to_string().parse().unwrap());
        if after.is_none() {
            break;
        }
    }
    assert_eq!(ids, listing.jobs.iter().map(|listed| listed.job.id).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_running_job_is_stale_once_its_lease_has_expired() {
    // Longer than a busy machine needs for two reads.
    let settings = FleetSettings { lease: Duration::from_secs(2), ..FleetSettings::default() };
    let scene = Scene::set(&settings).await;
    let id = scene.it.one().await;
    let lease = scene.it.claim(1).await.remove(0).lease;
    let stale_for = async || {
        let listed = scene.operator.list(&JobFilter::default(), 10, None).await.unwrap().jobs.remove(0);
        let viewed = scene.operator.view(id, None, 10).await.unwrap();
        assert_eq!(listed.stale_for.is_some(), viewed.stale_for.is_some());
        viewed.stale_for
    };
    assert_eq!(stale_for().await, None);
    tokio::time::sleep(settings.lease * 2).await;
    assert!(stale_for().await.is_some_and(|age| age > settings.lease));
    // Its worker may still renew, or a reaper reclaims it: it is not stale either way.
    let renewal = Renewal { jobs: vec![lease], sessions: Vec::new() };
    scene.it.queue.renew(&renewal).await.unwrap();
    assert_eq!(stale_for().await, None);
    // A reaper reclaims nothing until it has been at work for one lease.
    scene.reap_until(async || scene.operator.job(id).await.unwrap().status == State::Queued).await;
    assert_eq!(stale_for().await, None);
}

#[tokio::test]
async fn a_view_has_the_output_and_the_turns() {
    let scene = Scene::set(&FleetSettings::default()).await;
    let id = scene.it.one().await;
    let lease = scene.it.claim(1).await.remove(0).lease;
    let append = Append {
        lease,
        offset: 0,
        bytes: b"one two".to_vec(),
        entries: vec![(1, "{}".to_owned())],
        finished_turns: None,
        waits_for: None,
        usage: None,
    };
    scene.it.queue.append(&[append]).await.unwrap();
    let viewed = scene.operator.view(id, None, 3).await.unwrap();
    assert_eq!((viewed.view.output.bytes.as_slice(), viewed.view.output.offset), (&b"two"[..], 4));
    assert_eq!(scene.operator.output(id, 0, 3).await.unwrap().bytes, b"one");
    assert_eq!(scene.operator.turns(id).await.unwrap(), [(1, "{}".to_owned())]);
    assert_eq!(scene.operator.job(id).await.unwrap().output_bytes, 7);
    assert_eq!(scene.operator.session_jobs(scene.it.session).await.unwrap().jobs.len(), 1);

    let missing = unknown();
    assert!(
        matches!(scene.operator.view(missing, None, 3).await, Err(ViewError::NotFound(id)) if id == missing)
    );
    assert!(matches!(scene.operator.job(missing).await, Err(ViewError::NotFound(_))));
    let jobs = scene.operator.jobs(&[missing, id]).await.unwrap();
    assert_eq!(jobs.iter().map(|job| job.id).collect::<Vec<_>>(), [id]);
}

#[tokio::test]
async fn a_wait_answers_for_each_id_in_order() {
    let scene = Scene::set(&FleetSettings::default()).await;
    let (failed, missing) = (scene.failed().await, unknown());
    let items =
        scene.operator.wait(&[missing, failed], WaitMode::All, WaitDetail::Whole, None).await.unwrap();
    assert!(matches!(&items[0], WaitItem::NotFound(text) if *text == missing.to_string()), "{items:?}");
    assert!(matches!(&items[1], WaitItem::Found(view) if view.job.id == failed), "{items:?}");
}

#[tokio::test]
async fn stops_are_reported_one_by_one_and_a_missing_job_does_not_end_them() {
    let scene = Scene::set(&FleetSettings::default()).await;
    let failed = scene.failed().await;
    let (parent, child) = scene.parent_and_child().await;
    let missing = unknown();
    let roots = [missing, failed, parent].map(StopRoot::Job).to_vec();
    let mut reports = pin!(scene.operator.stop_many(roots));
    let first = reports.next().await.unwrap().unwrap_err();
    assert!(matches!(first, StopError::NotFound { root: StopRoot::Job(id) } if id == missing), "{first:?}");
    let second = reports.try_next().await.unwrap().unwrap();
    assert_eq!((second.reply, second.below), (StopReply::AlreadyEnded(State::Failed), Vec::new()));
    let third = reports.try_next().await.unwrap().unwrap();
    assert_eq!((third.reply, third.below.as_slice()), (StopReply::Stopping, &[child][..]));
    assert!(reports.next().await.is_none());

    // The queued job has ended with the mark; the running one ends when its worker confirms.
    assert_eq!(scene.operator.job(child).await.unwrap().status, State::Stopped);
    let waiting = scene.operator.until_stopped(third.root);
    assert!(tokio::time::timeout(Duration::from_millis(300), waiting).await.is_err());
    assert_eq!(scene.operator.job(parent).await.unwrap().status, State::Stopping);
}

#[tokio::test]
async fn a_stopped_tree_is_awaited_until_its_last_job_has_ended() {
    let scene = Scene::set(&FleetSettings::default()).await;
    let id = scene.it.one().await;
    let lease = scene.it.claim(1).await.remove(0).lease;
    let root = StopRoot::Session { id: scene.it.session, close: false };
    let report = scene.operator.stop(root).await.unwrap();
    assert_eq!((report.reply, report.below), (StopReply::Stopping, vec![id]));
    let confirm = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        scene.it.finish(lease, Ending::Stopped { cause: Cause::Operator }).await
    };
    let (stopped, confirmed) = tokio::join!(scene.operator.until_stopped(root), confirm);
    stopped.unwrap();
    assert_eq!(confirmed, Finished::Now(State::Stopped));
    assert_eq!(scene.operator.job(id).await.unwrap().cause, Some(Cause::Operator));
    let unknown = StopRoot::Session { id: SessionId::random(), close: false };
    let missing = scene.operator.stop(unknown).await.unwrap_err();
    assert_eq!(missing.to_string(), format!("session not found: {unknown}"));
}

#[tokio::test]
async fn dropping_a_stream_of_stops_leaves_the_rest_running() {
    let scene = Scene::set(&FleetSettings::default()).await;
    let mut jobs = Vec::new();
    for _ in 0..500 {
        jobs.push(scene.it.one().await);
    }
    {
        let roots = jobs.iter().copied().map(StopRoot::Job).collect();
        let mut reports = pin!(scene.operator.stop_many(roots));
        reports.next().await.unwrap().unwrap();
    }
    assert_eq!(scene.operator.job(jobs[0]).await.unwrap().status, State::Stopped);
    assert_eq!(scene.operator.job(jobs[499]).await.unwrap().status, State::Queued);
}

#[tokio::test]
async fn live_trees_are_those_that_have_not_ended() {
    let scene = Scene::set(&FleetSettings::default()).await;
    let failed = scene.failed().await;
    let (parent, child) = scene.parent_and_child().await;
    let roots = scene.operator.live_trees(JobFilter::default()).await.unwrap();
    assert_eq!(roots.len(), 2, "{roots:?}");
    assert!(roots.contains(&StopRoot::Job(parent)) && roots.contains(&StopRoot::Job(child)), "{roots:?}");
    assert!(!roots.contains(&StopRoot::Job(failed)), "{roots:?}");
    let other = JobFilter { agent: Some("other".to_owned()), ..JobFilter::default() };
    assert_eq!(scene.operator.live_trees(other).await.unwrap(), []);
}

#[tokio::test]
async fn a_failed_job_is_retried_in_its_session_with_its_settings() {
    let scene = Scene::set(&FleetSettings::default()).await;
    let of = scene.failed().await;
    let plan = scene.operator.plan_retry(of, RetryMode::Fresh, false).await.unwrap();
    assert_eq!(plan.queue(), "default");
    let retried: Vec<_> = scene.operator.retry_many(vec![plan]).try_collect().await.unwrap();
    let [retried] = retried[..] else { panic!("{retried:?}") };
    assert_eq!((retried.of, retried.session), (of, scene.it.session));
    let claimed = scene.it.claim(1).await.remove(0);
    assert_eq!(claimed.lease.id, retried.id);
    let spec = claimed.spec;
    assert_eq!((spec.retry_of, spec.fresh, spec.task.as_str()), (Some(of), true, "do it"));
    // The original stays as it ended.
    assert_eq!(scene.operator.job(of).await.unwrap().status, State::Failed);
}

#[tokio::test]
async fn jobs_of_a_closed_session_are_retried_together_in_a_new_one() {
    let scene = Scene::set(&FleetSettings { shards: 4, ..FleetSettings::default() }).await;
    let shard = scene.it.session.shard(4);
    let mut failed = Vec::new();
    for _ in 0..2 {
        let id = scene.it.one().await;
        let claim = Claim {
            shard,
            worker: scene.it.worker.clone(),
            number: next_number(),
            slots: 1,
            idle: true,
            lanes: vec![Lane::Queue("default".to_owned())],
        };
        let lease = scene.it.queue.claim(&claim).await.unwrap().jobs.remove(0).lease;
        scene.it.finish(lease, Ending::Failed { cause: Cause::AgentError, message: "no".into() }).await;
        failed.push(id);
    }
    scene.operator.stop(StopRoot::Session { id: scene.it.session, close: true }).await.unwrap();
    let mut plans = Vec::new();
    for id in &failed {
        plans.push(scene.operator.plan_retry(*id, RetryMode::Resume, false).await.unwrap());
    }
    let retried: Vec<_> = scene.operator.retry_many(plans).try_collect().await.unwrap();
    assert_eq!(retried.iter().map(|retried| retried.of).collect::<Vec<_>>(), failed);
    assert_ne!(retried[0].session, scene.it.session);
    assert_eq!(retried[0].session, retried[1].session);
    // In the same shard, because the turns of the original are read from there.
    assert_eq!(retried[0].session.shard(4), shard);
    for retried in &retried {
        assert_eq!(scene.operator.job(retried.id).await.unwrap().status, State::Queued);
    }
}

#[tokio::test]
async fn a_retry_is_refused_before_anything_is_stored() {
    let scene = Scene::set(&FleetSettings::default()).await;
    let done = scene.it.one().await;
    let lease = scene.it.claim(1).await.remove(0).lease;
    scene.it.finish(lease, completed()).await;
    let queued = scene.it.one().await;
    let plan = async |id| scene.operator.plan_retry(id, RetryMode::Resume, false).await;
    assert!(matches!(plan(done).await, Err(RetryError::Completed(id)) if id == done));
    assert!(matches!(plan(queued).await, Err(RetryError::NotEnded { status: State::Queued, .. })));
    assert!(matches!(plan(unknown()).await, Err(RetryError::NotFound(_))));
    assert_eq!(scene.operator.list(&JobFilter::default(), 10, None).await.unwrap().jobs.len(), 2);
}

#[tokio::test]
async fn ended_jobs_are_deleted_and_others_are_refused() {
    let scene = Scene::set(&FleetSettings::default()).await;
    let (failed, queued, missing) = (scene.failed().await, scene.it.one().await, unknown());
    let ids = [failed, queued, missing];
    let checks = scene.operator.check_deletable(&ids).await.unwrap();
    assert!(matches!(checks[0], Ok(id) if id == failed), "{checks:?}");
    assert!(matches!(checks[1], Err(DeleteError::Live(id)) if id == queued), "{checks:?}");
    assert!(matches!(checks[2], Err(DeleteError::NotFound(id)) if id == missing), "{checks:?}");
    assert_eq!(scene.operator.jobs(&ids).await.unwrap().len(), 2, "a check changes nothing");

    let deleted: Vec<_> = scene.operator.delete_many(ids.to_vec()).collect().await;
    assert!(matches!(deleted[0], Ok(id) if id == failed), "{deleted:?}");
    assert!(matches!(deleted[1], Err(DeleteError::Live(_))), "{deleted:?}");
    // Another caller may have been faster.
    assert!(deleted[2].is_ok(), "{deleted:?}");
    let left = scene.operator.jobs(&ids).await.unwrap();
    assert_eq!(left.iter().map(|job| job.id).collect::<Vec<_>>(), [queued]);
}

#[tokio::test]
async fn clearing_deletes_what_ended_long_enough_ago() {
    let scene = Scene::set(&FleetSettings::default()).await;
    scene.failed().await;
    let queued = scene.it.one().await;
    let young = last(scene.operator.clear(Duration::from_secs(3600))).await;
    assert_eq!((young.forgotten, young.kept), (0, 0));
    let cleared = last(scene.operator.clear(Duration::ZERO)).await;
    assert_eq!((cleared.forgotten, cleared.kept), (1, 0));
    assert_eq!(scene.operator.list(&JobFilter::default(), 10, None).await.unwrap().jobs[0].job.id, queued);
}

#[tokio::test]
async fn a_message_reaches_only_a_job_that_has_not_ended() {
    let scene = Scene::set(&FleetSettings::default()).await;
    let failed = scene.failed().await;
    let late = scene.operator.send(failed, "hello").await.unwrap_err();
    assert_eq!(late.to_string(), format!("task {failed} is not running (status: failed)"));
    let id = scene.it.one().await;
    scene.operator.send(id, "before it starts").await.unwrap();
    scene.it.claim(1).await;
    scene.operator.send(id, "while it runs").await.unwrap();
    let mail = scene.it.queue.mail(scene.it.session, Dispatcher::Job(id)).await.unwrap();
    assert_eq!(mail.len(), 2);
    let missing = scene.operator.send(unknown(), "hello").await;
    assert!(matches!(missing, Err(ServiceError::NotFound(_))), "{missing:?}");
}

/// The terms of an owner whose grace is one lease, and whose jobs are stopped after it.
const STOPS: OwnerTerms = OwnerTerms { grace: Duration::ZERO, on_end: SessionEnd::Stop };
const TEAM: &str = "agents: {root: {model: auto, instruction: i}}";

fn order(session: Option<SessionId>) -> DispatchOrder {
    let team = team::parse("team.yaml", TEAM.as_bytes()).unwrap().team;
    DispatchOrder {
        session,
        options: SessionOptions::default(),
        digest: TeamDigest(team.sha256().unwrap()),
        team_json: team.to_json().unwrap().into(),
        team: Arc::new(team),
        working_dir: None,
        policy: Arc::default(),
        trace: None,
        approvals: None,
    }
}

fn request(agent: &str, key: Option<&str>) -> RunRequest {
    RunRequest {
        safety: None,
        agent: agent.to_owned(),
        task: "go".to_owned(),
        expected_output: None,
        call: None,
        key: key.map(str::to_owned),
        job_options: Some(JobOptions::default()),
    }
}

#[tokio::test]
async fn a_wrong_request_stores_nothing_of_its_order() {
    let scene = Scene::set(&FleetSettings::default()).await;
    let requests = vec![request("root", None), request("ghost", None)];
    let refused = scene.operator.dispatch(order(None), requests).await.unwrap_err();
    let DispatchError::Request { number: 2, source: RequestError::UnknownAgent { name, .. } } = refused
    else {
        panic!("{refused:?}")
    };
    assert_eq!(name, "ghost");
    assert_eq!(scene.operator.list(&JobFilter::default(), 10, None).await.unwrap().jobs, []);
}

#[tokio::test]
async fn an_order_without_a_session_gets_a_new_one_and_keys_of_the_namespace() {
    let scene = Scene::set(&FleetSettings::default()).await;
    let dispatch = async |session| {
        let requests = vec![request("root", Some("k")), request("root", None)];
        scene.operator.dispatch(order(session), requests).await.unwrap()
    };
    let (first, second) = (dispatch(None).await, dispatch(None).await);
    assert_ne!(first.session, second.session);
    let id = |answers: &[Result<JobId, ServiceError>], at: usize| *answers[at].as_ref().unwrap();
    assert_eq!(id(&first.batch.answers, 0), id(&second.batch.answers, 0));
    assert_ne!(id(&first.batch.answers, 1), id(&second.batch.answers, 1));
    let named = dispatch(Some(scene.it.session)).await;
    assert_eq!(named.session, scene.it.session);
    assert_ne!(id(&first.batch.answers, 0), id(&named.batch.answers, 0));

    scene.operator.stop(StopRoot::Session { id: scene.it.session, close: true }).await.unwrap();
    let requests = vec![request("root", None)];
    let closed = scene.operator.dispatch(order(Some(scene.it.session)), requests).await;
    assert!(matches!(closed, Err(DispatchError::Service(ServiceError::SessionClosed(_)))), "{closed:?}");
}

#[tokio::test]
async fn an_owned_session_ends_with_its_owner() {
    let scene = Scene::set(&quick()).await;
    let owner = scene.operator.own_session(SessionOptions::default(), STOPS).await.unwrap();
    let it = TestSession { session: owner.session(), ..scene.it.clone() };
    it.queue.store_team(it.session, &it.team, "{}").await.unwrap();
    let id = it.one().await;
    assert_eq!(owner.renew().await.unwrap(), Ownership::Kept);
    assert_eq!(scene.operator.job(id).await.unwrap().status, State::Queued);
    // Nothing renews any more: a reaper finds the session without its owner.
    scene.reap_until(async || scene.operator.job(id).await.unwrap().status == State::Stopped).await;
    assert_eq!(scene.operator.job(id).await.unwrap().cause, Some(Cause::SessionEnd));
    assert_eq!(owner.renew().await.unwrap(), Ownership::Lost, "an owner that comes back learns of it");
}

#[tokio::test]
async fn an_owner_may_be_away_for_its_grace_which_is_longer_than_a_lease() {
    let scene = Scene::set(&quick()).await;
    let patient = OwnerTerms { grace: Duration::from_secs(600), ..STOPS };
    let away = scene.operator.own_session(SessionOptions::default(), patient).await.unwrap();
    let gone = scene.operator.own_session(SessionOptions::default(), STOPS).await.unwrap();
    let mut jobs = Vec::new();
    for session in [away.session(), gone.session()] {
        let it = TestSession { session, ..scene.it.clone() };
        it.queue.store_team(it.session, &it.team, "{}").await.unwrap();
        jobs.push(it.one().await);
    }
    assert_eq!(away.renew().await.unwrap(), Ownership::Kept);
    // The owner whose grace is one lease shows that the leases of both are over.
    scene.reap_until(async || scene.operator.job(jobs[1]).await.unwrap().status == State::Stopped).await;
    assert_eq!(scene.operator.job(jobs[0]).await.unwrap().status, State::Queued);
    assert_eq!(away.renew().await.unwrap(), Ownership::Kept);
}

#[tokio::test]
async fn an_owner_stops_and_closes_its_session_or_leaves_it_open() {
    let scene = Scene::set(&FleetSettings::default()).await;
    let own = async || {
        let owner = scene.operator.own_session(SessionOptions::default(), STOPS).await.unwrap();
        let it = TestSession { session: owner.session(), ..scene.it.clone() };
        it.queue.store_team(it.session, &it.team, "{}").await.unwrap();
        let id = it.one().await;
        (owner, id)
    };
    let (owner, id) = own().await;
    let root = owner.stop(Cause::Operator).await.unwrap();
    scene.operator.until_stopped(root).await.unwrap();
    owner.close().await.unwrap();
    assert_eq!(scene.operator.job(id).await.unwrap().status, State::Stopped);
    let closed = scene.operator.join_session(owner.session(), SessionOptions::default()).await;
    assert!(matches!(closed, Err(ServiceError::SessionClosed(_))), "{closed:?}");

    let (owner, id) = own().await;
    owner.detach().await.unwrap();
    scene.operator.join_session(owner.session(), SessionOptions::default()).await.unwrap();
    assert_eq!(scene.operator.job(id).await.unwrap().status, State::Queued);
}

#[tokio::test]
async fn a_lane_is_served_while_a_worker_claims_from_it() {
    let scene = Scene::set(&FleetSettings::default()).await;
    let lane = |name: &str| Lane::Queue(name.to_owned());
    let unserved = async |queues: &[&str]| {
        let queues: Vec<String> = queues.iter().map(ToString::to_string).collect();
        scene.operator.unserved(&queues).await.unwrap()
    };
    let is_served = async |name: &str| !scene.operator.workers_of(&lane(name)).await.unwrap().is_empty();
    assert_eq!(unserved(&["default", "code", "default"]).await, ["code", "default"]);
    let mut heartbeat = Heartbeat {
        worker: scene.it.worker.clone(),
        host: "host".to_owned(),
        process: 1,
        lanes: vec![lane("default")],
        slots: 4,
        used: 0,
        jobs: 0,
        draining: false,
        report: WorkerReport::default(),
    };
    scene.it.queue.heartbeat(&heartbeat).await.unwrap();
    assert_eq!(scene.operator.workers().await.unwrap()[0].id, scene.it.worker);
    assert!(is_served("default").await);
    assert!(!is_served("code").await);
    heartbeat.draining = true;
    scene.it.queue.heartbeat(&heartbeat).await.unwrap();
    assert!(!is_served("default").await);
    assert_eq!(unserved(&["default", "code"]).await, ["code"]);
}

#[tokio::test]
async fn a_measurement_leaves_nothing_behind() {
    let redis = PrivateRedis::start();
    let settings = FleetSettings::default();
    let measurement = Measurement::begin(&redis.target(), &settings).await.unwrap();
    let ids = measurement.dispatch(250).await.unwrap();
    assert_eq!((ids.len(), measurement.unfinished().await.unwrap()), (250, 250));
    let before = measurement.server_cost().await.unwrap();
    assert!(measurement.bare_stream(100).await.unwrap().commands > 0.0);
    assert!(measurement.server_cost().await.unwrap().since(before).commands > 0.0);
    measurement.end().await.unwrap();
    let keys: Vec<String> = redis::cmd("KEYS").arg("*").query_async(&mut redis.raw().await).await.unwrap();
    assert_eq!(keys, [""; 0]);
}
