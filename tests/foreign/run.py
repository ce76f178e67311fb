"""Drives `legwork` against servers that others wrote: a mock of the providers, a real model, and a gateway.

usage: run.py [--only WORDS] [--keep FOLDER] [mock] [docs] [model] [gateway]    (all of them without a name)

Prints a line for each check and the counts at the end. The exit status is 1 if a check failed. `scripts/foreign`
installs the servers first.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

import docs_suite
import mock_suite
import model_suite
from report import Report
from servers import Failed
from servers import Missing

SUITES = {"mock": mock_suite.run, "docs": docs_suite.run, "model": model_suite.run, "gateway": model_suite.run_gateway}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("suites", nargs="*", help="mock, docs, model or gateway")
    parser.add_argument("--only", default="", help="only checks whose name has these words")
    parser.add_argument("--keep", type=Path, help="keep the logs in this folder")
    options = parser.parse_args()
    report = Report()
    with tempfile.TemporaryDirectory(prefix="legwork-foreign-") as temporary:
        for name in options.suites or SUITES:
            folder = (options.keep or Path(temporary)) / name
            folder.mkdir(parents=True)
            began = time.monotonic()
            try:
                SUITES[name](report, folder, options.only)
            except Missing as missing:
                report.skip(f"foreign {name}", missing)
            except Failed as failed:
                report.add(f"foreign {name}", str(failed))
            print(f"== {name}: {time.monotonic() - began:.0f} s", flush=True)
    return report.end()


if __name__ == "__main__":
    sys.exit(main())
