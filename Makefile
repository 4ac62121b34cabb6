# Everything on a fresh machine with make and Python >= 3.11:
#   make scratch    train the small CNN (ARGS="--epochs 2" passes flags on)
#   make test       lint, types, tests
#   make lock       pin the newest versions the ranges allow, with hashes

PYTHON ?= python3
VENV ?= .venv
ARGS ?=
BIN := $(VENV)/bin

.PHONY: scratch test format lock clean

scratch: $(VENV)/.installed
	$(BIN)/python -m experiments.scratch $(ARGS)

test: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/pytest $(ARGS)

format: $(VENV)/.installed-test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(VENV)/.installed: constraints.txt pyproject.toml | $(VENV)
	$(BIN)/python -m pip install -q --require-hashes -r constraints.txt
	$(BIN)/python -m pip install -q --no-deps --no-build-isolation -e .
	touch $@

# Holds all of constraints.txt, so it serves for both.
$(VENV)/.installed-test: constraints-test.txt pyproject.toml | $(VENV)
	$(BIN)/python -m pip install -q --require-hashes -r constraints-test.txt
	$(BIN)/python -m pip install -q --no-deps --no-build-isolation -e .
	touch $@ $(VENV)/.installed

$(VENV):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "error: $(PYTHON): is older than Python 3.11. Fix: make PYTHON=python3.12"; exit 2; }
	$(PYTHON) -m venv $(VENV)

# One resolution for every system and Python from 3.11 on; hatchling builds the editable install.
LOCK := pip compile pyproject.toml - --universal --generate-hashes --no-annotate --quiet \
  --no-header --no-emit-index-url --no-emit-find-links
lock:
	$(PYTHON) -m venv .venv-lock && .venv-lock/bin/pip install -q uv
	printf 'hatchling\neditables\n' | .venv-lock/bin/uv $(LOCK) --upgrade -o constraints.txt
	printf 'hatchling\neditables\n' | .venv-lock/bin/uv $(LOCK) --upgrade --extra test \
	  -c constraints.txt -o constraints-test.txt

clean:
	rm -rf $(VENV) .venv-lock .pytest_cache .ruff_cache .hypothesis
