"""A real model on llama.cpp's server, alone and behind a gateway, on the three wires that both speak."""

import json
import time

from fleet import Fleet
from servers import Servers
from servers import get

QUESTION = "What is the capital of France? Answer with one word."
LONG = "Write a long story about a dragon, a king and a clever child, with many chapters."
SECONDS = 240


def wires(address):
    """A model of an agent file for each wire."""
    chat = {"provider": "openai", "model": "small", "base_url": f"{address}/v1"}
    common = {"token_key": "LOCAL_KEY", "temperature": 0, "max_tokens": 1024}
    return {
        "chat": {**chat, **common},
        "responses": {**chat, **common, "provider_opts": {"api_type": "openai_responses"}},
        "messages": {"provider": "anthropic", "model": "small", "base_url": address, **common},
    }


def team(address):
    models = wires(address)
    agents = {name: {"model": name, "instruction": "You answer briefly."} for name in models}
    return {"models": models, "agents": {**agents, "root": agents["chat"]}}


def answers(report, fleet, name, address, only):
    """Asks on each wire, side by side."""
    checks = {f"{name}: {wire} answers": wire for wire in wires(address) if only in f"{name}: {wire} answers"}
    ids = fleet.dispatch(name, team(address), [(wire, QUESTION) for wire in checks.values()]) if checks else []
    ended = fleet.wait(ids, SECONDS) if ids else {}
    for check, job in zip(checks, ids, strict=True):
        job = ended.get(job, {"status": "not ended", "error": None, "result": None, "usage": None})
        print(f"   {check}: {job['status']}: {(job['result'] or '')[:100]!r} {job['usage']}")
        right = job["status"] == "completed" and job["result"] and all_counted(job["usage"])
        report.add(check, None if right else f"{job['status']}: {job['error']}: {job['usage']}")


def all_counted(usage):
    return usage["input_tokens"] > 0 and usage["output_tokens"] > 0


def until(seconds, seen):
    """Polls until `seen` is true. Returns whether it was in time."""
    end = time.monotonic() + seconds
    while not seen():
        if time.monotonic() > end:
            return False
        time.sleep(0.1)
    return True


def busy(address):
    """How many answers the model writes at this moment."""
    return sum(slot["is_processing"] for slot in json.loads(get(f"{address}/slots", 30)))


def a_stop_ends_the_generation(report, fleet, address, wire):
    """An answer that streams is stopped: the model must stop writing it."""
    [job] = fleet.dispatch(f"stop-{wire}", team(address), [(wire, LONG)])
    if not until(SECONDS, lambda: fleet.view(job)["output"]):
        return f"no output came: {fleet.view(job)}"
    if fleet.view(job)["status"] != "running" or busy(address) != 1:
        return f"it had ended before its output was seen: {fleet.view(job)}"
    fleet.legwork("stop", job)
    status = fleet.view(job)["status"]
    if status != "stopped":
        return f"it is {status} after the stop"
    return None if until(20, lambda: not busy(address)) else "the model is still writing"


def run(report, folder, only):
    with Servers(folder) as servers:
        address = servers.model()
        fleet = Fleet(servers, {"LOCAL_KEY": "none"})
        answers(report, fleet, "model", address, only)
        for wire in wires(address):
            check = f"model: a stop on {wire} ends the generation"
            if only in check:
                report.add(check, a_stop_ends_the_generation(report, fleet, address, wire))


def run_gateway(report, folder, only):
    with Servers(folder) as servers:
        address, key = servers.gateway(servers.model())
        answers(report, Fleet(servers, {"LOCAL_KEY": key}), "gateway", address, only)
