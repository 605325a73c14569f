# make run           a proxy in front of the engine that answers here, or of the embedded demo engine
# make test          everything that must hold: lint, types, layering, all tests (as root: against a real dockerd)
# make coverage      the tests again, and which lines none of them has run
# make compiled      the hot parts in C as well, for which it takes a C compiler: a small request costs a third less
# make bench         the cost, side by side with HAProxy, nginx and a plain aiohttp proxy
# make bench-growth  how the cost grows with the work: docs/cost.json and docs/cost.svg

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin

COMPILED    := $(shell find sockproxy -name '*_c.pyx')
# What is run with the compiled parts, too. That they do what the Python beside them does is shown by test_express, test_metrics,
# test_prepared and test_readiness in any case; here it is the whole proxy with them, in front of clients that keep connections.
DATA_PATH    = $(addprefix tests/,$(addsuffix .py,test_app test_app_workers test_clients test_endings test_limits test_meter test_proxy \
               $(addprefix integration/test_,curl endings libraries transparency)))
CAN_COMPILE  = command -v cc >/dev/null && $(BIN)/python -c 'import os, sysconfig; os.stat(sysconfig.get_path("include") + "/Python.h")' 2>/dev/null

.PHONY: run test coverage compiled bench bench-archive bench-growth lint engine tools clean

run: $(VENV)/.run
	@$(BIN)/python -m sockproxy.operating.run

test: $(VENV)/.test engine lint
	@if $(CAN_COMPILE); then $(MAKE) --no-print-directory compiled; else echo "no C compiler, or no python3-dev: the compiled parts are not tested" >&2; fi
	SOCKPROXY_PURE=1 $(BIN)/pytest tests
	@if $(CAN_COMPILE); then echo "once more, compiled" && $(BIN)/pytest $(DATA_PATH); fi

# What no test has run, the proxies that tests start included. Apart, since it takes a third more time.
coverage: $(VENV)/.test engine
	SOCKPROXY_PURE=1 $(BIN)/pytest --cov --cov-report=term:skip-covered tests

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

compiled: $(VENV)/.compiled

bench: $(VENV)/.test tools
	@$(MAKE) --no-print-directory compiled
	$(BIN)/python -m benchmarks

bench-archive: $(VENV)/.test
	$(BIN)/python -m benchmarks.archive

bench-growth: $(VENV)/.bench tools
	$(BIN)/python -m benchmarks --growth --out docs

# What the tests need beside Python: a dockerd, a static busybox to make an image of, strace to count system calls, HAProxy
# to say what the settings of other proxies mean, Prometheus to ask what the dashboards ask,
# Chromium to see the page. Only root on Debian can install them.
engine:
	@sh tests/install_engine.sh

tools:
	@sh benchmarks/install_tools.sh

$(VENV)/bin/python:
	@echo "making the environment in $(VENV)"
	@$(PYTHON) -c 'import sys; sys.exit("sockproxy needs Python 3.11 or newer, this is %d.%d" % sys.version_info[:2] if sys.version_info < (3, 11) else 0)'
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "on Debian: apt install python3-venv" >&2; exit 1; }

$(VENV)/.run: $(VENV)/bin/python pyproject.toml constraints.txt
	@echo "installing sockproxy and what it needs"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	@touch $@

$(VENV)/.test: $(VENV)/bin/python pyproject.toml constraints.txt
	@echo "installing sockproxy and what its tests need"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test]'
	@touch $(VENV)/.run $@

$(VENV)/.compiled: $(VENV)/.run setup.py $(COMPILED)
	@$(CAN_COMPILE) || { echo "it takes a C compiler and Python's headers; on Debian: apt install gcc python3-dev" >&2; exit 1; }
	@echo "compiling the hot parts"
	@SOCKPROXY_COMPILED=1 $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
	@touch $@

$(VENV)/.bench: $(VENV)/.test
	@echo "installing what draws"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[bench]'
	@touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info
	find sockproxy -name '*_c.c' -o -name '*_c.*.so' | xargs rm -f
