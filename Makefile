# The commands of this repository. `make help` lists them.
.DEFAULT_GOAL := help
.PHONY: help demo test check fmt audit

help: ## lists the commands
	@sed -n 's/^\([a-z]*\): ## \(.*\)/make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 14

demo: ## runs a team of background agents with scripted model replies; needs no key
	@scripts/demo

test: ## runs every check: format, lints, all tests, docs, deploy files
	@scripts/test

check: ## the quick part: format and lints
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings

fmt: ## formats the code
	cargo fmt --all

audit: ## checks the dependencies: licences, bans, sources, unused ones
	@scripts/audit
