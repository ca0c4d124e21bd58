# The one entry to everything. `make` alone lists what there is.
SHELL := /bin/bash
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory
ARGS ?=

.PHONY: help
help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: demo
demo: rust ## three queues share this machine fairly: 6,000 real jobs in under two minutes
	@cargo run --release --locked --bin muster -- demo $(ARGS)

.PHONY: up
up: rust ## the whole system in one process; ARGS="--data DIR" keeps what it knows
	@cargo run --release --locked --bin muster -- up $(ARGS)

.PHONY: test
test: rust nats kubernetes ## every test, against real servers too; ARGS="-p muster-core solve" for some
	@scripts/test.sh $(ARGS)

.PHONY: soak
soak: rust nats kubernetes ## the protocol's model, the simulation for an hour (ARGS="--for 5m" for less), chaos on real servers
	@cargo run --release --locked --quiet --package model -- --bound large
	@cargo run --release --locked --quiet --package sim -- $(if $(ARGS),$(ARGS),--for 1h)
	@cargo build --release --locked --quiet --bin muster --bin muster-chaos
	@target/release/muster-chaos --for 5m
	@target/release/muster-chaos kubernetes --jobs 20000

.PHONY: fuzz
fuzz: rust ## what reads foreign bytes, a minute each; ARGS="TARGET --for 10m" for one and longer
	@scripts/fuzz.sh $(ARGS)

.PHONY: mutants
mutants: rust ## breaks each promise on purpose, and shows that the simulation notices
	@cargo run --release --locked --quiet --package sim --features mutants -- --mutants $(ARGS)

.PHONY: bench
bench: rust nats kubernetes ## the numbers of docs/benchmarks.md
	@scripts/bench.sh $(ARGS)

.PHONY: lint
lint: rust style deny ## formatting, lints, dependencies, tidiness
	@scripts/lint.sh

.PHONY: fmt
fmt: rust style ## put the formatting right
	@cargo fmt --all

.PHONY: tools
tools: ## everything that build and tests need, pinned, into .tools/
	@scripts/tools.sh

.PHONY: clean-tools
clean-tools: ## remove .tools/
	@rm -rf .tools

.PHONY: rust style nats kubernetes deny
rust style nats kubernetes deny:
	@scripts/tools.sh $@
