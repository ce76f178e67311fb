"""A private Redis, and the programs on it, for the checks that play their managers and operators."""

import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parent.parent
PROGRAMS = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "target/debug").resolve()
TEAM = """
agents:
  root: { model: openai/gpt-4o, description: Root., instruction: Delegate., sub_agents: [slow], toolsets: [{ type: background_agents }] }
  slow: { model: openai/gpt-4o, description: Waits., instruction: Wait., toolsets: [{ type: shell }] }
"""
VIEWER = "0123456789abcdef"
started = []


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def get(port, path, token=None):
    """Status and text, as a probe or a scraper sees them; 0 if nothing listens."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        with urllib.request.urlopen(urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers=headers), timeout=2) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, ""
    except OSError:
        return 0, ""


def until(what, holds, seconds=60):
    """Waits for what takes a second on an idle machine."""
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            raise AssertionError(f"timed out: {what}")
        time.sleep(0.1)


def used_slots(port):
    found = re.search(r"^legwork_worker_used_slots (\d+)$", get(port, "/metrics")[1], re.M)
    return int(found.group(1)) if found else 0


def answers(port):
    """Whether a server of Redis' protocol answers there."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=2) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(16).startswith(b"+PONG")
    except OSError:
        return False


def server_program():
    return shutil.which("valkey-server") or shutil.which("redis-server")


class Fleet:
    def __init__(self, folder):
        self.folder = folder
        self.redis = free_port()
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder / "home"),
            "LEGWORK_REDIS_URL": f"redis://127.0.0.1:{self.redis}",
            "LEGWORK_LEASE": "2s",
        }
        self.server_process = self.redis_server(self.redis, folder)
        (folder / "team.yaml").write_text(TEAM)
        script = {"agents": {"slow": [
            {"tool_calls": [{"name": "shell", "arguments": {"cmd": "sleep {{task}}"}}]}, {"text": "waited"}]}}
        (folder / "script.json").write_text(json.dumps(script))

    def redis_server(self, port, folder, *more):
        """A server with the settings of deploy/redis.conf, and its data in that folder."""
        settings = (ROOT / "deploy/redis.conf").read_text().replace("dir /data", f"dir {folder}")
        server = self.start([server_program(), "-", "--port", str(port), "--bind", "127.0.0.1", *more], settings)
        until("the server answers", lambda: answers(port))
        return server

    def start(self, command, stdin="", **environment):
        log = open(self.folder / f"log-{len(started)}", "w")
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=log, stderr=log, text=True, cwd=self.folder,
            env=self.environment | environment,
        )
        process.stdin.write(stdin)
        process.stdin.close()
        process.log = pathlib.Path(log.name)
        started.append(process)
        return process

    def worker(self, *arguments, **environment):
        port = free_port()
        health = ["--health", f"127.0.0.1:{port}", "--script", str(self.folder / "script.json")]
        process = self.start([str(PROGRAMS / "legwork-worker"), *arguments, *health], **environment)
        return process, port

    def server(self, arguments, **environment):
        """The HTTP interface with the arguments of the chart or the unit, but its address and tokens."""
        port, tokens = free_port(), self.folder / "tokens"
        tokens.write_text(f"scraper viewer {VIEWER}\n")
        replaced = {"--listen": f"127.0.0.1:{port}", "--tokens": str(tokens)}
        arguments = [f"{name}={replaced.get(name, value)}" for name, _, value in (a.partition("=") for a in arguments)]
        return self.start([str(PROGRAMS / "legwork"), "serve", *arguments], **environment), port

    def legwork(self, *arguments):
        done = subprocess.run(
            [str(PROGRAMS / "legwork"), *arguments], env=self.environment, cwd=self.folder, capture_output=True, text=True, timeout=30
        )
        return done.returncode, done.stdout + done.stderr

    def dispatch(self, seconds, queue):
        code, text = self.legwork("dispatch", "--queue", queue, "--script", "script.json", "team.yaml", "slow", str(seconds))
        assert code == 0, text
        return text.split()[0]

    def status(self, job):
        return json.loads(self.legwork("view", job, "--json")[1])["status"]


def play_all(what, plays):
    """Runs plays, each with a fleet of its own, and exits: 1 if one failed."""
    if not (PROGRAMS / "legwork-worker").exists() or not server_program():
        print(f"skipped: {what}: the programs are not built, or there is no Redis server")
        return
    failures = 0
    for play, shown in plays:
        with tempfile.TemporaryDirectory() as folder:
            try:
                play(Fleet(pathlib.Path(folder)))
                print(f"ok: {shown}")
            except Exception as error:  # the next play is independent
                failures += 1
                print(f"failed: {shown}: {type(error).__name__} {error}")
                if os.environ.get("VERBOSE"):
                    for process in started:
                        print(process.log.read_text())
            finally:
                for process in started:
                    process.kill()
                    process.wait()
                started.clear()
    sys.exit(bool(failures))
