# Each target makes its own virtual environment and installs what it needs; nothing has to be set up before.
#
#   make run           the demo cameras, or CONFIG=my-cameras.yaml
#   make test          all tests; those whose peers this machine lacks are skipped with the reason
#   make reliability   the fault tests alone, and docs/reliability.md of what they measure (long)
#   make check         format, lint, types, generated code
#   make bench         the benchmarks, as a table of ratios
#   make format        rewrite the code as `make check` wants it
#   make proto         generate the Nvision messages anew

PYTHON ?= python3
CONFIG ?= cameras.yaml
VENV := .venv
# Tests mostly wait for what they have hurt to come back: more of them at once than there are cores.
JOBS ?= 3
BIN := $(VENV)/bin

.PHONY: run test check reliability bench format proto clean
.DELETE_ON_ERROR:

run: $(VENV)/run
	@$(BIN)/nvision-hub start $(CONFIG)

test: $(VENV)/dev
	$(BIN)/pytest --numprocesses $(JOBS) $(ARGS)

reliability: $(VENV)/dev
	rm -f $(VENV)/reliability.jsonl
	NVISION_HUB_RELIABILITY=$(CURDIR)/$(VENV)/reliability.jsonl $(BIN)/pytest -m fault $(ARGS)
	$(BIN)/python -m tests.support.reliability $(VENV)/reliability.jsonl

check: $(VENV)/dev
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy

bench: $(VENV)/dev
	$(BIN)/python -m tests.bench $(ARGS)

format: $(VENV)/dev
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

proto: $(VENV)/dev
	$(BIN)/python -m tests.support.wire_code

$(VENV)/run: pyproject.toml
	@PYTHON=$(PYTHON) deploy/debian-packages run
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "nvision-hub needs Python 3.11 or newer; name one: make PYTHON=/path/to/python3.11")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[demo]'
	@touch $@

$(VENV)/dev: $(VENV)/run
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[demo,dev]'
	@touch $@

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache
