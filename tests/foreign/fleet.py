"""A Redis, a worker and the commands of `legwork`, as a person would run them."""

import json
import os
import subprocess
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BUILT = Path(os.environ.get("CARGO_TARGET_DIR") or ROOT / "target") / "debug"


class Fleet:
    def __init__(self, servers, keys):
        self.folder = servers.folder
        socket = servers.redis()
        self.env = {
            **keys,
            "LEGWORK_REDIS_URL": f"unix://{socket}",
            "LEGWORK_STATE_DIR": str(self.folder / "state"),
            "LEGWORK_WORK_DIR": str(self.folder / "jobs"),
            "LEGWORK_SHARDS": "1",
        }
        self.worker = servers.start("worker", [BUILT / "legwork-worker"], self.env)

    def legwork(self, *arguments, timeout=300):
        """Standard output of a command, whatever its exit status."""
        done = subprocess.run(
            [BUILT / "legwork", *map(str, arguments)],
            env={**os.environ, **self.env},
            cwd=self.folder,
            check=False,
            capture_output=True,
            text=True,
            timeout=timeout,
        )
        if '"error":{"code"' in done.stderr:
            raise RuntimeError(done.stderr)
        return done.stdout

    def dispatch(self, name, team, tasks):
        """Dispatches an agent with a task each; returns the ids in their order. `team` is an agent file as a value."""
        file = self.folder / f"{name}.yaml"
        file.write_text(json.dumps(team))
        batch = self.folder / f"{name}.jsonl"
        batch.write_text("".join(json.dumps({"agent": agent, "task": task}) + "\n" for agent, task in tasks))
        return [job["id"] for job in values(self.legwork("dispatch", "--json", "--batch", batch, file))]

    def wait(self, ids, seconds):
        """The jobs after they have ended, or as they are when the time is over, by id."""
        ended = values(self.legwork("wait", "--json", "--timeout", f"{seconds}s", *ids, timeout=seconds + 30))
        return {job["id"]: job for job in ended}

    @contextmanager
    def follow(self, job):
        """The output of a job as a stream of text, until the job has ended."""
        process = subprocess.Popen(
            [BUILT / "legwork", "view", "--follow", job],
            env={**os.environ, **self.env},
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        with process:
            yield process.stdout

    def view(self, job):
        return values(self.legwork("view", "--json", job))[0]


def values(text):
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]
