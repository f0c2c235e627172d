# All commands of this project; `make help` lists them. Needs Python 3.11 or newer, make and access to PyPI and Maven.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help up test check unit faults night upgrade fuzz clients alerts bench lint typecheck audit format docs lock compose-up clean

# Overrides the environment: modules are compiled once instead of by every process and test worker.
export PYTHONDONTWRITEBYTECODE :=

PYTHON ?= python3
COMPOSE ?= docker compose
WORKERS ?= 3
BODIES ?= 1000000
RECORDS ?= 100000
EXAMPLES ?= 100
SEED ?= 4
SHARE ?= 1
EVENTS ?= 200000
BROKERS ?= 1
LONG := -s --show-capture=no -o faulthandler_timeout=0
BIN := .venv/bin
INSTALLED := .venv/.installed
MEMBERS := shared $(wildcard services/*)
PACKAGES := touchpoint feedback-svc escalation-svc metrics-svc gateway

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

up: $(INSTALLED) ## start Kafka, PostgreSQL and all services here; Ctrl-C stops them (more: .venv/bin/touchpoint --help)
	@$(BIN)/touchpoint up

test: $(INSTALLED) ## run all tests on real Kafka and PostgreSQL (ONLY=services/feedback-svc: a part of them)
	@$(BIN)/pytest -n $(WORKERS) --dist loadscope --no-loadscope-reorder $(ONLY)

check: $(INSTALLED) ## the checks that take a minute: style, imports, types, and all tests that need no servers
	@$(MAKE) --no-print-directory -j 3 --output-sync=target --keep-going lint typecheck unit

unit: $(INSTALLED) # the tests that need no servers
	@$(BIN)/pytest -q -n 3 -m "not servers"

faults: $(INSTALLED) ## kill and freeze processes, cut connections, fill disks under load, then verify (SHARE=0.1: a tenth; BROKERS=3)
	@FAULT_EVENTS=$(EVENTS) FAULT_SHARE=$(SHARE) FAULT_SEED=$(SEED) FAULT_BROKERS=$(BROKERS) FAULT_OUTAGE=180 \
	    FAULT_REPLAY_KILLS=20 FAULT_FOLD_KILLS=20 FAULT_RESTORE_EVENTS=20000 $(BIN)/pytest tests/faults $(LONG)

night: $(INSTALLED) ## inject production failures one by one under load; report detection time, message, recovery and loss
	@FAULT_NIGHT=1 $(BIN)/pytest tests/faults/test_night.py $(LONG)

upgrade: $(INSTALLED) ## upgrade from FROM (a tag or commit) to this version, process by process under load, then verify
	@test -n "$(FROM)" || { echo "FROM is missing, the version to upgrade from: make upgrade FROM=v0.1.0" >&2; exit 2; }
	@folder=$$(mktemp -d); trap 'git worktree remove --force '$$folder EXIT; \
	    git worktree add --quiet --detach $$folder $(FROM); $(MAKE) --directory $$folder $(INSTALLED); \
	    UPGRADE_FROM=$$folder $(BIN)/pytest tests/faults/test_upgrade.py $(LONG)

fuzz: $(INSTALLED) ## fuzz the API (BODIES=1000000), the log (RECORDS=100000) and the document (Schemathesis, EXAMPLES=100); SEED=4
	@FUZZ_BODIES=$(BODIES) FUZZ_RECORDS=$(RECORDS) FUZZ_EXAMPLES=$(EXAMPLES) FUZZ_SEED=$(SEED) \
	    $(BIN)/pytest tests/fuzz/test_door.py tests/fuzz/test_log.py tests/fuzz/test_document.py $(LONG)

clients: $(INSTALLED) ## generate and run clients in Python, TypeScript, Go and Java; lint the OpenAPI documents
	@missing=$$(for tool in node npm java mvn go; do command -v $$tool >/dev/null || echo -n " $$tool"; done); \
	    test -z "$$missing" || { echo "make clients needs these programs, which are missing:$$missing" >&2; exit 2; }
	@CLIENTS=all $(BIN)/pytest tests/clients --durations 0

alerts: $(INSTALLED) ## inject faults; measure the seconds until each alert fires and resolves in a real Alertmanager
	@$(BIN)/python -m tests.deploy.alerts_seen

bench: $(INSTALLED) ## measure throughput and latency as ratios to baselines (bench/README.md); ONLY=NAME: one scenario
	@$(BIN)/python -m bench $(ONLY)

lint: $(INSTALLED) ## check style, likely mistakes and import rules
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/python .ci/names.py
	@$(BIN)/lint-imports

typecheck: $(INSTALLED) ## run mypy --strict on all packages, the benchmarks and the dashboards
	@MYPYPATH=$$(echo $(MEMBERS) | tr ' ' :) $(BIN)/mypy -p bench -p deploy.grafana \
	    $$(for package in $(wildcard $(MEMBERS:%=%/*/__init__.py)); do echo "-p $$(basename $$(dirname $$package))"; done)

audit: $(INSTALLED) ## look up known vulnerabilities of the locked dependencies
	@$(BIN)/python .ci/audit.py

format: $(INSTALLED) ## rewrite the code in the project's style
	@$(BIN)/ruff check --fix
	@$(BIN)/ruff format

docs: $(INSTALLED) ## generate event schemas, API documents, metrics.md and settings.md, and the dashboards in deploy/
	@$(BIN)/python docs/generate.py
	@$(BIN)/python -m deploy.grafana

lock: $(INSTALLED) ## lock dependencies newly added to a pyproject.toml (delete requirements.lock first to upgrade all)
	@$(BIN)/uv pip compile pyproject.toml --group dev --universal --python-version 3.11 --generate-hashes \
	    $(addprefix --no-emit-package ,$(PACKAGES)) --no-header --quiet --output-file requirements.lock
	@$(BIN)/python -m touchpoint.local.jars > .venv/kafka.lock
	@mv .venv/kafka.lock shared/touchpoint/local/kafka.lock

compose-up: .env ## build the images and start everything in containers (COMPOSE="docker compose"; settings in .env)
	@$(COMPOSE) up --build --detach --wait
	@echo "Ready. An API key: $(COMPOSE) exec gateway touchpoint keys create my-system --tenant acme"

# Created once: the databases in the volumes are initialised with these passwords.
.env:
	@(umask 077; while IFS= read -r line; do \
	    case $$line in [A-Z]*=) line=$$line$$(head -c 24 /dev/urandom | od -An -tx1 | tr -d ' \n') ;; esac; \
	    echo "$$line"; done < .env.example > .env)
	@echo "Made .env, with new secrets"

clean: ## remove the Python environment and caches (`touchpoint up --fresh` removes the data)
	@rm -rf .venv .mypy_cache */.mypy_cache services/*/.mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The Python environment, created again when requirements.lock or a package's pyproject.toml has changed.
$(INSTALLED): requirements.lock $(MEMBERS:%=%/pyproject.toml)
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) is missing: install Python 3.11 or newer" >&2; exit 2; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	    echo "$$($(PYTHON) --version) is too old: install Python 3.11 or newer, or name it: make PYTHON=python3.13" >&2; exit 2; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	    echo "Python's venv module is missing: install it (Debian and Ubuntu: apt install python3-venv)" >&2; exit 2; }
	@echo "Creating the environment in .venv"
	@$(PYTHON) -m venv .venv
	@$(BIN)/pip install --disable-pip-version-check --require-hashes -r requirements.lock | awk \
	    -v all=$$(grep -c '^[a-z].*==' requirements.lock) \
	    '/^(Collecting|Requirement already)/ && ++n % 20 == 0 {print "  " n " of " all " packages"; fflush()} \
	     /^Installing/ {print "  all downloaded; installing"; fflush()}'
	@$(BIN)/pip install --disable-pip-version-check --quiet --no-deps --no-build-isolation $(MEMBERS:%=-e %)
	@touch $@
