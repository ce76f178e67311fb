"""Prints the OpenAPI document of a server that was just started, indented.

usage: read_openapi.py PROCESS LOG, where LOG gets the server's standard error
"""

import json
import os
import re
import sys
import time
from urllib.request import urlopen

process, log = int(sys.argv[1]), sys.argv[2]
deadline = time.monotonic() + 30
while True:
    with open(log) as text:
        found = re.search(r"listening on (http://\S+)\n", text.read())
    if found:
        break
    os.kill(process, 0)  # raises if it ended
    if time.monotonic() > deadline:
        sys.exit("the server did not start within 30 seconds")
    time.sleep(0.05)
with urlopen(found[1] + "/openapi.json", timeout=10) as answer:
    print(json.dumps(json.load(answer), indent=1, sort_keys=True))
