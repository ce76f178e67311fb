"""Three background agents on a real model of this machine: they stream next to each other, and one is stopped.

`scripts/demo-model` installs the model and builds the programs first.
"""

import sys
import tempfile
import threading
import time
from pathlib import Path

from fleet import Fleet
from servers import Failed
from servers import Missing
from servers import Servers

AGENTS = {
    "rain": "How does rain form? Explain it in three sentences.",
    "sky": "Why is the sky blue? Explain it in three sentences.",
    "story": "Write a long story about a dragon, a king and a clever child, with many chapters.",
}
STOPPED = "story"
WIDTH = 72
SECONDS = 300


def team(address):
    model = {"provider": "openai", "model": "small", "base_url": f"{address}/v1", "token_key": "LOCAL_KEY"}
    models = {"small": {**model, "temperature": 0, "max_tokens": 2048}}
    agents = {name: {"model": "small", "instruction": "You answer briefly."} for name in AGENTS}
    return {"models": models, "agents": {**agents, "root": agents["rain"]}}


def say(text=""):
    print(text, flush=True)


def shown(fleet, name, job, seen):
    """Prints the output of a job line by line while it comes."""
    line = ""
    with fleet.follow(job) as output:
        while word := output.read(16):
            seen[name] += len(word)
            line += word
            while len(line) > WIDTH or "\n" in line:
                end = line.find("\n", 0, WIDTH)
                end = line.rfind(" ", 1, WIDTH) if end < 0 else end
                end = min(WIDTH, len(line)) if end < 0 else end
                if line[:end].strip():
                    say(f"{name:>6} | {line[:end].strip()}")
                line = line[end:].lstrip()
    if line.strip():
        say(f"{name:>6} | {line.strip()}")


def run(folder):
    with Servers(folder) as servers:
        say("starting llama.cpp with SmolLM2, a model of 135 million parameters")
        address = servers.model()
        fleet = Fleet(servers, {"LOCAL_KEY": "none"})
        say(f"it answers at {address}/v1; a worker serves the queue\n")
        jobs = dict(zip(AGENTS, fleet.dispatch("team", team(address), list(AGENTS.items())), strict=True))
        for name, task in AGENTS.items():
            say(f"$ legwork dispatch team.yaml {name} {task!r}\n{jobs[name]}")
        say("\n$ legwork view --follow …    (of each, side by side)")
        seen = dict.fromkeys(AGENTS, 0)
        readers = [threading.Thread(target=shown, args=(fleet, name, job, seen)) for name, job in jobs.items()]
        for reader in readers:
            reader.start()
        end = time.monotonic() + SECONDS
        while (not all(seen.values()) or any(not ended(fleet, jobs[name]) for name in AGENTS if name != STOPPED)) and (
            time.monotonic() < end
        ):
            time.sleep(0.2)
        say(f"\n$ legwork stop {jobs[STOPPED][:15]}…\n{fleet.legwork('stop', jobs[STOPPED]).strip()}\n")
        for reader in readers:
            reader.join()
        say("$ legwork list\n" + fleet.legwork("list"))
        answers = fleet.wait(list(jobs.values()), 60)
        for name, job in jobs.items():
            job = answers[job]
            say(f"{name}: {job['status']}, {job['usage']['output_tokens']} tokens")
            say(f"    {job['result'] or '(no answer)'}\n")
        states = {name: answers[job]["status"] for name, job in jobs.items()}
        return 0 if states == {**dict.fromkeys(AGENTS, "completed"), STOPPED: "stopped"} else 1


def ended(fleet, job):
    return fleet.view(job)["finished_at"]


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="legwork-demo-") as temporary:
        try:
            sys.exit(run(Path(temporary)))
        except Missing as missing:
            sys.exit(f"the demo needs a model: {missing}")
        except Failed as failed:
            sys.exit(str(failed))
