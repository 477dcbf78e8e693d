# Everything a checkout can do. Each target brings .venv up to date first (scripts/venv.sh).

.DEFAULT_GOAL := help
.PHONY: help venv run test test-long soak bench bench-quick check docs images lint-sql lock clean
SHELL := /bin/sh
BIN := .venv/bin

# Tests bring servers of their own and must not find anybody else's: no variable that names one,
# of ours, of libpq or of Celery, reaches them. Nor does the one that forbids Python to keep what it
# compiled: each test process and each program would compile everything again.
SERVERS := (DATABASE|REDIS)_URL(_FILE)?|(NANGO|TENANT_MIRROR|CELERY)_[A-Za-z0-9_]*|PG[A-Z]+
NAMES := $(SERVERS)|PYTHONDONTWRITEBYTECODE
BARE := env $$(env | sed -nE 's/^($(NAMES))=.*/-u \1/p')
PYTEST = $(BARE) $(BIN)/pytest -n 4 --dist loadfile --no-loadscope-reorder

help: ## list the targets
	@sed -nE 's/^([a-z-]+):.*## (.*)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

venv: ## make or update .venv (PYTHON=... picks the interpreter)
	@PYTHON='$(PYTHON)' sh scripts/venv.sh

run: venv ## mirror simulated tenants, or real ones if NANGO_SECRET_KEY is set; Ctrl-C ends it
	@$(BIN)/tenant-mirror up

test: venv ## run the tests, on servers of their own
	@$(PYTEST) -m 'not long'

test-long: venv ## run the tests that take minutes each
	@$(PYTEST) -m long

HOURS ?= 2

soak: venv ## a fleet under random faults and kills for HOURS=2; SOAK='--seed 7' and the like
	@$(BARE) $(BIN)/python -m tests.soak --hours $(HOURS) $(SOAK)

bench: venv ## measure speed against other tools and limits, half an hour; BENCH='--only users'
	@$(BARE) $(BIN)/python -m benchmarks $(BENCH)

bench-quick: venv ## the same, small, in two minutes
	@$(BARE) $(BIN)/python -m benchmarks --quick $(BENCH)

check: venv lint-sql ## lint, format check, types, import contracts, migrations
	@$(BIN)/ruff check --quiet
	@$(BIN)/ruff format --check --quiet
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo

docs: venv ## write the pages of the reference that follow from the declarations
	@PYTHONPATH=. $(BIN)/python scripts/reference.py

images: venv ## take the images of the page in docs/images again, with Chromium
	@$(BARE) $(BIN)/pytest -q --write-images -k has_an_image tests/browser/test_page_looks.py

lint-sql: venv ## lint the SQL of the migrations (rules: .squawk.toml)
	@sql=$$($(BIN)/alembic -c migrations/alembic.ini upgrade head --sql 2>/dev/null) && \
	    printf '%s\n' "$$sql" | $(BIN)/squawk --stdin-filepath migrations.sql

# The wanted versions stay as they are unless UPGRADE is set. No index address is written, so that
# a lock made behind somebody's mirror serves everybody.
COMPILE = $(BIN)/uv pip compile pyproject.toml --quiet --universal --python-version 3.11 \
    --generate-hashes --no-annotate --no-header --no-emit-index-url --no-emit-find-links \
    $(if $(UPGRADE),--upgrade)

lock: venv ## write both lock files from pyproject.toml (UPGRADE=1: newest versions)
	@$(COMPILE) --output-file requirements.lock >/dev/null
	@$(COMPILE) --extra sandbox --group dev --constraint requirements.lock \
	    --output-file requirements-dev.lock >/dev/null

clean: ## remove .venv, caches and builds; the data of make run stays
	@rm -rf .venv benchmarks/.venv-peers dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
