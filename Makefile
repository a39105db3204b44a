# make demo   see it work             make ci       what CI runs: lint, types, layers, test, proofs
# make test   run the tests           make install  put `vigie` on your PATH
#
# demo and test set up what they need from a fresh clone. Nothing uses sudo.

.DEFAULT_GOAL := help
.PHONY: help demo test proofs install ci lint types layers bench mutants lock clean system
MAKEFLAGS += --no-print-directory

VENV := .venv
STAMP := $(VENV)/vigie.stamp
BIN := $(VENV)/bin
PYTEST_ARGS ?=

help: ## show this list
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/make \1	\2/p' Makefile | expand -t 16

$(STAMP): pyproject.toml requirements-dev.lock tools/setup-venv
	@sh tools/setup-venv $(VENV)
	@touch $@

system: tools/system-packages
	@sh tools/setup-system

demo: $(STAMP) ## real jobs on this machine's own files, under 20 s
	@$(BIN)/vigie demo

test: $(STAMP) system ## the tests, on all cores
	@$(BIN)/python -m pytest -q -n auto -m "not proof" $(PYTEST_ARGS)

proofs: $(STAMP) system ## kills, crashes, power cuts and a simulation, for minutes
	@$(BIN)/python -m pytest -q -n auto -m proof $(PYTEST_ARGS)

install: $(STAMP) ## put vigie on your PATH
	@sh tools/install

lint: $(STAMP) ## ruff (rules and format), and the sizes of modules and functions
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python tools/check_sizes.py src

types: $(STAMP) ## mypy, strict
	$(BIN)/mypy

layers: $(STAMP) ## who may import whom
	$(BIN)/lint-imports

# Each part runs even if one before it failed; the tests' summary comes last.
ci: $(STAMP) ## all of lint, types, layers, test and proofs
	@$(MAKE) -k lint types layers test proofs

bench: $(STAMP) ## us and the peers side by side; writes benchmarks/RESULTS.md
	@sh tools/setup-system benchmarks/system-packages
	@$(BIN)/python benchmarks/run.py

mutants: $(STAMP) system ## break each promise on purpose, and see a test fail
	@$(BIN)/python tools/mutants.py

lock: ## write uv.lock and requirements-dev.lock anew (needs uv)
	uv lock --default-index https://pypi.org/simple
	uv export -q --frozen --extra dev --no-emit-project --no-annotate --no-header -o requirements-dev.lock

clean: ## remove all that make made
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage
	find src tests tools -name __pycache__ -type d -prune -exec rm -rf {} +
