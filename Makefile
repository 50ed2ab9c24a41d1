.DEFAULT_GOAL := help
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
PYTHON := .venv/bin/python
PYTEST := $(PYTHON) -m pytest -q
SERVICES := ingestion features training inference router monitoring
PROTOS = $(shell find protos -name '*.proto' | sort)
PROTOC = $(PYTHON) -m grpc_tools.protoc -Iservices/contracts=protos $(PROTOS)
UV_VERSION := 0.13.9
# Handed on to what a target runs: `make demo ARGS=--exit`, `make test ARGS=tests/unit/router`.
ARGS ?=

.PHONY: help
help: ## This list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-17s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# -- to use it

.PHONY: setup
setup: ## Everything a fresh machine lacks: Debian packages (as root), .venv by the lock's hashes, Kafka's jars
	@deploy/local/bootstrap

.PHONY: demo
demo: setup ## The closed loop on the bundled problem (ARGS=--exit: end when it is over)
	@.venv/bin/slipway demo $(ARGS)

.PHONY: up
up: setup ## Starts the platform and shows its logs; Ctrl-C stops it (ARGS=--detach: returns when it is ready)
	@.venv/bin/slipway up $(ARGS)

.PHONY: down
down: ## Stops the platform
	@.venv/bin/slipway down

# -- to work on it

.PHONY: check
check: setup ## All that CI runs, in stages: lint, types, tests; integration tests; end to end
	@$(MAKE) --no-print-directory -j2 --output-sync=target lint types test
	@$(MAKE) --no-print-directory test-integration
	@$(MAKE) --no-print-directory test-e2e

.PHONY: fmt
fmt: ## Formats, and mends what ruff can mend
	@$(PYTHON) -m ruff check --fix --quiet . || true
	@$(PYTHON) -m ruff format .

.PHONY: lint
lint: imports contracts ## ruff and its formatter, import rules, services/contracts as protos/ say
	@$(PYTHON) -m ruff check .
	@$(PYTHON) -m ruff format --check .

.PHONY: types
types: ## mypy, strict
	@$(PYTHON) -m mypy

.PHONY: imports
imports: ## Who may import whom
	@.venv/bin/lint-imports --no-logo

.PHONY: test
test: ## Unit and contract tests: seconds, no servers
	@$(PYTEST) $(or $(ARGS),tests/unit tests/contract)

# Two halves side by side: most of their time they wait for the parts.
ONE_HALF := $(addprefix tests/integration/,features ingestion inference monitoring router)
OTHER_HALF := $(filter-out $(ONE_HALF) %/__pycache__,$(patsubst %/,%,$(wildcard tests/integration/*/)))

.PHONY: test-integration
test-integration: ## One service at a time on real Kafka, Redis, MLflow, Envoy
ifdef ARGS
	@$(PYTEST) $(ARGS)
else
	@$(MAKE) --no-print-directory -j2 --output-sync=target one-half other-half
endif

.PHONY: one-half other-half
one-half:
	@$(PYTEST) $(ONE_HALF)
other-half:
	@$(PYTEST) $(OTHER_HALF)

.PHONY: test-e2e
test-e2e: ## The whole platform on the small second problem
	@$(PYTEST) $(or $(ARGS),tests/e2e)

.PHONY: protos
protos: ## Generates services/contracts from protos/; commit what changes
	@find services/contracts -name '*_pb2*' -delete
	@$(PROTOC) --python_out=. --pyi_out=. --grpc_python_out=.

# Into a folder of its own, so that a check changes nothing.
.PHONY: contracts
contracts:
	@fresh=$$(mktemp -d); trap 'rm -rf "$$fresh"' EXIT; \
	$(PROTOC) --python_out=$$fresh --pyi_out=$$fresh --grpc_python_out=$$fresh; \
	diff -rq -x __init__.py -x __pycache__ $$fresh/services/contracts services/contracts \
	    || { echo "services/contracts is not what protos/ say: run \`make protos\` and commit"; exit 1; }

.PHONY: lock
lock: ## Pins every dependency with hashes: requirements.lock and deploy/requirements/
	@test -x .cache/uv/bin/uv || { python3 -m venv .cache/uv && .cache/uv/bin/pip install --quiet uv==$(UV_VERSION); }
	@compile() { .cache/uv/bin/uv pip compile pyproject.toml --quiet --generate-hashes --python-version 3.11 \
	    --universal --no-emit-index-url --no-emit-find-links --custom-compile-command 'make lock' "$$@"; }; \
	compile --all-extras --group dev -o requirements.lock; \
	for service in $(SERVICES); do \
	    compile --no-annotate --extra $$service -c requirements.lock -o deploy/requirements/$$service.lock; \
	done
