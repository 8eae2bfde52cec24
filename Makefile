# Two commands matter: `make demo` and `make test`. Both build what they need first; neither needs root or a server.
SHELL := /bin/sh
MAKEFLAGS += --no-print-directory
# Every process of the product and every worker of a test run would compile all of it again.
unexport PYTHONDONTWRITEBYTECODE
VENV := .venv
PYTHON := $(VENV)/bin/python
PORT ?= 8000
# Two for each of two processors: browser tests mostly wait. Who is given what is decided in tests/conftest.py.
JOBS ?= 4

.PHONY: help setup demo test looks check bench chaos chaos-quick chaos-long clean
.DEFAULT_GOAL := help

help:
	@echo "make demo    the whole product on this machine: prints an address and three log-ins (PORT=8100 for another port)"
	@echo "make test    all tests but those of the looks and the chaos ones, with coverage (JOBS=2 for less at a time)"
	@echo "make looks   what axe objects to and what is too wide, on every page (SCREENSHOTS=folder to look for oneself)"
	@echo "make check   format, lint, types, configuration and migrations"
	@echo "make bench   what pages, sending, webhooks, a first import and the console cost"
	@echo "make chaos   kills the product's own processes and its database, and judges what is left (chaos-quick: a twentieth;"
	@echo "             chaos-long: five times more)"
	@echo "make setup   only what the others need first: .venv with everything in it"
	@echo "make clean   removes .venv and caches; keeps var/, where the demo's data is"

setup: $(VENV)/.for-checks

demo: $(VENV)/.for-running
	@exec $(PYTHON) manage.py demo --port $(PORT)

test: $(VENV)/.for-tests
	@$(PYTHON) -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder --cov --cov-report term --durations 10 -m "not chaos and not looks"

looks: $(VENV)/.for-tests
	@$(PYTHON) -m pytest -m looks tests/browser

check: $(VENV)/.for-checks
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m ruff check .
	$(PYTHON) -m djlint --check --quiet templates
	$(PYTHON) -m djlint --lint --quiet templates
	DEBUG=true DATABASE_URL=postgresql://unused/unused $(PYTHON) -m mypy
	.ci/production-like $(PYTHON) manage.py check --deploy --fail-level WARNING
	.ci/production-like $(PYTHON) manage.py makemigrations --check --dry-run

bench: $(VENV)/.for-tests
	@$(PYTHON) -m tests.benchmarks

# Beside other tests neither would keep to its times.
chaos-quick: $(VENV)/.for-tests
	@$(PYTHON) -m pytest -m chaos tests/chaos tests/flows tests/browser/test_news.py tests/messaging/test_exports.py \
		tests/messaging/test_search.py

chaos: $(VENV)/.for-tests
	@$(PYTHON) -m tests.chaos ci $(if $(SEED),--seed $(SEED))

chaos-long: $(VENV)/.for-tests
	@$(PYTHON) -m tests.chaos long $(if $(SEED),--seed $(SEED))

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis htmlcov .coverage .coverage.*
	@echo "var/ is kept: it holds the demo's data. Remove it by hand to start afresh."

# The stamps are younger than the requirements when everything is installed.
$(VENV)/.for-running: requirements.txt
	@.ci/environment requirements.txt
	@touch $@

$(VENV)/.for-tests: requirements.txt tests/requirements.txt
	@.ci/environment tests/requirements.txt
	@touch $@ $(VENV)/.for-running

$(VENV)/.for-checks: requirements.txt tests/requirements.txt tests/requirements-check.txt
	@.ci/environment tests/requirements-check.txt
	@touch $@ $(VENV)/.for-tests $(VENV)/.for-running
