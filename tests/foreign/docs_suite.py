"""The agent files of docs/models.md, as they stand there, with the address of the mock."""

import re

from fleet import Fleet
from fleet import ROOT
from providers import KEYS
from scenarios import SKY
from scenarios import TOKENS
from servers import Servers

BLOCK = re.compile(r"^## (?P<section>[^\n]+)|^```yaml\n(?P<file>.*?)^```", re.MULTILINE | re.DOTALL)
# The scheme and the host of an address; its path stays.
HOST = re.compile(r'(?<=base_url: ")(https?://[^/"]+|\$\{env\.GATEWAY_URL\})')
MORE_KEYS = {"LLAMA_API_KEY": "a-key", "LITELLM_MASTER_KEY": "a-key", "GATEWAY_TOKEN": "a-key"}


def files():
    """Each file with a name of its own."""
    section, count = "", 0
    for block in BLOCK.finditer((ROOT / "docs" / "models.md").read_text()):
        if block["section"]:
            section, count = block["section"], 0
        else:
            count += 1
            yield f"docs: {section}, file {count}", block["file"]


def run(report, folder, only):
    fixture = {"match": {"userMessage": "Hello"}, "response": {"content": SKY, "usage": TOKENS}}
    with Servers(folder) as servers:
        address = servers.mock([fixture])
        fleet = Fleet(servers, {**KEYS, **MORE_KEYS})
        for name, text in files():
            if only not in name:
                continue
            path = folder / "team.yaml"
            path.write_text(HOST.sub(address, text))
            answer = fleet.legwork("run", path, "Hello").strip()
            report.add(name, None if answer == SKY else f"it answers {answer!r}")
