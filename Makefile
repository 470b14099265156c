# Coursewire: `make` alone prints what there is. Every target sets up what it needs, from nothing.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
# Processes for pytest; each has its own database and broker. `make test JOBS=0` runs in one process. Three keep two
# cores busy: a third of the tests' time is waiting.
JOBS   ?= 3
# Further words for pytest: make unit ARGS="-k signature -x"
ARGS   ?=
# The soak of `make chaos`; without SEED it draws one and says which.
EVENTS  ?= 50000
KILLS   ?= 100
MINUTES ?= 10

# The set-up is finished when this file exists; its name holds the sum of all that the set-up depends on,
# so a changed lock, another branch or a moved folder sets up again.
STAMP := $(VENV)/.ready-$(shell { cat requirements-dev.lock pyproject.toml 2>/dev/null; pwd; } | cksum | tr -cd '0-9')
# While this file exists a set-up is running (it holds the process number) or was interrupted.
BUSY  := $(VENV)/.unfinished

# Settings of the machine's pip that would install elsewhere, or something else than the lock says.
export PIP_USER := 0
export PIP_DISABLE_PIP_VERSION_CHECK := 1
unexport PIP_TARGET PIP_PREFIX PIP_ROOT PIP_PYTHON PIP_CONSTRAINT PIP_REQUIREMENT PIP_EDITABLE
unexport PIP_NO_DEPS PIP_DRY_RUN PIP_REQUIRE_HASHES PIP_NO_BINARY PIP_IGNORE_INSTALLED PIP_QUIET PIP_VERBOSE
# Under it each of the hundreds of processes that tests start compiles every module anew.
unexport PYTHONDONTWRITEBYTECODE

PYTEST := $(BIN)/python -m pytest

.DEFAULT_GOAL := help
.PHONY: help demo up test unit contract db faults chaos outage e2e bench coverage check lint fmt setup lock clean

##@ See it

demo: $(STAMP) ## The whole story on this machine: sandbox LMS and CRM (ONCE=1: run it once and end)
	@$(BIN)/coursewire demo $(if $(filter-out 0 no,$(ONCE)),--once)

up: $(STAMP) ## All roles with your coursewire.yaml; Ctrl-C ends them
	@$(BIN)/coursewire up

##@ Prove it

test: lint ## Lint, types, import rules, then every test
	@echo "== tests (pytest, processes: $(JOBS))"
	@# In the order that tests/conftest.py makes: the few long tests of real processes among the many short ones.
	@$(PYTEST) -n $(JOBS) --dist loadfile --no-loadscope-reorder $(ARGS)

check: lint unit ## What to run before every commit: lint and the unit tests

unit: $(STAMP) ## Pure functions and project files; seconds
	@$(PYTEST) tests/unit $(ARGS)

contract: $(STAMP) ## Every connector against the shared contract
	@$(PYTEST) tests/contract $(ARGS)

db: $(STAMP) ## Against a real Postgres, started from a wheel
	@$(PYTEST) tests/db $(ARGS)

faults: $(STAMP) ## Kill, cut and flush while events flow
	@$(PYTEST) tests/faults $(ARGS)

chaos: $(STAMP) ## The soak: kills and faults by the dice, then every promise judged (EVENTS, KILLS, MINUTES, SEED, JSON)
	@$(BIN)/python -m tests.faults.chaos --events $(EVENTS) --kills $(KILLS) --minutes $(MINUTES) \
		$(if $(SEED),--seed $(SEED)) $(if $(JSON),--json $(JSON))

outage: $(STAMP) ## The CRM away for 90 s in three flavours, nothing hurried, every promise judged (ARGS)
	@$(BIN)/python -m tests.faults.outage $(ARGS)

e2e: $(STAMP) ## The real processes, from webhook to CRM
	@$(PYTEST) tests/e2e $(ARGS)

bench: $(STAMP) ## What this machine can do, beside its limits: an hour (QUICK=1, ROWS=accept,live)
	@$(BIN)/coursewire bench $(if $(ROWS),--only $(ROWS)) $(if $(filter-out 0 no,$(QUICK)),--quick) $(ARGS)

coverage: $(STAMP) ## Every test once more, with the lines nobody reached
	@$(PYTEST) -n $(JOBS) --dist loadfile --cov --cov-report=term-missing $(ARGS)

##@ Change it

lint: $(STAMP) ## ruff check, ruff format --check, mypy, import rules
	@echo "== lint (ruff)"
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --check --quiet . || { echo "Not formatted as agreed: run 'make fmt'."; exit 1; }
	@echo "== types (mypy)"
	@$(BIN)/mypy
	@echo "== imports (import-linter)"
	@$(BIN)/lint-imports --no-logo >$(VENV)/imports.txt 2>&1 || { cat $(VENV)/imports.txt; exit 1; }
	@tail -n 1 $(VENV)/imports.txt

fmt: $(STAMP) ## Format, and fix what ruff can fix
	@$(BIN)/ruff check --fix-only --quiet .
	@$(BIN)/ruff format .

lock: $(STAMP) ## Write both lock files anew from pyproject.toml (UPGRADE=1: to the newest versions)
	@$(UV_LOCK) pyproject.toml -o requirements.lock
	@$(UV_LOCK) --extra dev -c requirements.lock pyproject.toml -o requirements-dev.lock
	@echo "Written: requirements.lock, requirements-dev.lock"

# For every platform and each Python from 3.11 on; hashes of all files, no address of an index.
UV_LOCK = $(BIN)/uv pip compile --quiet --universal --generate-hashes --python-version 3.11 \
	--no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" \
	$(if $(UPGRADE),--upgrade)

##@ Keep house

setup: $(STAMP) ## Only the set-up: .venv with the locked packages (every target does it by itself)

clean: ## Remove .venv and every cache; never data (.coursewire)
	@rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage build dist
	@find integration mappings tasks scripts tests -type d -name __pycache__ -prune -exec rm -rf {} +
	@echo "Removed: $(VENV) and the caches"

help: ## This page
	@awk 'BEGIN { FS = ":.*## "; print "usage: make TARGET" } \
		/^##@/ { printf "\n%s\n", substr($$0, 5) } \
		/^[a-z0-9-]+:.*## / { printf "  %-10s %s\n", $$1, $$2 }' Makefile

# The set-up. A .venv left half-built by an interrupted run is built anew; the stamp is written last.

$(BIN)/python:
	@command -v $(PYTHON) >/dev/null 2>&1 || \
		{ echo "Coursewire needs Python 3.11 or newer, and there is no '$(PYTHON)' here: make PYTHON=/path/to/python3"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Coursewire needs Python 3.11 or newer; '$(PYTHON)' is `$(PYTHON) -V 2>&1`: make PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || \
		{ echo "'$(PYTHON)' has no venv or ensurepip; on Debian and Ubuntu: apt install python3-venv"; exit 1; }
	@echo "== set-up: $(VENV) with `$(PYTHON) -V 2>&1`"
	@$(PYTHON) -m venv --clear $(VENV)

$(STAMP): $(BIN)/python
	@if [ -s $(BUSY) ] && kill -0 "`cat $(BUSY)`" 2>/dev/null; then \
		echo "Another set-up is running (process `cat $(BUSY)`); wait for it, or 'make clean'."; exit 1; fi
	@if [ -e $(BUSY) ] || ! $(FIT); then \
		echo "== set-up: $(VENV) was interrupted, moved or made by another Python; starting anew"; \
		$(PYTHON) -m venv --clear $(VENV); fi
	@echo $$PPID >$(BUSY)
	@echo "== set-up: installing requirements-dev.lock (a minute or two the first time)"
	@$(BIN)/python -m pip install -qq --require-hashes -r requirements-dev.lock
	@$(BIN)/python -m pip install -qq --no-deps --no-build-isolation -e .
	@rm -f $(VENV)/.ready-* $(BUSY) && : >$@

# A .venv that can be used: new enough, with pip, and made at this place (scripts in it hold its path).
FIT = { $(BIN)/python -c 'import sys, pip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && \
	grep -qF "$(CURDIR)/$(BIN)/python" $(BIN)/pip; }
