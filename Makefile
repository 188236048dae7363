# Everything a contributor runs. Needs make and a Python >= 3.11 with pip; the rest is fetched into .venv.
# `make help` lists the targets. `make PYTHON=/path/to/python3.12 ...` chooses the interpreter.

VENV ?= .venv
ARGS ?=

# The first interpreter that really runs (a pyenv shim may exist and fail), is new enough and can install packages.
usable := import sys, importlib.util as u; sys.exit(sys.version_info < (3, 11) or not any(map(u.find_spec, ("ensurepip", "pip", "virtualenv"))))
ifeq ($(origin PYTHON),undefined)
PYTHON := $(shell for p in python3.13 python3.12 python3.11 python3 python; do \
	if "$$p" -c '$(usable)' >/dev/null 2>&1; then echo "$$p"; break; fi; done)
endif

BIN := $(VENV)/bin
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check
# Two processes: most tests wait for servers and for programs they started. JOBS=0 runs all in one process.
JOBS ?= 2
PYTEST := $(BIN)/python -m pytest -n $(JOBS) --dist worksteal
REDIS62 := $(VENV)/redis62/redis-server
REDIS70 := /usr/bin/redis-server

.PHONY: help venv demo demo-r7kit test test-62 test-70 test-70-core test-cluster test-shards test-encrypted test-servers test-floors check audit mutants planted crash-points soak simulate faults-full bench bench-peers screenshots acceptance clean
.DEFAULT_GOAL := help

help:
	@echo "make demo          the order workflow on the bundled server, with a worker killed half-way"
	@echo "make demo-r7kit    a task flow on redflow's engine and on Temporal, with its record and stream as they change"
	@echo "make test          the whole suite on the bundled Valkey            (ARGS='-k name' is passed on to pytest)"
	@echo "make test-62       the same suite on Redis 6.2, the oldest supported"
	@echo "make test-70       the same suite on the system's Redis (Debian: 7.0; installed by apt if missing and root)"
	@echo "make test-servers  the suite on all three"
	@echo "make test-cluster  the engine's contract on a Redis Cluster of three masters"
	@echo "make test-shards   the engine's contract on a prefix of three shards"
	@echo "make test-encrypted  the engine's contract with encrypted payloads"
	@echo "make test-floors   the suite with the oldest dependency versions that pyproject.toml allows"
	@echo "make check         every check: ruff, mypy, typing allow-list, imports, Lua, then make test"
	@echo "make mutants       plants bugs one at a time and demands that a test fails    (ARGS='--only renew')"
	@echo "make planted       plants bugs that the chaos tests' checker must find, each under its invariant  (ARGS='--seed 7')"
	@echo "make crash-points  every Redis round trip of 12 scenarios, cut in three places by three faults; some 20 minutes"
	@echo "make simulate      seeds of the deterministic simulation, five minutes of them     (SEED=7 for one, MINUTES=60, ARGS=planted)"
	@echo "make soak          100,000 runs while everything is killed, frozen and cut off; up to 3 hours   (ARGS='--seed 7')"
	@echo "make faults-full   faults at the size of the goal: a log of a million keys, a million runs in line; half an hour"
	@echo "make bench         the benchmarks"
	@echo "make screenshots   the pictures of the dashboard in the docs, in a real Chromium"
	@echo "make acceptance    the measured limits, in full; half an hour  (ARGS=speed, contract or scale for a part)"
	@echo "make bench-peers   redflow beside other systems, each in an environment of its own (an hour; ARGS=--quick)"
	@echo "make audit         the dependencies against the database of known holes (asks the network)"
	@echo "make venv          the development environment in $(VENV)"
	@echo "make clean         removes the environment and caches"

# --- environments ----------------------------------------------------------------------------------------------
# Two stamps: the demo needs the product only, everything else the development tools too.

$(VENV)/.installed: pyproject.toml tools/make-venv.sh
	@test -n "$(PYTHON)" || { echo "No usable Python >= 3.11 with pip found; set PYTHON=/path/to/python." >&2; exit 1; }
	@echo "Creating $(VENV) with $(PYTHON) and installing redflow ..."
	@tools/make-venv.sh "$(PYTHON)" "$(VENV)"
	@$(PIP_INSTALL) -e '.[fast]'
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	@echo "Installing the development tools ..."
	@$(PIP_INSTALL) -e '.[dev,fast]'
	@touch $@

venv: $(VENV)/.installed-dev

# --- running ---------------------------------------------------------------------------------------------------

demo: $(VENV)/.installed
	@$(BIN)/python -m examples.orders.demo $(ARGS)

demo-r7kit: venv
	@$(BIN)/python -m examples.r7kit.demo $(ARGS)

bench: venv
	@$(BIN)/python -m benchmarks $(ARGS)

# The pictures of docs/how-to/dashboard.md, in Debian's Chromium.
screenshots: venv
	@tools/apt-install.sh chromium chromium
	@$(BIN)/python -m tests.dashboard.pictures docs/images/dashboard

acceptance: venv
	@$(BIN)/python -m benchmarks.acceptance $(or $(ARGS),all)

bench-peers: venv
	@$(BIN)/python -m benchmarks.peers $(ARGS)

# --- tests -----------------------------------------------------------------------------------------------------

# What talks to a server of the test's own; the rest (pure code, the command line on the embedded server, docs) would
# only say the same again.
ON_EACH_SERVER := tests/support tests/scripts tests/model tests/engines tests/faults tests/r7kit/records

test: venv
	REDFLOW_TEST_SERVER=bundled $(PYTEST) $(ARGS)

$(REDIS62): $(VENV)/.installed-dev tools/fetch_redis62.py
	@$(BIN)/python tools/fetch_redis62.py $@

test-62: venv $(REDIS62)
	REDFLOW_TEST_SERVER=redis62 $(PYTEST) -m "not planted and not any_server" $(ON_EACH_SERVER) $(ARGS)

test-70: venv
	@tools/apt-install.sh $(REDIS70) redis-server
	REDFLOW_TEST_SERVER=redis70 $(PYTEST) -m "not planted and not any_server" $(ON_EACH_SERVER) $(ARGS)

# What .ci/run has time for beside the newest and the oldest server: the scripts and the engine's contract.
test-70-core: venv
	@tools/apt-install.sh $(REDIS70) redis-server
	REDFLOW_TEST_SERVER=redis70 $(PYTEST) -m "not planted and not any_server" tests/scripts tests/engines/conformance $(ARGS)

# The shared server of these tests is a cluster of three then.
test-cluster: venv
	REDFLOW_TEST_CLUSTER=1 $(PYTEST) tests/engines/conformance $(ARGS)

test-shards: venv
	REDFLOW_TEST_SHARDS=3 $(PYTEST) tests/engines/conformance tests/faults $(ARGS)

# A key of 32 zero bytes. No lookup key, since tests look for keys of the server by their names.
TEST_CODEC := {"current":"test","keys":{"test":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="},"require_encrypted":true}
test-encrypted: venv
	REDFLOW_CODEC_KEYS='$(TEST_CODEC)' $(PYTEST) tests/engines/conformance $(ARGS)

test-servers:
	@$(MAKE) --no-print-directory test
	@$(MAKE) --no-print-directory test-62
	@$(MAKE) --no-print-directory test-70

$(VENV)-floors/.installed: pyproject.toml tools/make-venv.sh tools/floors.py $(VENV)/.installed-dev
	@tools/make-venv.sh "$(BIN)/python" "$(VENV)-floors"
	@$(BIN)/python tools/floors.py pyproject.toml > $(VENV)-floors/floors.txt
	@$(VENV)-floors/bin/python -m pip install --quiet --disable-pip-version-check -e '.[dev,fast]' \
		-c $(VENV)-floors/floors.txt
	@touch $@

test-floors: $(VENV)-floors/.installed
	REDFLOW_TEST_SERVER=bundled $(VENV)-floors/bin/python -m pytest -n $(JOBS) --dist worksteal $(ARGS)

# --- checks ----------------------------------------------------------------------------------------------------

check: venv
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/python tools/check_escapes.py
	$(BIN)/lint-imports --no-cache --no-logo
	$(BIN)/python tools/lint_lua.py $(if $(REDFLOW_LINT_STRICT),--strict)
	@$(MAKE) --no-print-directory test

mutants: venv
	$(BIN)/python tools/mutants.py $(ARGS)

# What redflow needs at run time, with all extras, against the database of known holes. Asks the network.
# A dependency that could not be looked up is a failure, too.
$(VENV)-audit/.installed: pyproject.toml tools/make-venv.sh $(VENV)/.installed-dev
	@tools/make-venv.sh "$(BIN)/python" "$(VENV)-audit"
	@$(VENV)-audit/bin/python -m pip install --quiet --disable-pip-version-check 'pip-audit>=2.7'
	@touch $@

audit: $(VENV)-audit/.installed
	$(BIN)/python tools/requirements.py pyproject.toml > $(VENV)-audit/requirements.txt
	$(VENV)-audit/bin/python -m pip_audit --requirement $(VENV)-audit/requirements.txt --progress-spinner off --strict $(ARGS)

# What happened, by seed: `make soak ARGS="--seed 7 --rounds 1"` plays one round again.
planted: venv
	$(if $(ARGS),,$(PYTEST) -m planted)
	$(BIN)/python -m tests.chaos planted $(ARGS)

crash-points: venv
	$(BIN)/python -m tests.chaos crash-points $(ARGS)

SEED ?=
MINUTES ?= 5
simulate: venv
	@$(BIN)/python -m tests.simulation $(if $(SEED),--seed $(SEED)) --minutes $(MINUTES) $(ARGS)

soak: venv
	$(BIN)/python -m tests.chaos soak $(or $(ARGS),--full)

# The tests that CI has in small, one at a time. What they must keep is in the tests; no figures are told.
faults-full: venv
	REDFLOW_TEST_FULL=1 REDFLOW_TEST_SERVER=bundled $(BIN)/python -m pytest tests/faults/test_crowds.py \
		tests/faults/test_versions.py tests/faults/test_server_refusals.py $(ARGS)

clean:
	rm -rf $(VENV) $(VENV)-floors $(VENV)-audit .bench-peers .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis build dist
