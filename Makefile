# The commands of this repository. Each makes what it needs, in .venv/, .venv-mindspore/, .venv-peers/, build/ and dist/ (`instructions` writes its
# table, `install-cann` what PREFIX says).
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c

VENV := .venv
STAMPS := $(VENV)/.stamps
MINDSPORE_VENV := .venv-mindspore
PEER_VENVS := .venv-peers
PEERS := zentorch onnxruntime jax flex
BENCH_RESULTS ?= build/bench-full.json
BENCH_COMMIT = $(addprefix --commit=,$(shell git describe --always --dirty --abbrev=12 --exclude '*' 2>/dev/null))
JOBS ?= $(shell nproc 2>/dev/null || echo 2)
WERROR ?= OFF
PRESET ?= release

# The newest of these that can make a virtual environment; or say `make PYTHON=/path/to/python3 ...`.
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11 python3.10; do \
	$$p -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 10))' 2>/dev/null && echo $$p && break; done)

# MindSpore 2.10 has wheels for CPython 3.10 to 3.12 alone.
MINDSPORE_PYTHON ?= $(shell for p in $(PYTHON) python3.12 python3.11 python3.10; do \
	$$p -c 'import sys, venv, ensurepip; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null && echo $$p && break; done)

export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
export CMAKE_BUILD_PARALLEL_LEVEL := $(JOBS)
MAKEFLAGS += --no-print-directory
export PIP_DISABLE_PIP_VERSION_CHECK := 1
QUIET := $(if $(MAKE_TERMOUT),,--quiet)

SOURCES := $(shell find CMakeLists.txt pyproject.toml README.md LICENSE cmake include src cann bench python -type f \
	-not -name '*.pyc' 2>/dev/null)
HAS_CMAKE := cmake --version 2>/dev/null | awk 'NR == 1 { split($$3, v, "."); exit !(v[1] > 3 || v[1] == 3 && v[2] >= 25) } END { if (!NR) exit 1 }'

.PHONY: help
help: ## Show this text
	@echo "make <command>:"
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo "More: PYTHON=python3.12 JOBS=8 make demo;  make test PYTEST_ARGS='-k mask'"

.PHONY: demo
demo: $(STAMPS)/wheel ## Build, install into .venv, and show the library at work on real input
	$(VENV)/bin/python -m fusedattn.demo

.PHONY: bench
bench: $(STAMPS)/wheel ## Measure against the goals, torch and this machine's limit, in about 4 minutes (BENCH_ARGS='--json out.json')
	$(VENV)/bin/fusedattn bench $(BENCH_COMMIT) $(BENCH_ARGS)

.PHONY: bench-full
bench-full: $(STAMPS)/wheel $(PEERS:%=$(PEER_VENVS)/%/.stamp) ## Measure the whole grid against every peer, in an hour or two; goes on where it was stopped
	$(VENV)/bin/fusedattn bench --cells full --peers $(PEER_VENVS) --budget 3600 --json $(BENCH_RESULTS) --resume $(BENCH_COMMIT) $(BENCH_ARGS)

.PHONY: test
test: $(STAMPS)/wheel ctest ## Run the C++ tests and the Python tests
	$(VENV)/bin/python -m pytest -n $(JOBS) tests/python $(PYTEST_ARGS)

.PHONY: test-mindspore
test-mindspore: $(MINDSPORE_VENV)/.stamps/wheel ## Run the tests of the MindSpore door, in .venv-mindspore
	$(MINDSPORE_VENV)/bin/python -m pytest tests/mindspore $(PYTEST_ARGS)

.PHONY: mindspore-python
mindspore-python: # Names the Python of test-mindspore, or says why there is none
	@if [ -z "$(MINDSPORE_PYTHON)" ]; then echo "MindSpore 2.10 has wheels for CPython 3.10, 3.11 and 3.12 on Linux (x86-64 and" \
		"aarch64); no such Python that can make a virtual environment was found. MINDSPORE_PYTHON=... names one." >&2; exit 1; fi
	@echo "$(MINDSPORE_PYTHON)"

.PHONY: ctest
ctest: build
	ctest --preset $(PRESET) -j $(JOBS)

.PHONY: build
build: $(STAMPS)/requirements ## Build the C and C++ library and its tests in build/release
	cmake --preset $(PRESET) -DFUSEDATTN_DEVELOPER=$(WERROR)
	cmake --build --preset $(PRESET) -j $(JOBS)

.PHONY: install-cann
install-cann: $(STAMPS)/requirements ## Make PREFIX=some/folder look like CANN to the build lines of Ascend programs
	@[ -n "$(PREFIX)" ] || { echo "Say where: make install-cann PREFIX=some/folder" >&2; exit 1; }
	cmake --preset $(PRESET) -DFUSEDATTN_DEVELOPER=$(WERROR)
	cmake --build --preset $(PRESET) -j $(JOBS) --target fusedattn_cann
	$(VENV)/bin/python python/fusedattn/cann.py --build build/$(PRESET) --prefix "$(PREFIX)"

.PHONY: instructions
instructions: build ## Count instructions anew, after a change that is meant to change them (needs valgrind)
	$(VENV)/bin/python tests/portable/instructions.py --write

.PHONY: wheel
wheel: $(STAMPS)/wheel

.PHONY: clean
clean: ## Remove everything these commands made
	rm -rf $(VENV) $(MINDSPORE_VENV) $(PEER_VENVS) build dist

$(STAMPS)/venv:
	@if [ -z "$(PYTHON)" ]; then echo "No Python of version 3.10 or newer that can make a virtual environment was found" \
		"(on Debian: apt-get install python3 python3-venv)." >&2; exit 1; fi
	@if ! command -v $${CXX:-c++} >/dev/null; then echo "No C++ compiler was found (on Debian: apt-get install g++)." >&2; exit 1; fi
	rm -rf $(VENV)
	$(PYTHON) -m venv $(VENV)
	mkdir -p $(STAMPS)
	touch $@

$(STAMPS)/requirements: requirements/build.txt requirements/cmake.txt requirements/test.txt $(STAMPS)/venv
	$(VENV)/bin/python -m pip install $(QUIET) -r requirements/build.txt -r requirements/test.txt
	if ! $(HAS_CMAKE); then $(VENV)/bin/python -m pip install $(QUIET) -r requirements/cmake.txt; fi
	touch $@

$(STAMPS)/wheel: $(STAMPS)/requirements $(SOURCES)
	rm -rf dist
	$(VENV)/bin/python -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir dist \
		--config-settings=cmake.define.FUSEDATTN_DEVELOPER=$(WERROR) .
	$(VENV)/bin/python -m pip install --quiet --no-deps --force-reinstall dist/fusedattn-*.whl
	touch $@

$(MINDSPORE_VENV)/.stamps/requirements: requirements/mindspore.txt
	@$(MAKE) mindspore-python >/dev/null
	rm -rf $(MINDSPORE_VENV)
	$(MINDSPORE_PYTHON) -m venv $(MINDSPORE_VENV)
	$(MINDSPORE_VENV)/bin/python -m pip install $(QUIET) -r requirements/mindspore.txt || \
		{ echo "MindSpore could not be installed for $$($(MINDSPORE_VENV)/bin/python -V) on $$(uname -sm); see above." >&2; exit 1; }
	mkdir -p $(@D)
	touch $@

$(MINDSPORE_VENV)/.stamps/wheel: $(MINDSPORE_VENV)/.stamps/requirements $(STAMPS)/wheel
	$(MINDSPORE_VENV)/bin/python -m pip install --quiet --no-deps --force-reinstall dist/fusedattn-*.whl
	touch $@

# A peer that cannot be installed here is left out of the measurement, and the reason stays on the terminal.
$(PEER_VENVS)/%/.stamp: requirements/peers/%.txt $(STAMPS)/venv
	rm -rf $(@D)
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip install $(QUIET) -r $< || { echo "The peer $* could not be installed; it is left out." >&2; rm -rf $(@D)/bin; }
	touch $@
