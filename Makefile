# Everything on a fresh machine with make and Python >= 3.11:
#   make scratch    train the small CNN (ARGS="--epochs 2" passes flags on)
#   make finetune   fine-tune a frozen VGG16 (ARGS as above)
#   make serve      a page that reads what you draw; trains first if nothing is trained
#   make test       lint, types, tests
#   make docs       these pages as HTML: docs/_build/index.html, read without a network
#   make soak       hundreds of kills, thousands of damaged checkpoints: docs/reliability.md
#   make bench      how fast this machine is, against peers; make bench-peers first
#   make bench-peers   PyTorch and TensorFlow in environments of their own, for benchmarks
#   make bench-tpu     the TPU's compiler in an environment of its own; needs no TPU
#   make lock       pin the newest versions the ranges allow, with hashes

PYTHON ?= python3
VENV ?= .venv
ARGS ?=
BIN := $(VENV)/bin

.PHONY: scratch finetune serve docs test types tests soak bench bench-peers bench-tpu format lock clean

scratch: $(VENV)/.installed
	$(BIN)/python -m experiments.scratch $(ARGS)

finetune: $(VENV)/.installed
	$(BIN)/python -m experiments.finetune $(ARGS)

serve: $(VENV)/.installed
	$(BIN)/python -m experiments.serve $(ARGS)

test: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-cache
	$(MAKE) --no-print-directory -j2 types tests

# Beside the tests: pyright takes half a minute on one core.
types:
	$(BIN)/pyright

tests:
	$(BIN)/pytest $(ARGS)

# A warning is an error: a link that leads nowhere, a name without a docstring.
docs: $(VENV)/.installed-test
	$(BIN)/sphinx-build -b html -W --keep-going -q docs docs/_build
	@echo docs/_build/index.html

soak: $(VENV)/.installed-test
	$(BIN)/pytest -m soak -n 0 -s $(ARGS)

bench: $(VENV)/.installed
	$(BIN)/python -m benchmarks $(ARGS)

format: $(VENV)/.installed-test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Versions of the results in benchmarks/results/; TensorFlow's holds Keras and JAX for it.
bench-peers:
	$(PYTHON) -m venv .venv-torch && .venv-torch/bin/pip install -q torch==2.13.0 numpy fastapi uvicorn pillow
	$(PYTHON) -m venv .venv-tensorflow && \
	  .venv-tensorflow/bin/pip install -q tensorflow-cpu==2.21.0 keras==3.15.1 jax

bench-tpu:
	$(PYTHON) -m venv .venv-tpu && .venv-tpu/bin/pip install -q jax[tpu]==0.10.2 -e .

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
  --no-header
lock:
	$(PYTHON) -m venv .venv-lock && .venv-lock/bin/pip install -q uv
	printf 'hatchling\neditables\n' | .venv-lock/bin/uv $(LOCK) --upgrade --extra serve -o constraints.txt
	printf 'hatchling\neditables\n' | .venv-lock/bin/uv $(LOCK) --upgrade --extra test \
	  -c constraints.txt -o constraints-test.txt

clean:
	rm -rf $(VENV) .venv-lock .venv-torch .venv-tensorflow .venv-tpu .pytest_cache .ruff_cache .hypothesis docs/_build
