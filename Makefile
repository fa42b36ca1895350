# The two commands: `make run` and `make test`. Each makes the virtual environment first, when it is not up to date.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Two files at a time: most tests wait for servers, but some watch the clock and need a core to themselves.
TEST_PROCESSES ?= 2
# For each of the fuzzers, which run side by side.
FUZZ_SECONDS ?= 600
RUNTIME := $(VENV)/.runtime
DEVELOPMENT := $(VENV)/.development
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
# Install only files with a hash in the list, and nothing that is not in it; the list includes setuptools.
LOCKED := $(PIP) --require-hashes --no-deps --only-binary :all: -r
OURSELVES := $(PIP) --no-deps --no-build-isolation -e .

.DEFAULT_GOAL := help
.PHONY: oracles help run demo test test-tornado check bench bench-peers bench-streams browser chaos clean constraints docker-steps locks example-env fuzz mutants simulation

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 22

run: $(RUNTIME)  ## install, start everything, serve on port 8000; Ctrl-C stops it
	@exec $(BIN)/python run.py serve

demo: $(RUNTIME)  ## fill the server that runs with a community, and keep it moving; ARGS="--small --once"
	@exec $(BIN)/python run.py demo $(ARGS)

test test-tornado: export PYTHONDONTWRITEBYTECODE =  # the tests start hundreds of processes: each would compile everything anew
test: $(DEVELOPMENT)  ## run the tests; they start real servers of their own
	$(BIN)/pytest -n $(TEST_PROCESSES) --dist loadfile --no-loadscope-reorder

test-tornado: $(DEVELOPMENT)  ## run the tests of the API and of the streams over Tornado's own HTTP server
	HTTP_SERVER=tornado $(BIN)/pytest -n $(TEST_PROCESSES) --dist loadfile tests/api \
	  $(wildcard tests/integration/test_streams*.py) tests/integration/test_unread_sockets.py

check: $(DEVELOPMENT)  ## lint, check the types and the import rules, count Any
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m tools.count_any
	$(BIN)/hadolint Dockerfile

bench: $(DEVELOPMENT)  ## measure; each benchmark prints its figures
	@$(LOCKED) locks/bench.txt
	@set -e; for file in tests/benchmarks/bench_*.py; do echo "== $$file"; \
	  $(BIN)/python -m "$$(echo $${file%.py} | tr / .)"; done

bench-peers: $(DEVELOPMENT)  ## install what bench-streams compares with and browser drives
	@$(LOCKED) locks/bench.txt
	@mkdir -p .peers && cp tests/benchmarks/streams/peers/package.json .peers/
	@if command -v npm > /dev/null; then npm install --prefix .peers --no-audit --no-fund --loglevel=error; \
	  else echo "npm is not there: Node's server and client are left out."; fi
	@echo "With the system's own tools, where they are wanted (Debian): apt-get install nginx libnginx-mod-nchan chromium"

bench-streams: $(DEVELOPMENT)  ## measure the streams beside others' servers; ARGS="--short --check --write"
	$(BIN)/python -m tests.benchmarks.streams $(ARGS)

browser: $(DEVELOPMENT)  ## follow streams with real clients, also behind nginx, while gateways are killed
	$(BIN)/pytest tests/browser -m "slow or not slow"

chaos: $(DEVELOPMENT)  ## break things in a running system, in full, and whatever else takes long
	$(BIN)/pytest tests/chaos -m "slow or not slow"
	$(BIN)/pytest -m slow --ignore=tests/chaos

fuzz: $(DEVELOPMENT)  ## look for ten minutes for what the parsers of outside data do not expect; FUZZ_SECONDS=60 FUZZ_SEED=7
	FUZZ_SECONDS=$(FUZZ_SECONDS) $(BIN)/pytest tests/fuzz -rA -m "slow or not slow" \
	  -n $(shell cat tests/fuzz/test_*.py | grep -cE '^(async )?def test_') \
	  --async-test-timeout=$$(($(FUZZ_SECONDS) + 540)) -o faulthandler_timeout=$$(($(FUZZ_SECONDS) + 600))

mutants: $(DEVELOPMENT)  ## change the pure modules in one place at a time: a test must notice; prints the score
	rm -rf mutants
	$(BIN)/mutmut run --max-children $(TEST_PROCESSES) > mutants.log || { tail -40 mutants.log; exit 1; }
	@$(BIN)/python -m tools.mutation_score

simulation: $(DEVELOPMENT)  ## try the board of skill on twenty worlds with cheats of every kind, and twenty without skill
	$(BIN)/pytest tests/simulation -s -m slow --async-test-timeout=3600 -o faulthandler_timeout=3600

oracles: $(DEVELOPMENT)  ## compare with independent implementations, which are installed apart, in build/oracles
	$(PIP) --require-hashes --no-deps --only-binary :all: --upgrade --target build/oracles -r locks/oracles.txt
	PYTHONPATH=build/oracles $(BIN)/pytest tests/oracles

docker-steps: $(DEVELOPMENT)  ## run the Dockerfile's steps without Docker, in an empty directory
	$(BIN)/python -m tests.support.docker_steps

example-env: $(DEVELOPMENT)  ## write config/example.env from the declared settings
	$(BIN)/python -m config._example

constraints:  ## pin what an empty environment resolves setup.py to
	@set -e; folder=$$(mktemp -d); trap 'rm -rf "$$folder"' EXIT; \
	  $(PYTHON) -m venv "$$folder"; "$$folder/bin/pip" install --quiet -e '.[dev,bench]'; \
	  head -2 constraints.txt > "$$folder/pinned"; \
	  "$$folder/bin/pip" freeze --exclude-editable >> "$$folder/pinned"; mv "$$folder/pinned" constraints.txt
	@$(MAKE) --no-print-directory locks

locks:  ## write locks/: the hashes of every file of what constraints.txt pins, for all Pythons and platforms
	@set -e; folder=$$(mktemp -d); trap 'rm -rf "$$folder"' EXIT; \
	  $(PYTHON) -m venv "$$folder"; "$$folder/bin/pip" install --quiet uv; \
	  echo 'setuptools>=77' > "$$folder/build.in"; \
	  lock() { name=$$1; shift; "$$folder/bin/uv" pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	    --no-annotate --no-header -c constraints.txt -o "locks/$$name.txt" "$$@"; }; \
	  lock runtime setup.py "$$folder/build.in"; \
	  lock extras setup.py "$$folder/build.in" --extra kafka --extra models; \
	  lock dev setup.py "$$folder/build.in" --extra dev; \
	  lock bench setup.py "$$folder/build.in" --extra dev --extra bench; \
	  lock oracles tests/oracles/requirements.in --override tests/oracles/overrides.txt

clean:  ## remove what was built and cached; data stays in .data
	rm -rf $(VENV) build mutants mutants.log *.egg-info .mypy_cache .ruff_cache .hypothesis .import_linter_cache .pytest_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Python 3.11 or newer is needed, and '$(PYTHON)' is $$($(PYTHON) --version 2>&1 || echo missing)."; \
	  echo "Give another one: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(RUNTIME): setup.py locks/runtime.txt | $(VENV)/bin/python
	@echo "Installing into $(VENV); this takes a minute, once."
	@$(LOCKED) locks/runtime.txt
	@$(OURSELVES)
	@touch $@

$(DEVELOPMENT): setup.py locks/dev.txt | $(VENV)/bin/python
	@echo "Installing into $(VENV), with the tools; this takes a minute, once."
	@$(LOCKED) locks/dev.txt
	@$(OURSELVES)
	@touch $(RUNTIME) $@
