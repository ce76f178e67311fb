"""The events of one job, each once, however often the connection is cut off."""

import base64
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import httpx2

# What a server that ends, or a proxy in front of it, answers.
_TRANSIENT = (429, 500, 502, 503, 504)
# The server sends a comment every 15 seconds; a connection that shows nothing for three of them is dead.
_READ_TIMEOUT = 50.0
_FIRST_DELAY = 0.5
_MAX_DELAY = 15.0


@dataclass(frozen=True)
class Event:
    """One event: `state` when the state changed, `output`, and at last `end` with the whole job."""

    name: Literal["state", "output", "end"]
    id: str
    """Give it as `last_event_id` to continue after this event."""
    data: dict[str, Any]
    """The job, of `state` without its task; of `output` the part of the output with its offsets."""

    @property
    def bytes(self) -> bytes:
        """The output of an `output` event."""
        if "output_base64" in self.data:
            return base64.b64decode(self.data["output_base64"])
        return str(self.data.get("output", "")).encode()

    @property
    def text(self) -> str:
        """The output of an `output` event; bytes that are not UTF-8 are replaced."""
        return self.bytes.decode(errors="replace")


def follow(
    connect: Callable[[dict[str, str]], Any],
    check: Callable[[httpx2.Response], None],
    last_event_id: str | None,
    give_up_after: float,
) -> Iterator[Event]:
    """Yields events until the end. `connect` opens the stream with more headers; `check` raises for a refusal.

    Raises the last error once there was no event and no connection for `give_up_after` seconds.
    """
    last = last_event_id
    delay, alive = _FIRST_DELAY, time.monotonic()
    while True:
        error: Exception | None = None
        try:
            headers = {"Last-Event-ID": last} if last else {}
            with connect(headers) as response:
                if response.status_code == 204:
                    return
                if response.status_code not in _TRANSIENT:
                    check(response)
                    for sent in httpx2.EventSource(response, max_event_size=None):
                        if sent.event not in ("state", "output", "end"):
                            continue
                        delay, alive = _FIRST_DELAY, time.monotonic()
                        last = sent.id or last
                        yield Event(sent.event, sent.id, json.loads(sent.data))  # type: ignore[arg-type]
                        if sent.event == "end":
                            return
                else:
                    response.read()
                    error = httpx2.HTTPStatusError(
                        f"status {response.status_code}", request=response.request, response=response
                    )
        except httpx2.TransportError as cut_off:
            error = cut_off
        if time.monotonic() - alive > give_up_after:
            raise error or httpx2.RemoteProtocolError("the stream ended without its last event")
        time.sleep(delay)
        delay = min(delay * 2, _MAX_DELAY)
