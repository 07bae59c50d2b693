# make demo: the embedded example, from raw OpenMX outputs to a report. make test, make lint: what CI runs.
PYTHON ?= python3
BIN := .venv/bin
INSTALL := $(BIN)/python -m pip install --disable-pip-version-check --quiet --constraint constraints.txt

.PHONY: demo test test-slow test-slurm lint clean

demo: .venv/installed
	$(BIN)/snakemake
	@$(BIN)/orbitrace status

test: .venv/tools
	OMP_NUM_THREADS=1 $(BIN)/pytest -n auto -m "not slow"

test-slow: .venv/tools
	$(BIN)/pytest -m "not cluster"

# The workflow on a SLURM that is started for it, some minutes per scenario: make test-slurm ONLY=everything runs one of them.
test-slurm: .venv/tools
	sh tests/cluster/install.sh
	OMP_NUM_THREADS=1 $(BIN)/pytest -m cluster -rs -k "$(ONLY)" tests/cluster

lint: .venv/tools
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/snakefmt --check Snakefile workflow
	$(BIN)/snakemake --lint

# Everything that the workflow made; the environment stays.
clean:
	rm -rf results logs .snakemake

# One call with the constraints: a range would fetch builds of torch that these machines cannot use.
.venv/installed: pyproject.toml constraints.txt
	@echo "Installing into .venv: once, some minutes"
	$(PYTHON) -m venv .venv || { echo "Python's module venv is missing: on Debian, apt install python3-venv"; exit 1; }
	$(INSTALL) --editable .
	@touch $@

.venv/tools: .venv/installed
	$(INSTALL) --editable '.[dev]'
	@$(INSTALL) --editable '.[mkl]' || echo "MKL cannot be had here: what needs it is not tested, and says so"
	@touch $@
