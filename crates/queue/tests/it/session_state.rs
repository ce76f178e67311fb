//! The state that the agents of a session share: a todo list and a token budget.

use legwork_common::id::RunToken;
use legwork_common::id::SessionId;
use legwork_common::money::Money;
use legwork_common::service::CallIndex;
use legwork_common::session_state::BudgetReservation;
use legwork_common::session_state::TodoChange;
use legwork_common::session_state::TodoList;
use legwork_queue::ConnectionKind;
use legwork_queue::Queue;
use legwork_queue::Target;
use legwork_queue::port::Claimed;
use legwork_queue::port::Dispatch as _;
use legwork_queue::port::DispatchedBy;
use legwork_queue::port::OpenSession;
use legwork_queue::port::SessionEnd;
use legwork_queue::port::SessionStateRefusal;
use legwork_queue::port::SessionStateStore as _;
use legwork_queue::port::Upkeep as _;
use legwork_tests::command_proxy::CommandProxy;
use legwork_tests::command_proxy::Fault;
use legwork_tests::redis::Redis;

use crate::support::PrivateRedis;
use crate::support::TestSession;
use crate::support::completed;
use crate::support::dispatched_by;
use crate::support::quick;

fn add(texts: &[&str]) -> TodoChange {
    TodoChange::Add(texts.iter().map(|&text| text.to_owned()).collect())
}

/// Two claimed jobs of the session, and the dispatchers that they are.
async fn two_that_run(it: &TestSession) -> (Vec<Claimed>, [DispatchedBy; 2]) {
    it.one().await;
    it.one().await;
    let claimed = it.claim(2).await;
    let dispatchers = [0, 1].map(|at: usize| dispatched_by(claimed[at].lease));
    (claimed, dispatchers)
}

async fn todos(
    it: &TestSession,
    by: DispatchedBy,
    change: &TodoChange,
    call: Option<u32>,
) -> Result<TodoList, SessionStateRefusal> {
    let call = call.map(|index| CallIndex { turn: 1, index });
    it.queue.todos(it.session, by, change, call).await.unwrap()
}

fn lines(list: &TodoList) -> Vec<String> {
    list.todos.iter().map(|todo| format!("{} {} {}", todo.id, todo.status, todo.description)).collect()
}

#[tokio::test]
async fn a_session_has_one_list_and_a_repeated_call_changes_nothing() {
    let redis = PrivateRedis::start();
    let queue = redis.queue(&quick()).await;
    let it = TestSession::open(&queue, 0).await;
    let (claimed, [mine, yours]) = two_that_run(&it).await;
    assert_eq!(todos(&it, mine, &TodoChange::Read, Some(0)).await, Ok(TodoList::default()));
    let first = todos(&it, mine, &add(&["a", "b"]), Some(1)).await.unwrap();
    assert_eq!(
        (lines(&first), first.first_added),
        (vec!["todo_1 pending a".into(), "todo_2 pending b".into()], 0)
    );
    let second = todos(&it, yours, &add(&["c"]), Some(1)).await.unwrap();
    assert_eq!((second.todos.len(), second.first_added), (3, 2));
    let repeat = todos(&it, mine, &add(&["a", "b"]), Some(1)).await.unwrap();
    assert_eq!((repeat.todos.len(), repeat.first_added), (3, 0));
    let done = |id: &str, status: &str| TodoChange::Update(vec![(id.to_owned(), status.to_owned())]);
    todos(&it, mine, &done("todo_1", "in-progress"), Some(2)).await.unwrap();
    todos(&it, yours, &done("todo_1", "completed"), Some(2)).await.unwrap();
    // The first job makes its call again after a crash: the later change stays.
    let after = todos(&it, mine, &done("todo_1", "in-progress"), Some(2)).await.unwrap();
    assert_eq!(lines(&after)[0], "todo_1 completed a");
    for unknown in ["todo_9", "todo_0", "x"] {
        assert_eq!(todos(&it, mine, &done(unknown, "completed"), Some(3)).await.unwrap(), after.clone());
    }
    let full = todos(&it, mine, &TodoChange::Add(vec!["x".into(); 998]), Some(4)).await;
    assert_eq!(full, Err(SessionStateRefusal::Full));
    let stranger = DispatchedBy::Job { id: claimed[0].lease.id, token: RunToken::random() };
    assert_eq!(todos(&it, stranger, &add(&["d"]), Some(5)).await, Err(SessionStateRefusal::Stale));
    let elsewhere = TestSession { session: SessionId::random(), ..it.clone() };
    let none = todos(&elsewhere, DispatchedBy::Root, &add(&["d"]), None).await;
    assert_eq!(none, Err(SessionStateRefusal::NoSession));

    for one in claimed {
        it.finish(one.lease, completed()).await;
        queue.forget(&[one.lease.id], true).await.unwrap();
    }
    let keys: Vec<String> = redis::cmd("KEYS").arg("*").query_async(&mut redis.raw().await).await.unwrap();
    assert!(!keys.iter().any(|key| key.contains("session")), "{keys:?}");
}

#[tokio::test]
async fn many_changes_of_todos_leave_a_bounded_record() {
    let (redis, it) = TestSession::alone(0).await;
    it.one().await;
    let lease = it.claim(1).await[0].lease;
    let mine = DispatchedBy::Job { id: lease.id, token: lease.token };
    let done = TodoChange::Update(vec![("todo_1".to_owned(), "completed".to_owned())]);
    todos(&it, mine, &add(&["a"]), Some(0)).await.unwrap();
    for call in 1..300 {
        todos(&it, mine, &done, Some(call)).await.unwrap();
        todos(&it, DispatchedBy::Root, &done, None).await.unwrap();
    }
    let mut raw = redis.raw().await;
    let key = it.queue.keys().todos(it.session);
    let fields: u32 = redis::cmd("HLEN").arg(&key).query_async(&mut raw).await.unwrap();
    assert_eq!(fields, 5, "count, text and status of the todo, and the latest changes of two callers");
    let bytes: u32 = redis::cmd("MEMORY").arg("USAGE").arg(&key).query_async(&mut raw).await.unwrap();
    assert!(bytes < 10_000, "{bytes}");
    // A repeat of a late change is still found.
    let repeat = todos(&it, mine, &add(&["again"]), Some(299)).await.unwrap();
    assert_eq!((repeat.todos.len(), repeat.first_added), (1, 1));
    // The changes of a job end with it.
    it.finish(lease, completed()).await;
    let other = it.one().await;
    it.queue.forget(&[lease.id], true).await.unwrap();
    let fields: Vec<String> = redis::cmd("HKEYS").arg(&key).query_async(&mut raw).await.unwrap();
    assert!(!fields.contains(&format!("calls:{}", lease.id.uuid())), "{fields:?} {other}");
}

#[tokio::test]
async fn the_state_of_a_session_without_jobs_expires_with_it() {
    let redis = PrivateRedis::start();
    let queue = redis.queue(&quick()).await;
    let (session, owner) = (SessionId::random(), RunToken::random());
    open(&queue, session, Some(owner), 100).await;
    let root = DispatchedBy::Root;
    queue.todos(session, root, &add(&["a"]), None).await.unwrap().unwrap();
    let mut raw = redis.raw().await;
    let keys = [queue.keys().todos(session), queue.keys().budget(session)];
    let ttl = async |raw: &mut redis::aio::MultiplexedConnection, key: &String| -> i64 {
        redis::cmd("TTL").arg(key).query_async(raw).await.unwrap()
    };
    for key in &keys {
        assert_eq!(ttl(&mut raw, key).await, -1, "{key}");
    }
    queue.close(session, owner).await.unwrap();
    // What a late call adds expires no later.
    queue.todos(session, root, &add(&["b"]), None).await.unwrap().unwrap();
    for key in &keys {
        assert!((1..=3600).contains(&ttl(&mut raw, key).await), "{key}");
    }
}

#[tokio::test]
async fn a_todo_of_the_root_is_added_once_when_the_reply_is_lost() {
    let redis = Redis::start();
    let proxy = CommandProxy::start(redis.address()).await;
    let target = Target::parse(&proxy.url()).unwrap();
    let queue = Queue::connect(&target, "test", &quick(), ConnectionKind::Pooled).await.unwrap();
    let (session, root) = (SessionId::random(), DispatchedBy::Root);
    open(&queue, session, Some(RunToken::random()), 100).await;
    // The server has the script in its cache after this, so the change is one call.
    queue.todos(session, root, &TodoChange::Read, None).await.unwrap().unwrap();
    proxy.arm(1, Fault::LoseReply);
    let list = queue.todos(session, root, &add(&["a"]), None).await.unwrap().unwrap();
    assert!(proxy.hit().is_some());
    assert_eq!((lines(&list), list.first_added), (vec!["todo_1 pending a".into()], 0));
    // Another call is another change.
    let list = queue.todos(session, root, &add(&["a"]), None).await.unwrap().unwrap();
    assert_eq!((list.todos.len(), list.first_added), (2, 1));
}

async fn open(queue: &Queue, session: SessionId, owner: Option<RunToken>, budget: u64) {
    let on_end = SessionEnd::Keep;
    let open = OpenSession { owner, on_end, budget: Some(budget), ..OpenSession::unlimited(session) };
    queue.open(&open).await.unwrap();
}

#[tokio::test]
async fn a_budget_is_reserved_spent_and_given_back() {
    let redis = PrivateRedis::start();
    let queue = redis.queue(&quick()).await;
    let free = TestSession::open(&queue, 0).await;
    let reserve = async |it: &TestSession, by: DispatchedBy, used: u64, wanted: u64| {
        it.queue.reserve(it.session, by, used, wanted).await.unwrap()
    };
    assert_eq!(reserve(&free, DispatchedBy::Root, 7, 7).await, Ok(BudgetReservation::Unlimited));

    let it = TestSession { session: SessionId::random(), ..free };
    open(&queue, it.session, Some(RunToken::random()), 100).await;
    let (claimed, [mine, yours]) = two_that_run(&it).await;
    assert_eq!(reserve(&it, mine, 0, 60).await, Ok(BudgetReservation::Granted));
    // A repeat replaces the first reservation.
    assert_eq!(reserve(&it, mine, 0, 60).await, Ok(BudgetReservation::Granted));
    assert_eq!(reserve(&it, yours, 0, 60).await, Ok(BudgetReservation::Wait(60)));
    assert_eq!(reserve(&it, DispatchedBy::Root, 0, 50).await, Ok(BudgetReservation::Wait(60)));
    // The call cost fewer tokens.
    assert_eq!(reserve(&it, mine, 20, 0).await, Ok(BudgetReservation::Granted));
    assert_eq!(reserve(&it, mine, 20, 0).await, Ok(BudgetReservation::Granted));
    assert_eq!(reserve(&it, yours, 0, 60).await, Ok(BudgetReservation::Granted));
    assert_eq!(reserve(&it, mine, 20, 81).await, Ok(BudgetReservation::Exhausted { spent: 20, budget: 100 }));
    let stranger = DispatchedBy::Job { id: claimed[0].lease.id, token: RunToken::random() };
    assert_eq!(reserve(&it, stranger, 0, 1).await, Err(SessionStateRefusal::Stale));

    // The attempt ends in the middle of its call: its 60 tokens are free.
    it.finish(claimed[1].lease, completed()).await;
    assert_eq!(reserve(&it, mine, 20, 80).await, Ok(BudgetReservation::Granted));
    // What a job used stays spent after the job is forgotten.
    assert_eq!(reserve(&it, mine, 95, 0).await, Ok(BudgetReservation::Granted));
    it.finish(claimed[0].lease, completed()).await;
    queue.forget(&[claimed[0].lease.id], true).await.unwrap();
    assert_eq!(
        reserve(&it, DispatchedBy::Root, 0, 10).await,
        Ok(BudgetReservation::Exhausted { spent: 95, budget: 100 })
    );
    assert_eq!(reserve(&it, DispatchedBy::Root, 0, 5).await, Ok(BudgetReservation::Granted));
}

#[tokio::test]
async fn a_budget_does_not_grow_with_the_jobs_that_used_it() {
    let redis = PrivateRedis::start();
    let queue = redis.queue(&quick()).await;
    let it = TestSession { session: SessionId::random(), ..TestSession::open(&queue, 0).await };
    open(&queue, it.session, Some(RunToken::random()), 100).await;
    let mut lengths = Vec::new();
    for _ in 0..3 {
        it.one().await;
        let claimed = it.claim(1).await.remove(0);
        for (used, wanted) in [(0, 5), (5, 0)] {
            queue.reserve(it.session, dispatched_by(claimed.lease), used, wanted).await.unwrap().unwrap();
        }
        it.finish(claimed.lease, completed()).await;
        let key = queue.keys().budget(it.session);
        let length: u64 = redis::cmd("HLEN").arg(key).query_async(&mut redis.raw().await).await.unwrap();
        lengths.push(length);
    }
    assert_eq!(lengths, [2, 2, 2], "its limit and the tokens spent");
    let spent = queue.reserve(it.session, DispatchedBy::Root, 0, 100).await.unwrap();
    assert_eq!(spent, Ok(BudgetReservation::Exhausted { spent: 15, budget: 100 }));
}

#[tokio::test]
async fn the_reservation_of_a_dead_attempt_is_dropped() {
    let redis = PrivateRedis::start();
    let queue = redis.queue(&quick()).await;
    let it = TestSession { session: SessionId::random(), ..TestSession::open(&queue, 0).await };
    open(&queue, it.session, Some(RunToken::random()), 100).await;
    it.one().await;
    let dead = it.claim(1).await.remove(0);
    let reserve = async |by: DispatchedBy| queue.reserve(it.session, by, 0, 60).await.unwrap();
    assert_eq!(reserve(dispatched_by(dead.lease)).await, Ok(BudgetReservation::Granted));
    assert_eq!(reserve(DispatchedBy::Root).await, Ok(BudgetReservation::Wait(60)));
    queue.reap(true).await.unwrap();
    assert_eq!(reserve(DispatchedBy::Root).await, Ok(BudgetReservation::Granted));
    assert_eq!(reserve(dispatched_by(dead.lease)).await, Err(SessionStateRefusal::Stale));
    // A reaper that is alone drops the session's owner too, so the next attempt does not wait for the root's call.
    let next = it.claim(1).await.remove(0);
    assert_eq!(reserve(dispatched_by(next.lease)).await, Ok(BudgetReservation::Granted));
}

#[tokio::test]
async fn pots_count_what_each_run_used_once() {
    let redis = PrivateRedis::start();
    let queue = redis.queue(&quick()).await;
    let it = TestSession::open(&queue, 0).await;
    let (claimed, [mine, yours]) = two_that_run(&it).await;
    let spend = async |by, run: &str, cost: u64, time: u64| {
        let used = [("budget.max_cost".to_owned(), cost), ("budgets.day.max_time".to_owned(), time)];
        it.queue.spend(it.session, by, run, &used).await.unwrap()
    };
    assert_eq!(spend(mine, "one", 0, 0).await, Ok(vec![0, 0]));
    assert_eq!(spend(mine, "one", 10, 5).await, Ok(vec![10, 5]));
    assert_eq!(spend(mine, "one", 10, 5).await, Ok(vec![10, 5]), "a repeat counts nothing");
    assert_eq!(spend(yours, "two", 7, 0).await, Ok(vec![17, 5]));
    assert_eq!(spend(DispatchedBy::Root, "three", 3, 1).await, Ok(vec![20, 6]));
    assert_eq!(spend(mine, "one", 12, 5).await, Ok(vec![22, 6]));
    assert_eq!(spend(mine, "four", 2, 0).await, Ok(vec![24, 6]), "another run counts from 0");
    assert_eq!(spend(DispatchedBy::Root, "three", 3, 1).await, Ok(vec![24, 6]));
    let gone = dispatched_by(claimed[0].lease);
    let gone = match gone {
        DispatchedBy::Job { id, .. } => DispatchedBy::Job { id, token: RunToken::random() },
        DispatchedBy::Root => gone,
    };
    assert_eq!(spend(gone, "one", 100, 0).await, Err(SessionStateRefusal::Stale));
    let used = [("budget.max_cost".to_owned(), 1)];
    let missing = it.queue.spend(SessionId::random(), DispatchedBy::Root, "one", &used).await.unwrap();
    assert_eq!(missing, Err(SessionStateRefusal::NoSession));
}

#[tokio::test]
async fn a_limit_in_money_is_nothing_that_an_earlier_release_takes_for_tokens_or_leaves_out() {
    let redis = PrivateRedis::start();
    let queue = redis.queue(&quick()).await;
    let mut raw = redis.raw().await;
    for (money, tokens, version) in
        [(Some(Money(5_000_000)), None, "3"), (None, Some(9), "2"), (None, None, "2")]
    {
        let plain = TestSession::open(&queue, 0).await;
        let it = TestSession { session: SessionId::random_in_shard_of(plain.one().await), ..plain };
        let open = OpenSession { budget: tokens, max_cost: money, ..OpenSession::unlimited(it.session) };
        queue.open(&open).await.unwrap();
        assert_eq!(queue.cost_limit(it.session).await.unwrap(), money);
        // An earlier release reads the tokens' hash, and takes one without a limit for spent.
        let key = queue.keys().budget(it.session);
        let fields: Vec<String> = redis::cmd("HKEYS").arg(key).query_async(&mut raw).await.unwrap();
        assert_eq!(fields, if tokens.is_some() { vec!["limit", "spent"] } else { vec![] });
        // It reads facts up to version 2, and gives a job of a later one back.
        let job = it.job();
        let id = job.id;
        it.enqueue(DispatchedBy::Root, vec![job]).await.unwrap();
        let mut read = redis::cmd("GETRANGE");
        read.arg(queue.keys().spec(id)).arg(0).arg(0);
        assert_eq!(read.query_async::<String>(&mut raw).await.unwrap(), version);
        let claimed = it.claim(9).await.into_iter().find(|claimed| claimed.lease.id == id).unwrap();
        assert_eq!(claimed.has_session_budget, money.is_some() || tokens.is_some());
    }
}
