# Every recipe that CI or the README names. `make help` lists them.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
GENERATOR := $(VENV)/generator
PROTOS := $(shell find protos/pawl -name '*.proto' | sort)
export PATH := $(CURDIR)/$(BIN):$(PATH)

.DEFAULT_GOAL := help
.PHONY: help install generator fmt lint types imports protos verify-protos tool-docs proto-baseline test test-unit test-db test-e2e test-faults test-kafka test-n8n check certs up demo bench clean lock compose-build compose-up compose-demo compose-down compose-clean sandbox-image

help: ## List the targets
	@awk -F':.*## ' '/^[a-z0-9-]+:.*## / {printf "  %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(VENV)/.installed: requirements/dev.txt pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "make: $(PYTHON) is missing: install Python 3.11 or newer, or name one: make PYTHON=/path/to/python3.11"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "make: $(PYTHON) is older than 3.11, or does not run; name another: make PYTHON=/path/to/python3.11"; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { echo "make: the venv module is missing (Debian: apt install python3-venv)"; exit 1; }
	@echo "Installing into $(VENV), about a minute …"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements/dev.txt || { echo "make: the Python package index cannot be reached, or lacks a package for this machine (see above)"; exit 1; }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable . || { echo "make: Pawl itself cannot be installed (see above); it needs hatchling from the Python package index"; exit 1; }
	@touch $@

# What generates clients wants other versions than Pawl: an environment of its own.
$(GENERATOR)/.installed: requirements/generator.txt $(VENV)/.installed
	@$(PYTHON) -m venv $(GENERATOR)
	@$(GENERATOR)/bin/python -m pip install --quiet --disable-pip-version-check -r requirements/generator.txt || { echo "make: the Python package index cannot be reached, or lacks a package for this machine (see above)"; exit 1; }
	@touch $@

generator: $(GENERATOR)/.installed ## Make .venv/generator with openapi-python-client, for tests of the OpenAPI document

install: $(VENV)/.installed ## Make .venv with the pawl command

fmt: install ## Format and fix what can be fixed
	ruff format . && ruff check --fix .

lint: install ## Ruff, buf lint
	ruff format --check . && ruff check . && buf lint protos

types: install ## mypy --strict
	mypy

imports: install ## Who may import whom
	lint-imports

protos: install ## Generate libs/pb from protos/
	rm -rf libs/pb/pawl && $(MAKE) --no-print-directory generate OUT=libs/pb

generate:
	@mkdir -p $(OUT)
	@python -m grpc_tools.protoc -Iprotos --python_out=$(OUT) --grpc_python_out=$(OUT) --mypy_out=quiet:$(OUT) --mypy_grpc_out=quiet:$(OUT) $(PROTOS)
	@find $(OUT)/pawl -name '*_pb2*' -exec sed -i -E 's/^from pawl\./from libs.pb.pawl./' {} +
	@find $(OUT)/pawl -type d -exec touch {}/__init__.py \;

verify-protos: install ## Generated code is fresh, nothing in the protos broke
	@rm -rf build/pb && $(MAKE) --no-print-directory generate OUT=build/pb
	diff -r -x __pycache__ build/pb/pawl libs/pb/pawl && buf breaking protos --against protos/baseline.binpb

tool-docs: install ## Write docs/tools-reference.md from the specs of the tools
	python -m services.executor.tools.reference > docs/tools-reference.md

proto-baseline: install ## Accept today's protos as the baseline for breaking changes
	buf build protos -o protos/baseline.binpb

test: install generator ## All tests
	pytest

test-unit: install ## Rules without I/O
	pytest tests/unit

test-db: install ## Stores against a real PostgreSQL
	pytest tests/store tests/rpc

test-e2e: install generator ## The whole stack as processes
	pytest tests/e2e

test-faults: install ## The whole stack while it is hurt, some minutes
	pytest tests/faults

test-kafka: install generator ## The whole stack as processes, its events on Kafka
	PAWL_BUS=kafka pytest tests/e2e tests/hostile tests/faults/test_crash_points.py

test-n8n: install ## The workflows of examples/n8n in a real n8n; installs 2 GB of it into build/n8n first
	@command -v npm >/dev/null || { echo "make: npm is missing (it comes with Node.js, 20.19 to 24)"; exit 1; }
	@mkdir -p build/n8n && cp tests/automation/package.json build/n8n/
	timeout 480 npm install --prefix build/n8n --omit=optional --no-audit --no-fund --loglevel=error || { echo "make: n8n cannot be installed (see above); where no built sqlite3 can be had, it needs g++, make and python3"; exit 1; }
	pytest -m n8n --session-timeout=480 tests/automation

check: lint types imports verify-protos test ## Everything that CI runs

certs: install ## Certificates for development, in deploy/certs: PAWL_TLS_DIR=deploy/certs pawl up
	python -m libs.rpc.certs deploy/certs

up: install ## Start Pawl in the foreground
	pawl up

demo: install ## Install, start, run a few tasks, show what happened, stop
	pawl demo

sandbox-image: install ## Build the image that code steps run in; made by itself where it is missing
	python -m services.executor.sandbox.make_image

compose-build: ## Build the image of all services
	deploy/compose.sh build

compose-up: ## Start everything in containers: PostgreSQL, Kafka, S3, every service
	deploy/compose.sh up

compose-demo: ## The demo, through the containers
	deploy/compose.sh demo

compose-down: ## Stop the containers, keep what was stored
	deploy/compose.sh down

compose-clean: ## Stop the containers and remove what was stored
	deploy/compose.sh clean

bench: install ## Measure; prints a table and one JSON line
	python -m bench

lock: ## Pin the requirements anew (needs uv)
	uv pip compile --quiet --no-header requirements/server.in -o requirements/server.txt
	uv pip compile --quiet --no-header requirements/runtime.in -o requirements/runtime.txt
	uv pip compile --quiet --no-header requirements/dev.in -o requirements/dev.txt
	uv pip compile --quiet --no-header requirements/generator.in -o requirements/generator.txt

clean: ## Remove what make made
	rm -rf $(VENV) build .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
