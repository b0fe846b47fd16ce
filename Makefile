# The two commands: `make demo` and `make test`. Both set up the virtual environment first.
PYTHON ?= python3.11
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo test test-slow test-browser engines lint types bench clean

demo: $(STAMP)
	$(BIN)/harness demo

# One process per core, each with one thread: more threads than cores only wait for each other.
# Python then warns of text read in the locale's encoding, and a warning is an error.
TESTS := OMP_NUM_THREADS=1 PYTHONWARNDEFAULTENCODING=1 $(BIN)/pytest --numprocesses auto --dist loadfile

test: $(STAMP)
	$(TESTS) -m "not slow and not browser and not gpu"

test-slow: $(STAMP)
	$(TESTS) -m "slow and not browser and not gpu"

test-browser: $(STAMP)
	$(BIN)/pytest -m browser

# Slurm's and Ray's Python sides, Parquet and the hub's parser, which their tests need and nothing else does.
engines: $(STAMP)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,slurm,ray,parquet,hub]'

lint: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports

types: $(STAMP)
	$(BIN)/mypy

bench: $(STAMP)
	for script in benchmarks/*.py; do echo "== $$script"; $(BIN)/python $$script || exit 1; done

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) demo runs build dist
