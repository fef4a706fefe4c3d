# Shadowrig. Needs python3 (3.10 to 3.12) and make; everything else goes into .venv.
#
#   make demo      the whole product on a synthetic drive, about five minutes the first time
#   make test      all tests          make lint      style, types, import layers
#   make faults    every fault and the long sweeps, under an hour
#   make bench     measurements       make clean     removes .venv and what was generated

SUITABLE := import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))
PYTHON ?= $(shell for p in python3 python3.12 python3.11 python3.10; do \
    $$p -c '$(SUITABLE)' 2>/dev/null && { echo $$p; break; }; done)
BIN := .venv/bin
STAMP := .venv/.installed
DEMO_OPTIONS ?=
FAULT_OPTIONS ?=

.DEFAULT_GOAL := help
.PHONY: help install demo test faults lint bench clean

help:
	@sed -n '1,7s/^# \{0,1\}//p' Makefile

install: $(STAMP)

demo: $(STAMP)
	$(BIN)/shadowrig demo $(DEMO_OPTIONS)

test: $(STAMP)
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile

# FAULT_OPTIONS='--sweep-share 0.1' runs a tenth of every sweep.
faults: $(STAMP)
	@$(BIN)/python -m pip install --disable-pip-version-check --quiet --constraint constraints.txt --only-binary atheris \
	    --editable '.[fuzz]' || echo "make: no wheel of atheris was found; the coverage-guided fuzzing will skip" >&2
	$(BIN)/python -m pytest --numprocesses 3 --dist worksteal -m "fault or sweep" --timeout 1800 --durations 15 $(FAULT_OPTIONS)

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# many_heads_bundle makes what others measure. A benchmark that fails holds up no other.
BENCHMARKS := $(filter-out tests/benchmarks/many_heads_bundle.py,$(sort $(wildcard tests/benchmarks/*.py)))

bench: $(STAMP)
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --constraint constraints.txt --editable '.[bench]'
	@failed=; for benchmark in $(BENCHMARKS); do \
	    echo "== $$benchmark"; PYTHONPATH=. $(BIN)/python $$benchmark || failed="$$failed $$benchmark"; \
	done; \
	test -z "$$failed" || { echo "make bench: these failed or are beyond their budgets:$$failed" >&2; exit 1; }

# A Debian without python3-venv has no ensurepip; if its pip is there, that one fills the environment.
$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "make: Python 3.10, 3.11 or 3.12 is needed; name one: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@if $(PYTHON) -c 'import ensurepip' 2>/dev/null; then $(PYTHON) -m venv .venv; \
	elif $(PYTHON) -m pip --version >/dev/null 2>&1; then \
	    $(PYTHON) -m venv --without-pip .venv && $(PYTHON) -m pip --python .venv/bin/python install --quiet pip setuptools; \
	else \
	    echo "make: $(PYTHON) can make no virtual environment: on Debian and Ubuntu run 'apt install python3-venv'" >&2; exit 1; \
	fi

$(STAMP): pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing Shadowrig into .venv (first time: a few minutes)"
	$(BIN)/python -m pip install --disable-pip-version-check --progress-bar on --constraint constraints.txt --editable '.[dev]'
	@touch $@

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .cache build dist *.egg-info
