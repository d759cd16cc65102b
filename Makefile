# `make help` is the manual. Targets are one-liners: what takes thought lives in the binaries they call.
SHELL := /bin/sh
.DEFAULT_GOAL := help
.PHONY: reference docs screenshots install-yaml release-archives alerts help demo test bugs fuzz soak cluster load cluster-down bench plots crds lint fmt release-check tools cargo go

CARGO ?= cargo
# Worlds of each campaign of the core in `make release-check`; `make test` has 256.
CASES ?= 1200
# Random cases of each property in `make fuzz`; `make test` has 10,000.
CASES_FUZZ ?= 1000000
# Bodies for the exposition parser in `make fuzz`; `make test` has 10,000.
INPUTS_FUZZ ?= 10000000
# Episodes of `make soak`; `make test` has 20,000.
EPISODES ?= 1000000
# A workspace of its own, which nothing else builds: HiGHS is minutes of C++.
JUDGE := $(CARGO) run -q --release --locked --manifest-path e2e/judge/Cargo.toml --target-dir target/judge
# Another: the parsers beside ours bring a second clock, a second winnow and an LGPL.
EXPOSITION := $(CARGO) run -q --release --locked --manifest-path benches/exposition/Cargo.toml --target-dir target/exposition
# Those of the core first: they take minutes, and a cluster of two cores hours.
BENCHES := b1 b2 b4 b3 b6 b9 learning scrape exposition b5 core startup reaction b8 b7
JUDGE_NEEDS := b3 failed. If HiGHS was not built: it needs cmake, a C++ compiler and libclang (Debian: cmake g++ libclang1-14 or newer)
LOCAL_CLUSTER := $(CARGO) run -q -p tiercel-e2e --bin cluster --

help: ## This list.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: cargo go ## A local cluster, a pipeline under recorded load, replicas moving between pools, a report. FAST=1: two minutes.
	@$(CARGO) run -q -p tiercel-e2e --bin demo

test: cargo go ## Everything CI runs: format, lint, unit tests, chart, scenarios on a real control plane, seeded bugs.
	$(CARGO) fmt --all -- --check
	$(CARGO) clippy -q --workspace --all-targets -- -D warnings
	bin="$$($(LOCAL_CLUSTER) tools)" && TIERCEL_TOOLS_BIN="$$bin" INSTA_UPDATE=no $(CARGO) test --workspace
	@$(MAKE) --no-print-directory bugs

cluster: cargo go ## The same cluster and pools to try things by hand, until Ctrl-C. DETACH=1: returns once ready. NO_POOLS=1: no pools yet. PLAIN=1: no operator either.
	@$(CARGO) build -q --workspace --bin tiercel --bin kubectl-tiercel
	@$(LOCAL_CLUSTER) up

load: cargo ## Servers for the sample on the cluster of `make cluster`, and recorded load, until Ctrl-C. RATE=6: mean requests per second.
	@$(LOCAL_CLUSTER) load

cluster-down: cargo ## End the cluster that `make cluster` started.
	@$(LOCAL_CLUSTER) down

bench: cargo go ## Every benchmark, hours; BENCH= names one. reaction, startup, b8: reaction times, requests, memory. b7: beside HPA and KEDA. b3: plans beside HiGHS. b1, b2, b4: the core alone. b5, b6, learning, b9: whole runs. scrape: a thousand pods read. exposition: the metrics parser beside published ones.
	$(if $(BENCH),,@failed=; for one in $(BENCHES); do $(MAKE) --no-print-directory bench BENCH=$$one || failed="$$failed $$one"; done; [ -z "$$failed" ] || { echo "failed:$$failed"; exit 1; })
	$(if $(BENCH),$(if $(filter b3,$(BENCH)),$(JUDGE) || { echo "$(JUDGE_NEEDS)"; exit 1; },$(if $(filter exposition,$(BENCH)),$(EXPOSITION),$(CARGO) bench $(if $(filter b1 b2 b4,$(BENCH)),-p tiercel --bench core,$(if $(filter b5 b6 learning b9 scrape,$(BENCH)),-p tiercel --bench episodes,-p tiercel-e2e)))))

plots: cargo ## Pictures of docs/performance.md from target/bench, of the benchmarks that were run here: docs/images/bench-*.svg.
	@$(CARGO) run -q -p tiercel-e2e --bin plots

crds: cargo ## Write the definitions and their reference page from the Rust types: crds/, charts, docs/reference/.
	@mkdir -p crds charts/tiercel/templates/crds charts/tiercel-crds/templates docs/reference
	@$(CARGO) run -q --bin tiercel -- crd --out crds --helm charts/tiercel/templates/crds --helm-crds charts/tiercel-crds/templates --markdown docs/reference/api.md

reference: crds ## Write all reference pages that come from the code (API, metrics, conditions, events, flags, dashboard, values of the charts), and the recorded objects of config/argocd.
	TIERCEL_WRITE_REFERENCE=1 $(CARGO) test -q -p tiercel --lib reference::
	TIERCEL_WRITE_REFERENCE=1 $(CARGO) test -q -p tiercel --lib situations::
	TIERCEL_WRITE_REFERENCE=1 $(CARGO) test -q -p tiercel --test packaging the_charts_readme

docs: ## The documentation as a site in target/book. Needs mdBook: cargo install mdbook --locked
	@command -v mdbook >/dev/null || { echo "mdbook is missing: cargo install mdbook --locked"; exit 1; }
	mdbook build

screenshots: cargo go ## The web view over the running demo in headless Chromium, and commands in a terminal: pictures for docs/, and no fault. Needs node, chromium and tmux. FAST=1: two minutes.
	@command -v node >/dev/null || { echo "node is missing: install Node 20 or newer"; exit 1; }
	@command -v tmux >/dev/null || { echo "tmux is missing: install it with your package manager"; exit 1; }
	@$(CARGO) build -q --workspace --bin tiercel --bin demo && bin="$$($(LOCAL_CLUSTER) tools)" && TIERCEL_TOOLS_BIN="$$bin" node e2e/ui/screenshots.mjs

install-yaml: cargo go ## Definitions, roles and operator in one file for `kubectl apply`: target/install.yaml.
	@mkdir -p target && "$$($(LOCAL_CLUSTER) tools)/kubectl" kustomize config/default > target/install.yaml && echo target/install.yaml

release-archives: cargo ## The plugin for this platform as .krew.yaml names it, and that manifest with its checksum: target/release-archives. VERSION=v0.1.0
	@CARGO="$(CARGO)" VERSION="$(VERSION)" .ci/release-archives

lint: cargo ## Format check and clippy with denied warnings.
	$(CARGO) fmt --all -- --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings

fmt: cargo ## Format the code.
	$(CARGO) fmt --all

bugs: cargo ## Every seeded bug of the decision core must be caught by the tests that are named for it.
	$(CARGO) test -q --workspace --lib --features tiercel/seeded-bugs rebalance::bug:: -- --nocapture

fuzz: cargo ## Every property of the decision core on CASES_FUZZ random cases, the exposition parser on INPUTS_FUZZ bodies; a failure prints its seed.
	PROPTEST_CASES=$(CASES_FUZZ) FUZZ_INPUTS=$(INPUTS_FUZZ) $(CARGO) test -p tiercel --lib --profile bench -- properties:: garbage:: learn::

soak: cargo ## EPISODES short simulated episodes of the decision core under faults, from seed SIM_FIRST (1); a failure prints SIM_SEED.
	SIM_EPISODES=$(EPISODES) $(CARGO) test -p tiercel --lib --profile bench rebalance::episodes:: -- --nocapture

alerts: cargo go ## Alerts and the queries of shipped presets by promtool, then every expression of dashboard and alerts by a real Prometheus beside the operator under load. Builds Prometheus once.
	@bin="$$($(LOCAL_CLUSTER) prometheus)" && tools="$$($(LOCAL_CLUSTER) tools)" && \
	"$$bin/promtool" check rules charts/tiercel/rules/alerts.yaml && "$$bin/promtool" test rules tests/alerts/alerts_test.yaml tests/presets/presets_test.yaml && \
	$(CARGO) build -q --workspace --bin tiercel && TIERCEL_TOOLS_BIN="$$tools" TIERCEL_PROMETHEUS_BIN="$$bin" $(CARGO) test --workspace --test scenarios -- --ignored monitoring::

release-check: test alerts docs ## `make test`, `make alerts` and `make docs`, then cargo-deny, cargo-audit and the core's campaigns on CASES worlds.
	@command -v cargo-deny >/dev/null || { echo "cargo-deny is missing: cargo install cargo-deny --locked"; exit 1; }
	cargo-deny --workspace --offline check licenses bans sources
	@command -v cargo-audit >/dev/null || { echo "cargo-audit is missing: cargo install cargo-audit --locked"; exit 1; }
	@if [ -d "$${CARGO_HOME:-$$HOME/.cargo}/advisory-db" ]; then cargo-audit audit --no-fetch; else echo "advisories NOT checked: no database; cargo-audit fetches it where the network allows"; fi
	SIM_WORLDS=$(CASES) $(CARGO) test -p tiercel --lib rebalance::campaign

tools: cargo go ## Build the control plane's programs once into a cache and print the folder.
	@$(LOCAL_CLUSTER) tools

cargo:
	@command -v $(CARGO) >/dev/null || { echo "cargo is missing: install Rust from https://rustup.rs or with your package manager, then run this again"; exit 1; }

go:
	@command -v go >/dev/null || { echo "go is missing: install Go from https://go.dev/dl or with your package manager, then run this again; it builds the local control plane"; exit 1; }
