"""Drives a server with the Python client: dispatches, streams across a cut connection, stops, is refused.

usage: drive_http.py URL TOKEN AGENT_FILE
Prints `cut` once a stream has begun, and continues it after the connection is cut. Exits with status 0 and prints
`all good` if every check passed.
"""

import sys

from legwork_client import Client, Event, Problem

url, token, file = sys.argv[1:]


def follow(legwork: Client, id: str) -> list[Event]:
    events: list[Event] = []
    for event in legwork.stream(id):
        events.append(event)
        if sum(event.name == "output" for event in events) == 3 and event.name == "output":
            print("cut", flush=True)
            sys.stdin.readline()
    return events


with Client(url, token) as legwork:
    job = legwork.dispatch(agent="quick", task="go", key="once", agent_file=file)
    assert legwork.dispatch(agent="quick", task="go", key="once", agent_file=file)["id"] == job["id"]
    events = follow(legwork, job["id"])
    stored = legwork.view(job["id"])
    output = b"".join(event.bytes for event in events)
    assert output.decode() == stored["output"], (output, stored)
    assert events[-1].name == "end" and events[-1].data["status"] == "completed", events[-1]
    assert any(event.name == "state" for event in events)
    # Another process continues after an event, and after the last one there is nothing.
    middle = next(event for event in events if event.name == "output")
    rest = b"".join(event.bytes for event in legwork.stream(job["id"], last_event_id=middle.id))
    assert middle.bytes + rest == output
    assert list(legwork.stream(job["id"], last_event_id=events[-1].id)) == []

    slow = legwork.dispatch(agent="slow", task="go", agent_file=file)
    stopped = None
    for event in legwork.stream(slow["id"]):
        # More output may arrive before the end.
        if event.name == "output" and stopped is None:
            stopped = legwork.stop(slow["id"])
            assert stopped["stopped_jobs"] == 1, stopped
    assert event.name == "end" and event.data["cause"] == "operator", event
    assert [listed["id"] for listed in legwork.list(status="stopped")["jobs"]] == [slow["id"]]
    assert legwork.wait(ids=[slow["id"]])["timed_out"] is False
    again = legwork.retry(slow["id"], fresh=True)
    assert again["retry_of"] == slow["id"]
    legwork.send(again["id"], "hello")
    assert legwork.stop_session(again["session"])["status"] == "stopping"
    batch = legwork.dispatch_batch(agent_file=file, jobs=[{"agent": "quick", "task": "1"}])
    assert len(batch["jobs"]) == 1
    assert legwork.turns(job["id"])["turns"] and legwork.explain(job["id"])["explanation"]
    assert legwork.workers()["workers"] and legwork.stats()["queues"] and legwork.teams()["teams"] == {}
    assert legwork.pause("nightly")["paused"] and not legwork.unpause("nightly")["paused"]
    for wrong in (
        lambda: legwork.view("agent_task_00000000-0000-4000-8000-000000000000"),
        lambda: list(legwork.stream("agent_task_00000000-0000-4000-8000-000000000000")),
    ):
        try:
            wrong()
            raise AssertionError("found")
        except Problem as problem:
            assert (problem.status, problem.code) == (404, "not_found"), problem

with Client(url, "wrong-wrong-wrong-wrong") as stranger:
    try:
        stranger.list()
        raise AssertionError("admitted")
    except Problem as problem:
        assert problem.status == 401, problem
print("all good")
