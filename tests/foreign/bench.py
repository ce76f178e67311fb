"""What a worker costs beyond its provider: CPU time for each streamed token, and for each turn with a tool call.

usage: bench.py    (after `cargo build --release --workspace --bins`; LEGWORK_BENCH_BUILD=debug measures a debug build)

The mock of the providers answers in a process of its own, four characters an event. CPU time is that of the process of
the worker, user and system, so other work on the machine changes it little. `scripts/install-foreign-models mock`
installs the mock.
"""

import os
import statistics
import tempfile
import time
from pathlib import Path

import fleet
from fleet import Fleet
from mock_suite import placed
from providers import KEYS
from providers import PROVIDERS
from servers import Servers

WIRES = ["openai-chat", "openai-responses", "anthropic", "google", "amazon-bedrock"]
TOKENS = 20_000
TURNS = 100
ROUNDS = 3


def fixtures():
    yield {"match": {"systemMessage": "<few>"}, "response": {"content": "word"}}
    yield {"match": {"systemMessage": "<many>"}, "response": {"content": "word" * TOKENS}, "chunkSize": 4}
    for turn in range(TURNS):
        call = {"name": "think", "arguments": {"thought": f"This is thought {turn}."}}
        yield {"match": {"systemMessage": "<turns>", "turnIndex": turn}, "response": {"toolCalls": [call]}}
    yield {"match": {"systemMessage": "<turns>", "turnIndex": TURNS}, "response": {"content": "word"}}


def cpu(process):
    """User and system time of a process, in seconds."""
    fields = Path(f"/proc/{process.pid}/stat").read_text().rsplit(")", 1)[1].split()
    return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")


def cost(fleet, name, team, task):
    """CPU time and wall time of one job, the median of some."""
    costs = []
    for _ in range(ROUNDS):
        before, began = cpu(fleet.worker), time.monotonic()
        [job] = fleet.dispatch(name, team, [("root", task)])
        [ended] = fleet.wait([job], 600).values()
        assert ended["status"] == "completed", ended
        costs.append((cpu(fleet.worker) - before, time.monotonic() - began))
    return [statistics.median(column) for column in zip(*costs, strict=True)]


def main():
    fleet.BUILT = fleet.BUILT.parent / os.environ.get("LEGWORK_BENCH_BUILD", "release")
    print("| wire | CPU for a token | CPU for a turn | tokens a second, one job |\n| --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory(prefix="legwork-bench-") as temporary, Servers(temporary) as servers:
        address = servers.mock(list(fixtures()))
        started = Fleet(servers, KEYS)
        for provider in PROVIDERS:
            if provider.name not in WIRES:
                continue
            agent = {"model": "m", "instruction": "Work.", "max_iterations": 0, "toolsets": [{"type": "think"}]}
            team = {"models": {"m": placed(provider.model, address)}, "agents": {"root": agent}}
            few, many, turns = (cost(started, provider.name, team, task) for task in ("<few>", "<many>", "<turns>"))
            token = (many[0] - few[0]) / TOKENS * 1e6
            turn = (turns[0] - few[0]) / TURNS * 1e3
            print(f"| {provider.name} | {token:.1f} µs | {turn:.2f} ms | {TOKENS / many[1]:,.0f} |", flush=True)


if __name__ == "__main__":
    main()
