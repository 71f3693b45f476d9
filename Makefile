# What a developer runs (GNU make):
#
#   make demo        play the ways to end a TLS connection, and draw them
#   make test        the tests; some of them: make test ARGS='-k half_close'
#   make test-all    the same, and the long ones: peers that have to be compiled, and
#                    rows that hardly differ from one that `make test` has
#   make lint        ruff, codespell, flake8-async, the import contract, the news, workflows
#   make types       mypy and pyright; the public names must be typed in full
#   make coverage    the tests again, every line and branch of them and the package
#   make peers       install the TLS implementations on PyPI that the tests talk to
#   make interop     talk to all of them, and make docs/interop.md, docs/boost_asio.md
#   make docs        the site: docs/ by Sphinx, into .venv/docs
#   make check       all of these but the demo
#   make mutants     is each small mistake noticed? make mutants ARGS=--help
#   make fuzz        a minute of bytes that nobody would think of: make fuzz ARGS=--help
#   make bench       the package beside other TLS implementations; make bench ARGS=--help
#   make clean       remove all that these have made
#
# Another Python: make test PYTHON=python3.13 VENV=.venv-3.13
#
# Everything is installed into $(VENV), which belongs to this file: it is made when
# missing, and made anew when PYTHON is of another version.

PYTHON ?= python3
VENV ?= .venv
ARGS ?=
# Of pytest: more than the usual two cores, for now and then a test waits for another program.
# A file's tests stay together: what it has captured once is enough.
WORKERS ?= 3

BIN := $(VENV)/bin
# What has come of each connection.
ROWS := $(VENV)/interop
# A worker that hangs ends, and the run with it: another one would not get its tests.
PYTEST := pytest -n $(WORKERS) --dist loadfile --max-worker-restart 0
# -qq: errors only. The pip that comes with a Python may be too old for --group.
PIP := $(BIN)/python -m pip -qq --disable-pip-version-check
# With --verifytypes it knows no other Python than that on the PATH.
PYRIGHT := PATH="$(abspath $(BIN)):$$PATH" pyright

VERSION := $(shell "$(PYTHON)" -c \
	'import sys; sys.stdout.write("%d.%d" % sys.version_info[:2])' 2>/dev/null)
IS_VENV := $(wildcard $(VENV)/pyvenv.cfg)

# Empty files that say what has been installed:
EMPTY := $(VENV)/.empty-$(VERSION)
DEMO := $(VENV)/.demo
BENCH := $(VENV)/.bench
TEST := $(VENV)/.test
CHECK := $(VENV)/.check
PEERS := $(VENV)/.peers
DOCS := $(VENV)/.docs
SOURCES := Makefile pyproject.toml trio_tlsdown/_version.py

# Each is a target: with `make --keep-going` all of them have their say.
LINTERS := ruff format codespell flake8-async imports news workflows
TYPE_CHECKERS := mypy pyright public-types

# The tests start hundreds of Pythons, of which each would compile the package again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help demo test test-all lint types coverage peers interop docs check bench clean
.PHONY: mutants fuzz
.PHONY: $(LINTERS) $(TYPE_CHECKERS)

help:
	@sed -n 's/^#   //p' Makefile

demo: $(DEMO)
	@$(BIN)/trio-tlsdown demo $(ARGS)

test: $(TEST)
	$(BIN)/python -m $(PYTEST) -m 'not long' $(ARGS)

test-all: $(TEST)
	$(BIN)/python -m $(PYTEST) $(ARGS)

lint: $(LINTERS)
types: $(TYPE_CHECKERS)
$(LINTERS) $(TYPE_CHECKERS): $(CHECK)

ruff:
	$(BIN)/ruff check

format:
	$(BIN)/ruff format --check

codespell:
	$(BIN)/codespell trio_tlsdown tests benchmarks harness docs newsfragments Makefile *.md *.toml

flake8-async:
	find trio_tlsdown -name '*.py' -exec $(BIN)/flake8-async \
		--startable-in-context-manager=serve_rogue,serve_tls_over_tcp {} +

imports:
	$(BIN)/lint-imports --no-cache --no-logo

news:
	$(BIN)/towncrier build --draft >/dev/null

workflows:
	$(BIN)/zizmor --quiet --offline --no-progress .github

mypy:
	$(BIN)/mypy

pyright:
	$(PYRIGHT)

public-types:
	$(PYRIGHT) --verifytypes trio_tlsdown --ignoreexternal

coverage: $(TEST)
	$(BIN)/coverage erase
	$(BIN)/coverage run -m $(PYTEST) $(ARGS)
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

peers: $(PEERS)

interop: $(PEERS)
	rm -rf $(ROWS)
	TLSDOWN_REQUIRE_PEERS=1 TLSDOWN_INTEROP_ROWS=$(ROWS) \
		$(BIN)/python -m $(PYTEST) tests/interop $(ARGS)
	$(BIN)/python -m tests.interop.table $(ROWS)
	$(BIN)/python -m tests.interop.boost_page $(ROWS)

docs: $(DOCS)
	$(BIN)/sphinx-build -nWq --keep-going docs $(VENV)/docs
	@echo 'The site: $(VENV)/docs/index.html'

mutants: $(TEST)
	@$(PIP) install --group mutants
	$(BIN)/python .ci/mutants $(ARGS)

fuzz: $(TEST)
	@$(PIP) install --group fuzz
	$(BIN)/python .ci/fuzz $(ARGS)

check: lint types coverage docs

bench: $(BENCH)
	$(BIN)/python -m benchmarks $(ARGS)

clean:
	rm -rf $(if $(IS_VENV),"$(VENV)") .venv-* .coverage* .*_cache .hypothesis build dist htmlcov
	find . -name __pycache__ -prune -exec rm -rf {} +

$(EMPTY):
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo 'trio_tlsdown needs Python 3.11 or newer:' \
			'$(PYTHON) is $(or $(VERSION),not there).'; \
		echo 'Name another one: make $(MAKECMDGOALS) PYTHON=python3.12'; \
		exit 1; } >&2
	@echo 'Setting up $(VENV) with Python $(VERSION) ...'
	@"$(PYTHON)" -m venv $(if $(IS_VENV),--clear) $(VENV)
	@$(PIP) install --upgrade 'pip>=25.1'
	@touch $@

$(DEMO): $(EMPTY) $(SOURCES)
	@$(PIP) install --editable '.[cli]'
	@touch $@

$(BENCH): $(EMPTY) $(SOURCES)
	@$(PIP) install --editable . --group bench
	@touch $@

# What the tests need is more than the demo needs.
$(TEST): $(EMPTY) $(SOURCES)
	@$(PIP) install --editable '.[cli,httpx,testing]' --group test
	@touch $(DEMO) $@

$(PEERS): $(TEST)
	@$(PIP) install --group peers
	@$(PIP) download --no-binary=:all: --no-deps --dest $(VENV)/sources \
		"$$($(BIN)/python -m pip freeze | grep ^httpcore==)"
	@touch $@

$(DOCS): $(TEST)
	@$(PIP) install --group docs
	@touch $@

$(CHECK): $(TEST)
	@$(PIP) install --group lint --group type
	@touch $@
