# Each target makes its own virtual environment under .venv/.
PYTHON ?= python3
VENV = .venv
STAMP = $(VENV)/$(1)/stamp

.PHONY: help test test-all mutants docs docs-serve demo demo-serve bench stress lint types audit dist tox clean

help:
	@echo "make test        the tests that a change needs (about 4 minutes)"
	@echo "make test-all    every test, with coverage, as CI runs them"
	@echo "make mutants     break the module in places and see what tests notice (ARGS=\"--count 40 --seed 1\")"
	@echo "make docs        build the documentation into build/docs"
	@echo "make docs-serve  build it, and show it at http://localhost:8000"
	@echo "make demo        run the main job: two visitors, a worker, two mails"
	@echo "make demo-serve  leave the demo running, with a page to try by hand"
	@echo "make bench       measure it beside the other ways, with targets (8 to 13 minutes)"
	@echo "make stress      load, faults and hostile input (under 10 minutes; ARGS=--long for all)"
	@echo "make lint types  what CI checks beside the tests"
	@echo "make audit       advisories on what is installed, and bandit"
	@echo "make dist        what is published, built twice and checked, and its SBOM"
	@echo "make tox         the tests on every Python and on the oldest versions"

# $(1): name, $(2): what pip installs
define environment
$(call STAMP,$(1)): setup.cfg setup.py pyproject.toml $(wildcard */requirements.txt */*/requirements*.txt)
	$(PYTHON) -m venv $(VENV)/$(1)
	$(VENV)/$(1)/bin/python -m pip install --quiet --disable-pip-version-check $(2)
	touch $$@
endef

$(eval $(call environment,test,-e '.[encryption]' -r tests/requirements.txt))
$(eval $(call environment,dash,-e . -r tests/integrations/requirements-dash.txt))
$(eval $(call environment,docs,-e . -r docs/requirements.txt))
$(eval $(call environment,demo,-e . -r examples/requirements.txt))
$(eval $(call environment,bench,-e '.[encryption]' -r benchmarks/requirements.txt))
$(eval $(call environment,stress,-e '.[encryption]' -r stress/requirements.txt))
$(eval $(call environment,lint,ruff))
$(eval $(call environment,types,-e '.[encryption]' mypy 'pyright[nodejs]'))
$(eval $(call environment,users,. celery-types))
$(eval $(call environment,users-without-types,.))
$(eval $(call environment,audit,bandit pip-audit))
$(eval $(call environment,dist,--upgrade build check-wheel-contents cyclonedx-bom setuptools trove-classifiers twine))
$(eval $(call environment,tox,tox))

# Users have the wheel.
$(call STAMP,users) $(call STAMP,users-without-types): flask_task_context.py

# $(1): whose environment, $(2): the file that is checked there
define check_users
cd tests/typing && $(CHECKERS)/mypy --python-executable $(abspath $(VENV))/$(1)/bin/python $(2)
cd tests/typing && $(CHECKERS)/pyright --pythonpath $(abspath $(VENV))/$(1)/bin/python $(2)
endef
CHECKERS = $(abspath $(VENV))/types/bin

# Tests wait more than they compute. A file's tests share workers: one process runs it.
JOBS = 3
PYTEST = $(VENV)/test/bin/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder

test: $(call STAMP,test)
	$(PYTEST) --durations=5 $(ARGS)

test-all: $(call STAMP,test) $(call STAMP,dash)
	$(PYTEST) --durations=20 --all --cov --cov-report=term $(ARGS)

mutants: $(call STAMP,test)
	$(VENV)/test/bin/python -m tests.mutants $(ARGS)

# Warnings are errors, and a link inside that leads nowhere is a warning.
docs: $(call STAMP,docs)
	$(VENV)/docs/bin/sphinx-build -W --keep-going -n -E -q docs build/docs

docs-serve: docs
	$(VENV)/docs/bin/python -m http.server --bind 127.0.0.1 --directory build/docs 8000

demo: $(call STAMP,demo)
	@$(VENV)/demo/bin/python -m examples.demo $(ARGS)

demo-serve: $(call STAMP,demo)
	@$(VENV)/demo/bin/python -m examples.demo --serve $(ARGS)

bench: $(call STAMP,bench)
	$(VENV)/bench/bin/python -m benchmarks $(ARGS)

stress: $(call STAMP,stress)
	$(VENV)/stress/bin/python -m stress $(ARGS)

lint: $(call STAMP,lint)
	$(VENV)/lint/bin/ruff check .
	$(VENV)/lint/bin/ruff format --check .

types: $(call STAMP,types) $(call STAMP,users) $(call STAMP,users-without-types)
	$(VENV)/types/bin/mypy
	$(VENV)/types/bin/pyright --pythonpath $(VENV)/types/bin/python flask_task_context.py
	$(call check_users,users,api.py)
	$(call check_users,users-without-types,without_celery_types.py)

audit: $(call STAMP,audit)
	$(VENV)/audit/bin/bandit --quiet flask_task_context.py
	PYTHON=$(CURDIR)/$(VENV)/audit/bin/python .ci/advisories

# Of the last commit: what is not committed is not in it.
dist: $(call STAMP,dist)
	PYTHON=$(CURDIR)/$(VENV)/dist/bin/python .ci/distributions
	PYTHON=$(CURDIR)/$(VENV)/dist/bin/python .ci/sbom

tox: $(call STAMP,tox)
	$(VENV)/tox/bin/tox run $(ARGS)

clean:
	rm -rf $(VENV) .tox .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage build dist *.egg-info
