# Every target sets up what it needs. VENV can point elsewhere; PYTHON is what the environment is made from.
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PUBLISH ?= .venv-publish
PUBLISH_READY := $(PUBLISH)/.ready
# A lock file names all there is, so pip need not look what depends on what; what is never imported need not be compiled.
INSTALL := pip install --quiet --no-compile --no-deps --require-hashes -r
# One worker more than there are cores, because tests wait half of their time; one file each at a time, in the order of tests/conftest.py.
WORKERS ?= $(shell echo $$(($$(getconf _NPROCESSORS_ONLN) + 1)))
PYTEST = pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder
FOR ?= 30s
SEED ?= 1
TARGET ?= all
MINUTES ?= 60

.DEFAULT_GOAL := help
.PHONY: help demo test integration kubernetes chaos lint format compiled bench peers drift events reference fuzz docs dist sbom soak coverage mutation lock clean

help: ## what there is
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

$(READY): requirements/dev.txt pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/$(INSTALL) requirements/dev.txt
	$(BIN)/pip install --quiet --no-deps --editable .
	@touch $@

demo: $(READY) ## the main job with no key: the simulator, real sinks, the status page
	$(BIN)/streamer demo --for $(FOR)

test: $(READY) ## all tests that need nothing but this folder
	$(BIN)/python -m $(PYTEST) -m "not integration"

integration: $(READY) ## the tests against real servers, which they provision and start themselves
	tests/integration/provision.sh
	$(BIN)/python -m $(PYTEST) -m integration --timeout 900

kubernetes: $(READY) ## what is shipped for Kubernetes, and the lease, against a real API server; building it takes minutes, once
	$(BIN)/python -m pytest tests/kubernetes/check_api.py -v

fuzz: $(VENV)/.fuzz ## coverage-guided fuzzing: TARGET=all (or one of tests/fuzz/corpus), MINUTES=60 for all together
	$(BIN)/python -m tests.fuzz $(TARGET) $(MINUTES)

chaos: $(READY) ## the daemon while everything goes wrong: SEED=1 and MINUTES=60 or KILLS=1000; then 20 power cuts
	tests/integration/provision.sh
	$(BIN)/python -m tests.chaos.run --seed $(SEED) $(if $(KILLS),--kills $(KILLS),--minutes $(MINUTES))
	$(BIN)/python -m tests.chaos.power --seed $(SEED) --cuts 20

soak: $(READY) ## a long run of the daemon, MINUTES=60; its figures and their picture go to docs/images
	$(BIN)/python -m tests.soak $(MINUTES) docs/images

coverage: $(VENV)/.coverage ## branches that all tests take, also in the daemons that they start
	$(BIN)/coverage erase
	tests/integration/provision.sh
	-$(BIN)/coverage run -m $(PYTEST) -m "not integration"
	-$(BIN)/coverage run -m $(PYTEST) -m integration --timeout 900
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

mutation: $(VENV)/.mutation ## changes to a module that its tests must notice: TARGET=windows|slices|delivery|journal|decode, SAMPLE=300 of them
	$(BIN)/python -m tests.mutation $(TARGET) $(SAMPLE)

$(VENV)/.fuzz $(VENV)/.coverage $(VENV)/.mutation $(VENV)/.compiled: $(VENV)/.%: requirements/%.txt $(READY)
	$(BIN)/$(INSTALL) requirements/$*.txt
	@touch $@

lint: $(READY) ## ruff, mypy --strict, import-linter
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(READY) ## put the code into its form
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

compiled: $(VENV)/.compiled ## a copy of all this in build/compiled/main with machine code for what is done for every event; the wheel in its dist/
	rm -rf build/compiled
	mkdir -p build/compiled/main
	git ls-files -z | xargs -0 cp --parents -t build/compiled/main
	test ! -d ../shared || ln -s "$(abspath ../shared)" build/compiled/shared
	cd build/compiled/main && HATCH_BUILD_HOOK_ENABLE_MYPYC=true $(abspath $(BIN))/pip wheel --quiet --no-deps --no-build-isolation -w dist .

bench: compiled ## the figures of docs/performance.md, as ratios against a baseline in the same run
	cd build/compiled/main && $(abspath $(BIN))/python -m bench

peers: compiled ## the tables of docs/peers.md: this, compiled, beside HashiCorp Grove, dlt and Benthos, which it fetches
	cd build/compiled/main && PEERS_CACHE=$(abspath .cache/peers) $(abspath $(BIN))/python -m bench.peers $(PEERS)

events: $(READY) ## docs/events.md, from the catalogue
	$(BIN)/python -m tests.docs_events

reference: $(READY) ## docs/configuration.md, metrics.md and cli.md, from the code
	$(BIN)/python -m tests.docs_reference

drift: $(READY) ## what a newer openai SDK knows and our catalogue does not
	$(BIN)/python -m tests.drift

$(PUBLISH_READY): requirements/publish.txt
	$(PYTHON) -m venv $(PUBLISH)
	$(PUBLISH)/bin/$(INSTALL) requirements/publish.txt
	@touch $@

docs: $(PUBLISH_READY) ## the documentation as a site, in site/; a dead link is an error
	NO_MKDOCS_2_WARNING=1 $(PUBLISH)/bin/mkdocs build --strict

dist: $(PUBLISH_READY) ## the source archive and the wheel made from it, checked, in dist/
	rm -rf dist
	$(PUBLISH)/bin/python -m build --no-isolation --outdir dist >/dev/null
	$(PUBLISH)/bin/twine check --strict dist/*
	$(PUBLISH)/bin/check-wheel-contents dist/*.whl

sbom: $(PUBLISH_READY) ## what the image holds (CycloneDX), from the lock file, in dist/sbom.cdx.json
	mkdir -p dist
	sed "s/^dynamic = .*/version = \"$$(sed -n 's/__version__ = "\(.*\)"/\1/p' streamer/__init__.py)\"/" pyproject.toml >dist/pyproject.toml
	PYTHONWARNINGS=ignore $(PUBLISH)/bin/cyclonedx-py requirements requirements/runtime.txt --pyproject dist/pyproject.toml \
	  --output-reproducible --of JSON -o dist/sbom.cdx.json
	rm dist/pyproject.toml

lock: $(READY) ## pin the dependencies anew, with hashes
	$(BIN)/pip install --quiet uv
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
	  --no-annotate pyproject.toml --all-extras --group lint --group test --output-file requirements/dev.txt
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
	  --no-annotate pyproject.toml --all-extras --output-file requirements/runtime.txt
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
	  --no-annotate --group docs --group dist --output-file requirements/publish.txt
	for group in fuzz coverage mutation; do $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	  --no-emit-index-url --no-header --no-annotate --group $$group --output-file requirements/$$group.txt; done
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
	  --no-annotate --group compiled --constraint requirements/dev.txt --output-file requirements/compiled.txt

clean: ## all that was made here
	rm -rf $(VENV) $(PUBLISH) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache dist build site
