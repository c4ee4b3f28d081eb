# What people run here. `make help` tells the targets; the logic of the longer ones is in deploy/.

SHELL := /bin/bash
.DEFAULT_GOAL := help

# One place outside the checkout, so that a fresh clone starts warm. One build profile (dev) serves all targets.
XDG_CACHE_HOME ?= $(HOME)/.cache
export CARGO_TARGET_DIR ?= $(XDG_CACHE_HOME)/dci-operator/target
CARGO ?= cargo
export CARGO

# make demo KEEP=1
KEEP ?=

##@ Try it
.PHONY: demo
demo: needs ## the whole job on this machine: control plane, simulated panels, an order from creation to release (KEEP=1: stay up until Ctrl-C)
	@DCI_DEMO_KEEP="$(KEEP)" deploy/demo/run.sh

##@ Test it
.PHONY: test test-unit test-e2e lint check-all
test: needs ## all tests, with a table of stages at the end; what CI runs
	@deploy/ci/stages.sh control-plane build lint unit mutants pure e2e audit

check-all: needs ## the same, and what takes longer (six hours in all) or needs more tools
	@DCI_SWEEP=all DCI_STATES=all deploy/ci/stages.sh control-plane build lint unit mutants pure deny crds docs e2e audit current image \
	  model conformance manifests fuzz soak simulation sweep all-mutants

test-unit: ## unit and integration tests, without a control plane
	@deploy/ci/stages.sh unit

test-e2e: needs ## tests on a real API server, then which permissions they used
	@deploy/ci/stages.sh control-plane build e2e audit

lint: ## rustfmt, clippy, shellcheck, actionlint, cargo deny; the last three where they are installed or to be had
	@deploy/ci/stages.sh lint

.PHONY: current bench soak sweep model simulation conformance states manifests mutants fuzz fuzz-coverage
current: needs ## definitions, rules, policies and tests/e2e.rs against a current API server's own code, as Debian's unstable suite has it
	@deploy/ci/stages.sh control-plane build current

bench: needs control-plane ## what orders cost: requests, versions, memory, for fleets of different sizes, as a table
	@deploy/local/control-plane.sh run -- $(CARGO) test --test e2e -- --ignored --nocapture --test-threads=1 bench:: scale::

soak: needs control-plane ## random faults over orders that come and go (DCI_SOAK_MINUTES=30, DCI_SOAK_ORDERS=200, DCI_SOAK_SEED=1)
	@deploy/local/control-plane.sh run -- $(CARGO) test --test e2e soak:: -- --ignored --nocapture

# What is not run is told at the end, as what was.
sweep: needs control-plane ## every request goes wrong in every way (DCI_SWEEP_RUNS=all|once|list, _SCENARIO, _POINT, _FAULT, _SEED, _SHARD=1/4, _MINUTES, _TOGETHER=24)
	@deploy/local/control-plane.sh run -- $(CARGO) test --test e2e_sweep in_every_way -- --ignored --nocapture

model: ## the whole model of the allocation protocol, with its tables (DCI_MODEL_STATES=n: states made by each check at most)
	@$(CARGO) test --test model -- --include-ignored --nocapture --test-threads=1

simulation: ## the whole operator in simulated worlds: every single fault, pairs of crashes, seeds (DCI_SIM_SEEDS=n, DCI_SIM_FIRST=n; one: DCI_SIM_SEED=n)
	@if [ -n "$$DCI_SIM_SEED$$DCI_SIM_RUN" ]; then $(CARGO) test --test simulation replay -- --ignored --nocapture; \
	else DCI_SIM_ALL=1 DCI_SIM_SEEDS="$${DCI_SIM_SEEDS:-2000}" $(CARGO) test --test simulation -- --include-ignored --skip child --skip replay --nocapture; fi

conformance: needs control-plane ## the simulated API server against the real one (DCI_CONFORM_SEQUENCES=n for each kind, DCI_CONFORM_FIRST=n)
	@DCI_CONFORM_SEQUENCES="$${DCI_CONFORM_SEQUENCES:-500}" deploy/local/control-plane.sh run -- $(CARGO) test --test e2e_conformance -- --nocapture

states: needs control-plane ## stale and unobserved states, and restores, those that take minutes too
	@deploy/local/control-plane.sh run -- $(CARGO) test --test e2e_states -- --include-ignored --test-threads=6

manifests: needs control-plane ## thousands of manifests drawn from the schemas, good and bad, and each property of live orders changed (DCI_MANIFESTS=3000, DCI_MANIFESTS_SEED=1)
	@DCI_MANIFESTS="$${DCI_MANIFESTS:-3000}" deploy/local/control-plane.sh run -- $(CARGO) test --test e2e -- --nocapture manifests:: live_changes::

mutants: ## the decisions, made wrong line by line: caught of all
	@deploy/ci/mutants.sh all

fuzz: ## the parsers, five minutes each (DCI_FUZZ_SECONDS=n, DCI_FUZZ_SEED=n)
	@DCI_FUZZ_SECONDS="$${DCI_FUZZ_SECONDS:-300}" $(CARGO) test --test fuzz -- --nocapture

fuzz-coverage: ## the same with libFuzzer, led by coverage; needs a C++ compiler
	@deploy/ci/fuzz.sh

##@ Work on it
.PHONY: build crds docs kustomize control-plane needs clean help
build: ## the programs: dci-operator, dci-sim, and kubectl-dci, a plugin of kubectl
	@$(CARGO) build --bins

crds: ## write crds/, and the copies in chart and Kustomize base, anew from the Rust types
	@$(CARGO) build --quiet --bin dci-operator
	@for dir in crds charts/dci-operator/files/crds deploy/kustomize/base/crds; do "$(CARGO_TARGET_DIR)/debug/dci-operator" crds --dir "$$dir" && echo "$$dir"; done

docs: ## write the tables in the documentation anew from the code
	@UPDATE_DOCS=1 $(CARGO) test --quiet --test docs --test deploy --test monitoring

kustomize: ## write deploy/kustomize anew from the chart
	@eval "$$(deploy/local/control-plane.sh env)" && deploy/kustomize/generate.sh

control-plane: needs ## find or build the API server, etcd, kubectl and Helm that demo and tests use
	@deploy/local/control-plane.sh install

needs: ## look for what this machine needs; root gets missing packages installed (Debian)
	@deploy/ci/needs.sh

clean: ## remove build results; the control plane in the cache stays
	@$(CARGO) clean

help: ## this text
	@awk 'BEGIN {FS = ":.*## "} \
	  /^##@ / {printf "\n%s\n", substr($$0, 5)} \
	  /^[a-z0-9-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@printf '\nBuild results: %s (CARGO_TARGET_DIR)\n' "$(CARGO_TARGET_DIR)"
