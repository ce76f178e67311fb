"""Programs that a run starts on free ports of this machine, and ends by their process ids."""

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

HERE = Path(__file__).resolve().parent
TOOLS = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "legwork-test-tools"


class Missing(Exception):
    """A program is not installed; the text says which."""


class Failed(Exception):
    """A server did not start; the text has the end of its log."""


def free_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def get(url, timeout=5):
    with urllib.request.urlopen(url, timeout=timeout) as response:
        return response.read()


def pinged(path):
    """Raises an `OSError` unless a Redis answers at this socket."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(5)
        connection.connect(str(path))
        connection.sendall(b"PING\r\n")
        if connection.recv(64) != b"+PONG\r\n":
            raise ConnectionError("it does not answer yet")


def redis_program():
    for name in ("valkey-server", "redis-server"):
        if shutil.which(name):
            return name
    raise SystemExit("neither valkey-server nor redis-server is installed")


def installed(*parts):
    path = TOOLS.joinpath(*parts)
    if not path.exists():
        raise Missing(f"{parts[0]} is not installed; scripts/install-foreign-models says why")
    return path


class Servers:
    """Everything that was started, ended in the opposite order when the block ends."""

    def __init__(self, folder):
        self.folder = Path(folder).resolve()
        self.running = []

    def __enter__(self):
        # A run that is ended must end them too.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
        return self

    def __exit__(self, *_):
        for process in reversed(self.running):
            process.terminate()
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def start(self, name, command, env=None):
        """Starts a program, its output in a log of this name, in a folder below others that are empty too.

        LiteLLM imports modules from two folders above the one that it runs in.
        """
        cwd = self.folder / "run" / "in" / name
        cwd.mkdir(parents=True, exist_ok=True)
        with open(self.folder / f"{name}.log", "wb") as log:
            process = subprocess.Popen(
                [str(part) for part in command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(env or {})},
                cwd=cwd,
            )
        self.running.append(process)
        return process

    def ready(self, name, process, seconds, answers):
        """Polls until `answers` raises no `OSError` (as of a port or a socket where nothing listens yet)."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if process.poll() is not None:
                break
            try:
                answers()
                return
            except OSError:
                time.sleep(0.1)
        log = (self.folder / f"{name}.log").read_text(errors="replace")
        raise Failed(f"{name} did not start; its log ends with:\n{log[-2000:]}")

    def redis(self):
        """A Redis or Valkey that keeps nothing on disk. Returns the path of its socket."""
        path = self.folder / "redis.sock"
        options = ["--port", "0", "--unixsocket", path, "--save", "", "--maxmemory-policy", "noeviction"]
        process = self.start("redis", [redis_program(), *options])
        self.ready("redis", process, 60, lambda: pinged(path))
        return path

    def mock(self, fixtures):
        """The mock of the providers. Returns its address."""
        if not shutil.which("node"):
            raise Missing("Node.js is not installed")
        program = installed("foreign-mock", "node_modules", "@copilotkit", "aimock", "dist", "cli.js")
        path = self.folder / "fixtures.json"
        path.write_text(json.dumps({"fixtures": fixtures}))
        port = free_port()
        command = ["node", program, "--fixtures", path, "--port", port, "--log-level", "warn", "--journal-max", 0]
        process = self.start("mock", command)
        self.ready("mock", process, 60, lambda: get(f"http://127.0.0.1:{port}/health"))
        return f"http://127.0.0.1:{port}"

    def model(self):
        """llama.cpp with a small model. Returns its address."""
        port = free_port()
        python = installed("foreign-model", "bin", "python")
        process = self.start("model", [python, HERE / "llama_server.py", port])
        self.ready("model", process, 120, lambda: get(f"http://127.0.0.1:{port}/health"))
        return f"http://127.0.0.1:{port}"

    def gateway(self, model):
        """LiteLLM in front of the model. Returns its address and its key."""
        program = installed("foreign-gateway", "bin", "litellm")
        route = {"model": "openai/small", "api_base": f"{model}/v1", "api_key": "none"}
        config = {"model_list": [{"model_name": "small", "litellm_params": route}]}
        path = self.folder / "gateway.yaml"
        path.write_text(json.dumps(config))
        port = free_port()
        # Its table of prices is otherwise downloaded.
        key = f"sk-{secrets.token_hex(32)}"
        env = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_MASTER_KEY": key}
        process = self.start("gateway", [program, "--config", path, "--host", "127.0.0.1", "--port", port], env)
        self.ready("gateway", process, 180, lambda: get(f"http://127.0.0.1:{port}/health/liveliness"))
        return f"http://127.0.0.1:{port}", key
