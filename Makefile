# Everything a newcomer needs: `make demo`, `make test`. Needs Python 3.11 or newer, and make.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: help setup demo test browser fast lint exports sanitize bench-check screenshots lock clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 13

setup: $(STAMP)  ## make .venv and install what requirements.lock names

$(STAMP): requirements.lock pyproject.toml $(wildcard mesh_pipelines/native/*.[ch])
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Python 3.11 or newer is needed; name it: make setup PYTHON=python3.12" >&2; exit 3; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) \
		|| { echo "venv is missing; on Debian: apt-get install python3-venv" >&2; exit 3; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $(STAMP)

demo: setup  ## start Kafka, the registry and Dagster, and replay New York's flights of 2013; Ctrl-C stops it
	@exec $(BIN)/mesh demo

# What a file sets up is set up once, and many tests wait for services; the order leaves short files for the end.
BY_FILE := --dist loadfile --no-loadscope-reorder

test: browser setup  ## all tests, real services included
	$(BIN)/python -m pytest -n 3 $(BY_FILE)

browser:  ## find Chromium or Chrome for the portal's tests; as root on Debian, install it
	@for name in chromium chromium-browser google-chrome; do type -P $$name >/dev/null && exit 0; done; \
	if [ "$$EUID" = 0 ] && type -P apt-get >/dev/null; then apt-get install -y chromium; \
	else echo "the portal's tests need Chromium or Chrome; on Debian: apt-get install -y chromium" >&2; exit 3; fi

fast: setup  ## the tests that need no service
	$(BIN)/python -m pytest -n 3 $(BY_FILE) -m "not services and not slow"

lint: setup  ## ruff, types, layers, dependencies
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/basedpyright
	$(BIN)/lint-imports
	$(BIN)/deptry .

bench-check: setup  ## the benchmarks' ratios, beside those that were recorded
	$(BIN)/python benchmarks/check.py

screenshots: setup  ## pictures of the portal over the demo mesh, to docs/images; needs Chromium
	$(BIN)/python docs/screenshots.py

OTHERS := .mesh/datacontract

exports: setup  ## lint the demo's exported contracts by datacontract-cli, in an environment of its own
	@test -x $(OTHERS)/bin/datacontract || { $(PYTHON) -m venv $(OTHERS) && $(OTHERS)/bin/pip install -q datacontract-cli; }
	@for contract in assets/*/*/contract.yaml; do \
		name=$$(dirname "$${contract#assets/}" | tr / .); \
		$(BIN)/mesh export "$$name" --out "$(OTHERS)/$$name.odcs.yaml" --replace \
			&& $(OTHERS)/bin/datacontract lint "$(OTHERS)/$$name.odcs.yaml" || exit 1; \
	done

SANITIZERS := -fsanitize=address,undefined -fno-sanitize-recover=undefined -g -O1
EXTENSION := $(BIN)/python -c "import setuptools; setuptools.setup()" -q build_ext --inplace --force

sanitize: setup  ## the native extension's tests and fuzzer under AddressSanitizer and UBSan; needs gcc
	CFLAGS="$(SANITIZERS)" $(EXTENSION)
	export LD_PRELOAD="$$(gcc -print-file-name=libasan.so) $$(gcc -print-file-name=libubsan.so)" ASAN_OPTIONS=detect_leaks=0; \
		$(BIN)/python -m pytest tests/formats tests/kafka -k "not guarded" && $(BIN)/python tests/faults/fuzz.py; \
		status=$$?; unset LD_PRELOAD; $(EXTENSION); exit $$status

lock: setup  ## resolve the dependencies anew
	$(BIN)/uv pip compile pyproject.toml --group dev --universal --python-version 3.11 --upgrade --quiet \
		--generate-hashes --no-emit-index-url --no-emit-find-links --no-header --no-annotate \
		--output-file requirements.lock

clean:  ## remove the environment and all local state
	rm -rf $(VENV) .mesh
