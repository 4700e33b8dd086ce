# make shell   a shell on a tutorial database (mydata.fs)
# make test    lint, types, import contracts, tests
# make bench   the claims about speed, each beside its peer in one run;  make bench-large  memory at ten million objects
# make differential   the engine against its twin and ZODB: a million records, every cut, 20,000 flips (about half an hour)
# make campaign   kills, failing calls, full disks, signals, power loss, damage, payloads, live reads: whole (make test: reduced)
# make asan    the same, reduced, with the native engine built with AddressSanitizer
# make docs    regenerate docs/cli.md and docs/exit-codes.md;  make completions  regenerate completions/
# PYTHON=...   the interpreter to use (3.11 or newer);  DATABASE=...  another database for `make shell`

SHELL := /bin/sh
VENV ?= .venv
DATABASE ?= mydata.fs
WORKERS ?= 2
BIN := $(VENV)/bin
TRACER := $(if $(filter Linux,$(shell uname)),$(VENV)/.strace)
# The first of these that is new enough; `python3` first, so that a chosen environment is respected.
PYTHON ?= $(shell for python in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && echo $$python && break; done)

.PHONY: shell test lint types imports unit differential campaign asan bench bench-large docs completions clean

shell: $(VENV)/.shell
	@if [ -t 0 ]; then \
		ZODBSH=$(BIN)/zodbsh examples/tutorial.sh $(DATABASE) create && \
		echo 'Try: root.accounts["account-1"].deposit(5), then .diff and .commit; .help lists the rest.' && \
		exec $(BIN)/zodbsh shell $(DATABASE) -p examples -m account; \
	else \
		ZODBSH=$(BIN)/zodbsh examples/tutorial.sh $(DATABASE); \
	fi

test: lint types imports unit

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.dev
	$(BIN)/mypy

imports: $(VENV)/.dev
	$(BIN)/lint-imports

unit: $(VENV)/.dev $(TRACER)
	$(BIN)/python -m pytest -q -n $(WORKERS)

differential: $(VENV)/.dev
	ZODBSH_CAMPAIGN=1 $(BIN)/python -m pytest -q -s tests/engine

campaign: $(VENV)/.dev $(TRACER)
	ZODBSH_CAMPAIGN=1 $(BIN)/python -m pytest -q -n $(WORKERS) tests/campaigns

# Linux only, and only where it is missing: the system's own word about which calls a program makes.
$(VENV)/.strace: | $(VENV)/bin/python
	@command -v strace >/dev/null || { test "$$(id -u)" = 0 && command -v apt-get >/dev/null && \
		{ apt-get install -qq -y strace >/dev/null 2>&1 || { apt-get update -qq && apt-get install -qq -y strace; } >/dev/null 2>&1; }; } || \
		echo 'strace is missing: its tests are skipped, or fail where CI is set' >&2
	@touch $@

# Built in a copy, so that the engine in use stays what it is. Python itself leaks by design.
asan: $(VENV)/.dev
	rm -rf build/asan && mkdir -p build/asan
	cp -R setup.py pyproject.toml README.md LICENSE zodbsh tests build/asan/
	rm -f build/asan/zodbsh/engine/*.so
	cd build/asan && ZODBSH_ASAN=1 $(abspath $(BIN))/python -m pip install --quiet --disable-pip-version-check \
		--no-deps --target installed .
	cd build/asan && rm -rf zodbsh && LD_PRELOAD=$$($${CC:-cc} -print-file-name=libasan.so) PYTHONMALLOC=malloc \
		ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1 PYTHONPATH=installed \
		$(abspath $(BIN))/python -m pytest -q -s -p no:cacheprovider tests/engine

bench: $(VENV)/.dev
	$(BIN)/python -m pip install --quiet --disable-pip-version-check ptpython zodbverify
	@failed=0; for script in benchmarks/bench_*.py; do $(BIN)/python $$script || failed=1; done; exit $$failed

# The bound on memory, with ten million objects (a file of 5 GB).
bench-large: $(VENV)/.dev
	$(BIN)/python benchmarks/bench_engine.py --objects 10000000 --memory-only

docs: $(VENV)/.dev
	$(BIN)/python docs/generate.py docs

completions: $(VENV)/.dev
	$(BIN)/python docs/generate.py completions

# The marker is newer than what it is made from: what pyproject.toml asks for is installed, the native engine is built.
NATIVE := setup.py $(wildcard zodbsh/engine/*.pyx zodbsh/engine/*.pxd)

$(VENV)/.shell: pyproject.toml $(NATIVE) | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e .
	@touch $@

$(VENV)/.dev: pyproject.toml $(NATIVE) | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@ $(VENV)/.shell

$(VENV)/bin/python:
	@test -n "$(PYTHON)" || { echo 'zodbsh needs Python 3.11 or newer; name one with PYTHON=...' >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

clean:
	rm -rf $(VENV) build *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
