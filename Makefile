# Everything runs in .venv, which is made when it is missing or out of date. Needed: Python 3.11 or later with pip.
PYTHON ?= python3
BIN := .venv/bin
SEEDS ?= 3
ON_PAGE = $(if $(PAGE),--page '$(PAGE)')

.DEFAULT_GOAL := help
.PHONY: help venv lint test demo bench bench-fer2013 bench-precision bench-compare bench-keep docs clean

help: ## list what there is to make
	@sed -nE 's/^([a-z0-9-]+):.*## (.*)/make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 22

venv: .venv/installed ## make .venv and install everything into it; PYTHON=python3.12 chooses an interpreter

.venv/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or later is needed; name one: make venv PYTHON=...") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,ray]'
	touch $@

lint: venv ## check style, types and which module imports which
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy fer_augment plugins docs/builder
	$(BIN)/lint-imports --no-logo

test: lint ## lint, then all tests; those on real data need FER2013=FOLDER
	OMP_NUM_THREADS=1 $(BIN)/pytest -m '' -n 2 --dist loadfile --benchmark-disable

demo: venv ## compare three recipes on drawn faces, in one to three minutes
	$(BIN)/fer-augment demo

.venv/bench: .venv/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[bench]'
	touch $@

bench: .venv/bench ## measure ours against what one would pick instead, and every recipe on the demo faces; FER2013=FOLDER for real ones
	mkdir -p benchmarks/results
	OMP_NUM_THREADS=1 $(BIN)/pytest -o python_files='bench_*.py' --benchmark-only --benchmark-quiet \
		--benchmark-timer=time.process_time --benchmark-json=benchmarks/results/latest.json benchmarks
	$(BIN)/python -m benchmarks table
	$(BIN)/python -m benchmarks gains --quick $(ON_PAGE)

bench-fer2013: venv ## measure every recipe on FER2013=FOLDER, in hours; goes on where it stopped; SEEDS=3 RECIPES="flip smote" SET="KEY=VALUE"
	@test -f '$(FER2013)/fer2013_images.zip' || { echo 'bench-fer2013: name the folder of fer2013_images.zip: FER2013=FOLDER' >&2; exit 2; }
	$(BIN)/python -m benchmarks gains --data '$(FER2013)/fer2013_images.zip' --seeds $(SEEDS) \
		$(addprefix --recipe ,$(RECIPES)) $(addprefix --set ,$(SET)) --out results/gains/fer2013 $(ON_PAGE) --place fer2013

bench-precision: venv ## measure what bfloat16 does to recall; PAGE=docs/results.md keeps the tables of these three
	$(BIN)/python -m benchmarks gains --seeds 10 --baseline benchmarks/recipes/float32.yaml \
		--recipe benchmarks/recipes/bfloat16.yaml --out results/gains/precision $(ON_PAGE) --place precision

bench-compare: venv ## say which ratios of the last bench are worse than those in benchmarks/baseline.json
	$(BIN)/python -m benchmarks compare

bench-keep: venv ## keep the ratios of the last bench as the baseline, and write docs/performance.md
	$(BIN)/python -m benchmarks keep

docs: venv ## write docs/strategies.md, the catalog of strategies, and its pictures again
	$(BIN)/python -m docs.builder.page > docs/strategies.md
	OMP_NUM_THREADS=1 $(BIN)/python -m docs.builder.pictures docs/pictures

clean: ## remove .venv and all caches
	rm -rf .venv build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis .benchmarks
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
