# Everything that is done here by hand; `make` alone tells what there is.
#
#   make run ARGS="--set mqtt.max_inflight=64"
#   make test TESTS="tests/session -k inflight"
#   make bench ARGS="--help"

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
JS := tests/sockets/js
TESTS ?=
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help run test bench growth soak torture lint format tools debian clean

help:
	@echo "make run     start the broker (MQTT on 127.0.0.1:1883, WebSocket on 8083, REST on 18083)"
	@echo "make test    linters, types and all tests; installs what they need"
	@echo "make bench   compare the broker's speed with others"
	@echo "make growth  how the cost of routing, retained messages and REST grows with their number"
	@echo "make soak    100,000 connects, disconnects, failures and takeovers: is anything left?"
	@echo "make torture kill the broker under load, again and again: is all that it acknowledged still there?"
	@echo "make lint    linters and types alone"
	@echo "make format  lay out the code"
	@echo "make clean   remove what was installed and generated"

run: $(VENV)/.installed
	$(BIN)/trio-broker $(ARGS)

test: tools lint
	$(BIN)/python -m pytest $(TESTS)

bench: $(VENV)/.installed-bench
	$(BIN)/python -m benchmarks $(ARGS)

growth: $(VENV)/.installed-bench
	$(BIN)/python -m benchmarks.growth $(ARGS)

soak: $(VENV)/.installed-dev
	$(BIN)/python -m benchmarks.soak $(ARGS)

torture: $(VENV)/.installed-dev
	$(BIN)/python -m torture $(ARGS)

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

tools: debian $(VENV)/.installed-dev $(JS)/node_modules/.installed

clean:
	rm -rf $(VENV) $(JS)/node_modules build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

# A second run is quick: each file below says that something is installed, as pyproject.toml (or package.json) is now.

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml | $(BIN)/python
	$(PIP) install --editable .
	@touch $@

$(VENV)/.installed-dev: pyproject.toml | $(BIN)/python
	$(PIP) install --editable '.[dev]'
	@touch $@ $(VENV)/.installed

$(VENV)/.installed-bench: pyproject.toml | $(BIN)/python
	$(PIP) install --editable '.[bench]'
	@touch $@ $(VENV)/.installed

# Debian's packages come first: npm is one of them.
$(JS)/node_modules/.installed: $(JS)/package.json | debian
	cd $(JS) && npm install --no-audit --no-fund --no-package-lock
	@touch $@

debian:
	@.ci/install-tools
