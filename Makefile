# Every target does its own set-up: a machine with Python 3.11 or newer and make is enough.
# Another interpreter: make PYTHON=python3.12 demo
PYTHON ?= python3
WORKERS ?= 2

VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
BENCH := $(VENV)/.installed-bench

.DEFAULT_GOAL := help
.PHONY: help install bench-install demo demo-retrieve test check docs clean

help: ## Show the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' Makefile

install: $(INSTALLED) ## Create .venv with the extras offline and dev; quick when nothing changed

$(INSTALLED): pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || { \
	  echo "warmstart needs Python 3.11 or newer, and there is no $(PYTHON) here. Install one, or name it: make PYTHON=/path/to/python3.12 install" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "warmstart needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) -V 2>&1). Name a newer one: make PYTHON=python3.12 install" >&2; exit 1; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv $(VENV) || { \
	  echo "The virtual environment could not be made. On Debian and Ubuntu the module is a package: apt install python3-venv" >&2; exit 1; }
	@echo "Installing into $(VENV); the first time this takes some minutes …"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[offline,dev]'
	@touch $@

bench-install: $(BENCH) ## Also install the peers that benchmarks/ measure against

$(BENCH): $(INSTALLED)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[offline,dev,bench]'
	@touch $@

demo: install ## Adapt MiniLM to 1,000 labelled reviews and judge it by 1,000 others
	$(BIN)/warmstart adapt --strategy auto --data sample:reviews --drop-invalid --train-size 1000 --test-size 1000 \
	  --model sentence-transformers/all-MiniLM-L6-v2 --time-budget 300 --output-dir demo --overwrite
	@echo "Open $(CURDIR)/demo/report.html"

RETRIEVE := demo-retrieve
# The limit on latency is loose, so that other work on the machine does not turn the demo into a refusal.
demo-retrieve: install ## Recommend films of MovieLens-100k: train towers and a ranker, tune an index, publish, ask
	$(BIN)/warmstart contrast two-tower --interactions sample:movielens-ratings --items sample:movielens-items \
	  --time-budget 240 --output-dir $(RETRIEVE)/towers --overwrite
	$(BIN)/warmstart ranker --towers $(RETRIEVE)/towers --output-dir $(RETRIEVE)/ranker --time-budget 120 --overwrite
	$(BIN)/warmstart index tune --towers $(RETRIEVE)/towers --recall 0.95 --at 100 --p99-ms 50 \
	  --output-dir $(RETRIEVE)/index --overwrite
	$(BIN)/warmstart index publish --towers $(RETRIEVE)/towers --index $(RETRIEVE)/index --ranker $(RETRIEVE)/ranker \
	  --to $(RETRIEVE)/serve
	$(BIN)/warmstart recommend $(RETRIEVE)/serve --user 42
	$(BIN)/warmstart recommend $(RETRIEVE)/serve --history "Toy Story (1995),Aladdin (1992)" --where "Animation=1" --k 5
	@echo "Open $(CURDIR)/$(RETRIEVE)/towers/report.html, $(CURDIR)/$(RETRIEVE)/ranker/report.html, $(CURDIR)/$(RETRIEVE)/index/report.html and, of what serves, report.html in $(CURDIR)/$(RETRIEVE)/serve/versions"

# One thread per worker: more only take turns on the same cores. A file stays on one worker, with its fixtures.
test: install ## Run every test
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile

check: install ## Formatting, lint, types, the direction of imports, and whether docs/cli.md is up to date
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m warmstart.cli.reference docs/cli.md --check

docs: install ## Write docs/cli.md anew
	$(BIN)/python -m warmstart.cli.reference docs/cli.md

clean: ## Remove .venv, caches and the demo's result
	rm -rf $(VENV) demo demo.running demo-retrieve build dist src/*.egg-info
	rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find src tests examples benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
