# Everything runs in .venv, which is made when it is missing or out of date. Needed: Python 3.11 or later with pip.
PYTHON ?= python3
BIN := .venv/bin

.DEFAULT_GOAL := help
.PHONY: help venv lint test demo bench bench-compare bench-keep docs clean

help: ## list what there is to make
	@sed -nE 's/^([a-z-]+):.*## (.*)/make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

venv: .venv/installed ## make .venv and install everything into it; PYTHON=python3.12 chooses an interpreter

.venv/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or later is needed; name one: make venv PYTHON=...") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,ray]'
	touch $@

lint: venv ## check style, types and which module imports which
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy fer_augment plugins
	$(BIN)/lint-imports --no-logo

test: lint ## lint, then all tests; those on real data need FER2013=FOLDER
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist loadfile --benchmark-disable

demo: venv ## compare three recipes on drawn faces, in about a minute
	$(BIN)/fer-augment demo

bench: venv ## measure ours against what one would pick instead, in some ten minutes; FER2013=FOLDER for real faces
	mkdir -p benchmarks/results
	OMP_NUM_THREADS=1 $(BIN)/pytest -o python_files='bench_*.py' --benchmark-only --benchmark-quiet \
		--benchmark-timer=time.process_time --benchmark-json=benchmarks/results/latest.json benchmarks
	$(BIN)/python -m benchmarks table

bench-compare: venv ## say which ratios of the last bench are worse than those in benchmarks/baseline.json
	$(BIN)/python -m benchmarks compare

bench-keep: venv ## keep the ratios of the last bench as the baseline, and write docs/performance.md
	$(BIN)/python -m benchmarks keep

docs: venv ## write docs/strategies.md, the catalogue of strategies, and its pictures again
	$(BIN)/python -m fer_augment.catalogue_page > docs/strategies.md
	OMP_NUM_THREADS=1 $(BIN)/python -m fer_augment.catalogue_pictures docs/pictures

clean: ## remove .venv and all caches
	rm -rf .venv build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis .benchmarks
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
