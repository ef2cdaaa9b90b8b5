# make report | test | lint | corpus | corpus-convert | sweep | bench | models | docs: each sets up what it needs in $(VENV) first.
PYTHON ?= python3
VENV   ?= .venv
MODEL  ?= models/mnist_conv.onnx
BIN    := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help report test test-providers lint corpus corpus-convert sweep bench models docs clean

help:
	@echo 'make report   set up $(VENV) and run: onnxscope report $(MODEL)   (MODEL=path for another file)'
	@echo 'make test     set up $(VENV) with the test tools and run pytest'
	@echo 'make test-providers   OpenVINO and WebGPU for real, each in an environment of its own (ARGS=webgpu for one)'
	@echo 'make lint     ruff, mypy and import-linter'
	@echo 'make corpus   hydrate the corpus into .cache/corpus (about 7 GB) and check every graph against its truth'
	@echo 'make corpus-convert   convert every graph of the corpus, compare at native and larger sizes'
	@echo 'make sweep    verify every right conversion of the corpus with 20 seeds, and every wrong one (hours)'
	@echo 'make bench    time and memory of a report against the peers'
	@echo 'make models   build the teaching networks of models/ again'
	@echo 'make docs     API pages into .cache/docs'
	@echo 'make clean    remove $(VENV) and every cache'

# One stamp per set of packages: pip runs again only after pyproject.toml changed.
$(VENV)/stamp-python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "onnxscope needs Python 3.11 or newer; name one: make PYTHON=python3.12 ..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/stamp-base: $(VENV)/stamp-python pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e .
	@touch $@

$(VENV)/stamp-%: $(VENV)/stamp-base pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[cpu,$*]'
	@touch $@

report: $(VENV)/stamp-base
	$(BIN)/onnxscope report $(MODEL)

test: $(VENV)/stamp-test
	$(BIN)/python -m pytest $(ARGS)

test-providers: $(VENV)/stamp-python
	$(BIN)/python tests/providers/in_environments.py $(ARGS)

lint: $(VENV)/stamp-test
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

corpus: $(VENV)/stamp-test
	$(BIN)/python tests/corpus.py $(ARGS)

corpus-convert: $(VENV)/stamp-test
	$(BIN)/python tests/corpus_convert.py $(ARGS)

sweep: $(VENV)/stamp-test
	$(BIN)/python tests/proof_sweep.py $(ARGS)

bench: $(VENV)/stamp-bench
	$(BIN)/python benchmarks/report.py $(ARGS)

models: $(VENV)/stamp-base
	$(BIN)/python models/build.py models

docs: $(VENV)/stamp-docs
	$(BIN)/pdoc --output-directory .cache/docs onnxscope

clean:
	rm -rf $(VENV) .cache .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
