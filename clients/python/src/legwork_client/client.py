"""The client: one method for each operation of the HTTP interface."""

from collections.abc import Iterator
from types import TracebackType
from typing import Any, Self, TypedDict, Unpack, cast
from urllib.parse import quote

import httpx2

from . import models
from .stream import _READ_TIMEOUT, Event, follow


class Problem(Exception):
    """The server did not carry out a request."""

    def __init__(self, status: int, code: str, detail: str, hint: str | None = None):
        super().__init__(f"{detail} ({status} {code})")
        self.status, self.code, self.detail, self.hint = status, code, detail, hint


class ListQuery(TypedDict, total=False):
    """Which jobs a list has; docs/http.md says what each field means."""

    status: str
    failed: bool
    cause: str
    agent: str
    session: str
    queue: str
    worker: str
    since: str
    limit: int
    after: str


def _check(response: httpx2.Response) -> None:
    if response.is_success:
        return
    response.read()
    try:
        body = response.json()
        body = body if isinstance(body, dict) else {}
    except ValueError:
        # A proxy answered.
        body = {}
    detail = body.get("detail") or response.reason_phrase
    raise Problem(response.status_code, body.get("code", "http"), detail, body.get("hint"))


def _given(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


class Client:
    """A client of one server. Threads may share it. `timeout` is in seconds, for each read of a request."""

    def __init__(
        self, url: str = "http://127.0.0.1:7878", token: str | None = None, *, timeout: float = 60.0
    ):
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._http = httpx2.Client(base_url=url, headers=headers, timeout=timeout)

    def close(self) -> None:
        """Closes the connections. Jobs continue."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _get(self, path: str, query: Any = None) -> Any:
        query = {k: str(v).lower() if isinstance(v, bool) else v for k, v in (query or {}).items()}
        response = self._http.get(path, params=query)
        _check(response)
        return response.json()

    def _post(self, path: str, body: Any = None) -> Any:
        response = self._http.post(path, json={} if body is None else body)
        _check(response)
        return response.json()

    # Jobs

    def dispatch(self, **request: Unpack[models.DispatchRequest]) -> models.Job:
        """Dispatches a job. With a `key` it may be repeated: there is one job."""
        return cast(models.Job, self._post("/v1/jobs", request))

    def dispatch_batch(self, **request: Unpack[models.BatchRequest]) -> models.BatchAnswer:
        """Dispatches many jobs; one answer for each, in their order."""
        return cast(models.BatchAnswer, self._post("/v1/jobs/batch", request))

    def list(self, **query: Unpack[ListQuery]) -> models.JobPage:
        """A page of jobs, newest first; its `next` is the `after` of the next page."""
        return cast(models.JobPage, self._get("/v1/jobs", query))

    def view(self, id: str, *, since: int | None = None, tail: int | None = None) -> models.JobView:
        """A job with its output from the byte `since` on, or its last `tail` bytes."""
        return cast(models.JobView, self._get(f"/v1/jobs/{_part(id)}", _given(since=since, tail=tail)))

    def turns(self, id: str, *, after: int = 0) -> models.Turns:
        """The turns of a job, as they were recorded; those with a `sequence` greater than `after`."""
        return cast(models.Turns, self._get(f"/v1/jobs/{_part(id)}/turns", {"after": after}))

    def explain(self, id: str) -> models.Explanation:
        """Why a job is in its state, and what would change it."""
        return cast(models.Explanation, self._get(f"/v1/jobs/{_part(id)}/explanation"))

    def wait(self, **request: Unpack[models.WaitRequest]) -> models.Waited:
        """Waits until jobs have ended, at most 50 seconds; call again while `timed_out`."""
        return cast(models.Waited, self._post("/v1/wait", request))

    def stop(self, id: str) -> models.Stopped:
        """Stops a job and the tree below it. The stop is durable once this returns; the jobs end after that."""
        return cast(models.Stopped, self._post(f"/v1/jobs/{_part(id)}/stop"))

    def stop_session(self, id: str) -> models.Stopped:
        """Stops all jobs of a session."""
        return cast(models.Stopped, self._post(f"/v1/sessions/{_part(id)}/stop"))

    def retry(self, id: str, *, fresh: bool = False, again: bool = False) -> models.Job:
        """Retries an ended job as a new one."""
        return cast(models.Job, self._post(f"/v1/jobs/{_part(id)}/retry", {"fresh": fresh, "again": again}))

    def fork(self, id: str, *, task: str | None = None) -> models.Job:
        """Dispatches a job like this one, from the beginning, with the same task or another."""
        return cast(models.Job, self._post(f"/v1/jobs/{_part(id)}/fork", _given(task=task)))

    def send(self, id: str, message: str) -> models.Named:
        """Sends a message to a job."""
        return cast(models.Named, self._post(f"/v1/jobs/{_part(id)}/messages", {"message": message}))

    def questions(self) -> models.Questions:
        """What waits for a person, the oldest first."""
        return cast(models.Questions, self._get("/v1/questions"))

    def approve(self, id: str, *, call: int | None = None, answer: Any = None) -> models.Answered:
        """Approves a call that waits for a person, or answers a question. The first decision counts."""
        body = _given(call=call, answer=answer)
        return cast(models.Answered, self._post(f"/v1/jobs/{_part(id)}/approve", body))

    def deny(self, id: str, why: str | None = None, *, call: int | None = None) -> models.Answered:
        """Denies a call that waits for a person, or declines to answer; the agent is given the reason."""
        return cast(models.Answered, self._post(f"/v1/jobs/{_part(id)}/deny", _given(call=call, why=why)))

    def stream(
        self, id: str, *, last_event_id: str | None = None, give_up_after: float = 300.0
    ) -> Iterator[Event]:
        """Yields a job's events until its end, each byte of output once.

        Comes back after a lost connection, and raises only when the server refuses, or does not answer for
        `give_up_after` seconds. Leaving the loop ends nothing but the stream.
        """

        def connect(headers: dict[str, str]) -> Any:
            timeout = httpx2.Timeout(_READ_TIMEOUT, connect=10.0)
            path = f"/v1/jobs/{_part(id)}/events"
            return self._http.stream("GET", path, headers=headers, timeout=timeout)

        return follow(connect, _check, last_event_id, give_up_after)

    # The fleet

    def stats(self) -> models.Stats:
        """Jobs, workers and what ended, counted."""
        return cast(models.Stats, self._get("/v1/stats"))

    def history(self) -> models.History:
        """What was dispatched and what ended, over the last hour and the last day."""
        return cast(models.History, self._get("/v1/stats/history"))

    def workers(self) -> models.Workers:
        """The workers."""
        return cast(models.Workers, self._get("/v1/workers"))

    def teams(self) -> models.Teams:
        """The agents that jobs may be dispatched to."""
        return cast(models.Teams, self._get("/v1/teams"))

    def drain(self, worker: str) -> models.Draining:
        """Asks a worker to drain."""
        return cast(models.Draining, self._post(f"/v1/workers/{_part(worker)}/drain"))

    def pause(self, queue: str) -> models.Pause:
        """Pauses a queue: nothing new starts from it."""
        return cast(models.Pause, self._post(f"/v1/queues/{_part(queue)}/pause"))

    def unpause(self, queue: str) -> models.Pause:
        """Ends a pause."""
        return cast(models.Pause, self._post(f"/v1/queues/{_part(queue)}/unpause"))


def _part(text: str) -> str:
    return quote(text, safe="")
