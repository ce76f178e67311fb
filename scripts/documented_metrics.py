"""The metrics of Legwork: those in the tables of docs/operations.md and docs/http.md."""

import pathlib
import re

DOCS = pathlib.Path(__file__).resolve().parent.parent / "docs"
# What a histogram's series are called.
PARTS = ["_bucket", "_sum", "_count"]


def documented_metrics():
    """The names of series that exist. Names in a comment or a sentence do not count."""
    lines = [line for page in ("operations", "http") for line in (DOCS / f"{page}.md").read_text().splitlines()]
    found = set()
    for line in lines:
        if not line.startswith("| `legwork_"):
            continue
        names, kind = re.findall(r"`(legwork_\w+)", line.split("|")[1]), line.split("|")[2].strip()
        found.update(name + part for name in names for part in (PARTS if kind == "histogram" else [""]))
    return found


def undocumented(expression):
    """The metrics in an expression, or in any text, that do not exist."""
    return sorted(set(re.findall(r"\blegwork_\w+", expression)) - documented_metrics())
