# Targets run in .venv, which is created if it is missing or out of date. Requires Python 3.11 or later with pip.
PYTHON ?= python3
BIN := .venv/bin
SEEDS ?= 3
RUNS ?= 1
ON_PAGE = $(if $(PAGE),--page '$(PAGE)')

.DEFAULT_GOAL := help
.PHONY: help venv docs-site docs-screens dist dist-check release lint test all-tests fuzz demo bench bench-fer2013 bench-precision bench-compare bench-keep docs clean

help: ## list the targets
	@sed -nE 's/^([a-z0-9-]+):.*## (.*)/make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 22

venv: .venv/installed ## create .venv and install the project; PYTHON=python3.12 selects the interpreter

.venv/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or later is required; select one: make venv PYTHON=python3.12") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --no-compile --disable-pip-version-check -c constraints.txt -e '.[dev,docs,kornia,mlflow,onnx,ray,tensorboard,timm,torchvision]'
	$(BIN)/python -m compileall -qq -j 0 .venv/lib || true # as pip would, on one core only; some files are templates
	touch $@

lint: venv ## check style, types and import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy fer_augment plugins docs/builder tests benchmarks tools
	$(BIN)/lint-imports --no-logo

test: venv ## lint and run all tests, at the same time; FER2013=FOLDER enables those on real data
	+$(MAKE) --no-print-directory --jobs 2 lint all-tests

all-tests: venv
	PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE $(BIN)/pytest -m '' -n 2 --dist loadfile --no-loadscope-reorder --benchmark-disable

fuzz: venv ## damage small inputs at random, N=20 times as often as the tests do, in some minutes
	FUZZ=$(or $(N),20) OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --benchmark-disable tests/test_damaged_inputs.py tests/test_damaged_results.py

demo: venv ## compare three recipes on synthetic faces, in about a minute
	$(BIN)/fer-augment demo

.venv/bench: .venv/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[bench]'
	touch $@

bench: .venv/bench ## run the benchmarks, and compare all recipes on the demo data; FER2013=FOLDER benchmarks on real data; RUNS=3 shows the noise
	mkdir -p benchmarks/results && rm -f benchmarks/results/run_*.json
	for run in $$(seq $(RUNS)); do \
		OMP_NUM_THREADS=1 $(BIN)/pytest -o python_files='bench_*.py' --benchmark-only --benchmark-quiet \
			--benchmark-timer=time.process_time --benchmark-json=benchmarks/results/run_$$run.json benchmarks || exit; \
	done
	$(BIN)/python -m benchmarks table
	$(BIN)/python -m benchmarks gains --quick $(ON_PAGE)

bench-fer2013: venv ## compare all recipes on FER2013=FOLDER, in hours; resumes; SEEDS=3 RECIPES="flip smote" SET="KEY=VALUE"
	@test -f '$(FER2013)/fer2013_images.zip' || { echo 'bench-fer2013: set FER2013=FOLDER to the folder of fer2013_images.zip' >&2; exit 2; }
	$(BIN)/python -m benchmarks gains --data '$(FER2013)/fer2013_images.zip' --seeds $(SEEDS) \
		$(addprefix --recipe ,$(RECIPES)) $(addprefix --set ,$(SET)) --out results/gains/fer2013 $(ON_PAGE) --place fer2013

bench-precision: venv ## compare bfloat16 with float32; PAGE=docs/results.md writes the tables of this and the two above to that page
	$(BIN)/python -m benchmarks gains --seeds 10 --baseline benchmarks/recipes/float32.yaml \
		--recipe benchmarks/recipes/bfloat16.yaml --out results/gains/precision $(ON_PAGE) --place precision

bench-compare: venv ## list ratios that fell by more than the noise below those in benchmarks/baseline.json
	$(BIN)/python -m benchmarks compare

bench-keep: venv ## add the ratios to benchmarks/baseline.json, and write docs/performance.md
	$(BIN)/python -m benchmarks keep

docs: venv ## regenerate the lists of commands, recipes and strategies in docs/, and the pictures
	$(BIN)/python -m docs.builder.page > docs/strategies.md
	$(BIN)/python -m docs.builder.commands > docs/commands.md
	$(BIN)/python -m docs.builder.recipe_list > docs/shipped_recipes.md
	OMP_NUM_THREADS=1 $(BIN)/python -m docs.builder.pictures docs/pictures

.venv/docs: .venv/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	touch $@

docs-site: .venv/docs ## build the documentation site in site/; stops at any warning
	$(BIN)/zensical build --clean --strict

docs-screens: venv ## redraw docs/screens from a run of the demo; needs chromium
	$(BIN)/fer-augment demo
	$(BIN)/python -m docs.builder.screens results/demo docs/screens

dist: venv ## build the sdist and the wheel in dist/
	$(BIN)/python -m tools.release build

dist-check: venv ## install both in fresh environments and run the smoke test; PYTHONS="python3.11 python3.13"
	$(BIN)/python -m tools.release check $(PYTHONS)

release: test ## set VERSION=0.2.0 everywhere, build, check, commit and tag; uploads nothing
	$(BIN)/python -m tools.release prepare $(VERSION) $(PYTHONS)

clean: ## remove .venv, build files and tool caches
	rm -rf .venv build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis .benchmarks
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
