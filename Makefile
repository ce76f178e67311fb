# The commands of this repository. `make help` lists them.
.DEFAULT_GOAL := help
.PHONY: help demo demo-model test clients page foreign chaos check fmt audit

help: ## lists these commands
	@sed -n 's/^\([a-z-]*\): ## \(.*\)/make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 17

demo: ## runs a team of background agents with scripted model replies; needs no key
	@scripts/demo

demo-model: ## runs three background agents on a small real model of this machine; downloads 150 MB, needs no key
	@scripts/demo-model

test: ## runs every check: format, lints, all tests, docs, deploy files
	@scripts/test

clients: ## checks the clients for Python and TypeScript, and drives a server with them
	@scripts/check-clients

page: ## drives the page in Chromium: streams, stops, trees, hostile output, 10,000 jobs; PICTURES=FOLDER for screenshots
	@PICTURES="$(PICTURES)" scripts/check-page

foreign: ## drives every wire against servers that others wrote; SUITES="mock model gateway" for some of them
	@scripts/foreign $(SUITES)

chaos: ## injects random faults for ten minutes, then checks every job; SECONDS=60 for less, SEED=1 to repeat a run, REDIS=cluster or sentinel for more than one server, OTHER=next or a commit mixes workers
	cargo build --workspace --bins
	CHAOS_REDIS=$(or $(REDIS),one) CHAOS_SECONDS=$(or $(SECONDS),600) $(if $(SEED),CHAOS_SEED=$(SEED)) $(if $(OTHER),CHAOS_OTHER_WORKER=$$(scripts/other-worker $(OTHER))) cargo test -p legwork-tests --test chaos -- --include-ignored --nocapture

check: ## runs only the quick checks: format and lints
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings

fmt: ## formats the code
	cargo fmt --all

audit: ## checks the dependencies: licences, bans, sources, unused crates
	@scripts/audit
