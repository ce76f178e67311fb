"""Every wire against the mock of the providers: jobs in all scenarios, run side by side."""

import json

from fleet import Fleet
from providers import KEYS
from providers import PROVIDERS
from scenarios import SCENARIOS
from scenarios import TOKENS
from servers import Servers

# The slowest scenario waits through all its retries, which takes half a minute.
SECONDS = 180


def words_of(provider, scenario):
    """Words that only the requests of this job have. The mock looks for them in the system messages."""
    return f"<{scenario.name} at {provider.name}>"


def fixtures(pairs):
    for provider, scenario in pairs:
        for match, answer in scenario.answers:
            response = answer["response"]
            if "error" not in response:
                response = {**response, "usage": TOKENS}
            match = {"systemMessage": words_of(provider, scenario), **match}
            yield {**answer, "match": match, "response": response}


def agent_name(scenario):
    return "".join(c if c.isalnum() else "_" for c in f"a {scenario.name}")


def placed(value, address):
    """The settings with the address of the mock in place of `U`."""
    return json.loads(json.dumps(value).replace('"U', f'"{address}'))


def model(provider, scenario, address):
    settings = {**placed(provider.model, address), **scenario.model}
    options = {**settings.get("provider_opts", {}), **scenario.options}
    return {**settings, "provider_opts": options} if options else settings


def agent(scenario, notes):
    tool = {
        "cmd": f'echo "$text" >> "{notes}"',
        "description": "Takes a note.",
        "args": {"text": {"type": "string", "description": "The note"}},
        "required": ["text"],
    }
    return {
        "model": agent_name(scenario),
        "instruction": "Do as the task says.",
        "toolsets": [{"type": "script", "shell": {"note": tool}}],
    }


def team(provider, scenarios, address, notes):
    """An agent file with an agent and a model for each scenario, so that no rate limit of one pauses another."""
    models = {agent_name(scenario): model(provider, scenario, address) for scenario in scenarios}
    for scenario in scenarios:
        if "429" in scenario.name:
            models[agent_name(scenario)]["model"] += "-" + scenario.name.replace(" ", "-")
    agents = {agent_name(scenario): agent(scenario, notes[scenario]) for scenario in scenarios}
    agents["root"] = {"model": agent_name(scenarios[0]), "instruction": "Wait."}
    return {"providers": placed(provider.providers, address), "models": models, "agents": agents}


def miscounted(scenario, usage):
    """Whether the tokens are not those of the turns. A try that was cut may have had a count."""
    expected = [tokens * usage["turns"] for tokens in TOKENS.values()]
    counted = [usage["input_tokens"], usage["output_tokens"]]
    if "once" in scenario.name:
        return any(tokens < least for tokens, least in zip(counted, expected, strict=True))
    return counted != expected


def wrong(provider, scenario, job, notes):
    """What is wrong with the end of a job, if anything."""
    if scenario.text is None:
        error = (job["error"] or "").lower()
        if job["status"] != "failed":
            return f"must fail, and is {job['status']} with {(job['result'] or '')[:200]!r}"
        if not any(words.lower() in error for words in scenario.error):
            return f"its error has none of {scenario.error}: {job['error']}"
    elif job["status"] != "completed":
        return f"must complete, and is {job['status']}: {job['cause']}: {job['error']}"
    elif (job["result"] or "").rstrip() != scenario.text:
        return f"its answer is {(job['result'] or '')[:200]!r}"
    elif provider.counts_tokens and miscounted(scenario, job["usage"]):
        return f"its tokens are not those of its turns: {job['usage']}"
    if sorted(notes) != sorted(scenario.notes):
        return f"its tool must have written {scenario.notes}, and wrote {notes}"
    return None


def run(report, folder, only):
    pairs = [
        (provider, scenario)
        for provider in PROVIDERS
        for scenario in SCENARIOS
        if (provider.full or scenario.on_aliases)
        and provider.name not in scenario.not_at
        and only in f"{provider.name}: {scenario.name}"
    ]
    with Servers(folder) as servers:
        address = servers.mock(list(fixtures(pairs)))
        fleet = Fleet(servers, {**KEYS, "MODEL_RUNNER_HOST": address})
        jobs = {}
        for provider in {provider.name: provider for provider, _ in pairs}.values():
            mine = [scenario for of, scenario in pairs if of is provider]
            notes = {scenario: folder / f"{provider.name} {scenario.name}.notes" for scenario in mine}
            tasks = [(agent_name(scenario), words_of(provider, scenario)) for scenario in mine]
            ids = fleet.dispatch(provider.name, team(provider, mine, address, notes), tasks)
            for scenario, job in zip(mine, ids, strict=True):
                jobs[job] = (provider, scenario, notes[scenario])
        ended = fleet.wait(list(jobs), SECONDS)
        for job, (provider, scenario, notes) in jobs.items():
            written = notes.read_text().splitlines() if notes.exists() else []
            fault = wrong(provider, scenario, ended[job], written) if job in ended else "it did not end"
            report.add(f"{provider.name}: {scenario.name}", fault)
