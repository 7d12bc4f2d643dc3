# Two commands on a machine that has git, make and Python >= 3.11: `make demo` and `make test`.
# Both make .venv and install what they need from the package index, and nothing else.

PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV ?= .venv
BIN := $(VENV)/bin
DEMO ?= demo
PAGES := $(shell grep -l '\[\[\[cog' README.md docs/*.md docs/*/*.md results/*/README.md)

.PHONY: demo test test-slow test-docs test-wheel test-lowest lint types pytest coverage format bench fuzz mutants docs pages clean

demo: $(VENV)/.demo
	$(BIN)/fssbench generate-episodes shapes5i --shots 5 --episodes 60 --auxiliary 3 --out $(DEMO)/shapes5i.h5 --force
	$(BIN)/fssbench run panet fsil --backbone efficientnet_lite0 --shots 1 5 --set size=193,193 \
		--bank $(DEMO)/shapes5i.h5 --out $(DEMO)/results --save-predictions
	$(BIN)/fssbench show $(DEMO)/shapes5i.h5 --sheet 8 --out $(DEMO)/episodes.png --force
	$(BIN)/fssbench report $(DEMO)/results --format markdown > $(DEMO)/table.md
	@cat $(DEMO)/table.md
	@echo "The table is $(DEMO)/table.md, pictures of episodes are $(DEMO)/episodes.png, the records $(DEMO)/results."

test: lint types pytest

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.test
	$(BIN)/mypy

pytest: $(VENV)/.test
	$(BIN)/pytest -m "not slow" -n auto --dist worksteal

test-slow: $(VENV)/.test
	$(BIN)/pytest -m slow

# Every command of every page of the documentation, typed.
test-docs: $(VENV)/.test
	$(BIN)/pytest tests/docs

test-wheel:
	.ci/wheel

# At the lowest versions that pyproject.toml promises; no test fails of their warnings, and Ray is not among them.
test-lowest:
	$(PYTHON) -m venv $(VENV)-lowest
	$(VENV)-lowest/bin/python -m pip install --quiet uv
	$(VENV)-lowest/bin/uv pip install --quiet --python $(VENV)-lowest --resolution lowest-direct \
		--editable ".[lite,coco,foundation,dev]"
	PYTHONWARNINGS=ignore $(VENV)-lowest/bin/pytest -m "not slow" -n auto --dist worksteal -W default --ignore tests/cluster

coverage: $(VENV)/.test
	$(BIN)/pytest -m "not slow" -n auto --cov=fssbench --cov=methods --cov-report=term:skip-covered --cov-report=markdown:coverage.md

docs: $(VENV)/.docs
	$(BIN)/mkdocs build --strict

# What these pages show is what the code in their comments prints; the site of all results goes to site/board.
pages: $(VENV)/.test
	$(BIN)/cog -I docs -r $(PAGES)
	$(BIN)/fssbench leaderboard build results --out site/board --force

bench: $(VENV)/.test
	for b in $(filter-out %/mutants.py %/compare.py %/public_cases.py,$(wildcard benchmarks/*.py)); do $(BIN)/python $$b || exit 1; done

fuzz: $(VENV)/.test
	$(BIN)/python tests/fuzz/hostile.py

mutants: $(VENV)/.test
	$(BIN)/python benchmarks/mutants.py --coverage .mutants --out .mutants/verdicts.json

format: $(VENV)/.test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) $(VENV)-lowest .pytest_cache .mypy_cache .ruff_cache $(DEMO)

$(VENV)/.demo: pyproject.toml constraints.txt
	$(call venv)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[lite]"
	@touch $@

$(VENV)/.test: pyproject.toml constraints.txt
	$(call venv)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[lite,coco,foundation,cluster,dev]"
	@touch $@

$(VENV)/.docs: pyproject.toml constraints.txt
	$(call venv)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[lite,docs]"
	@touch $@

define venv
	@test -n "$(PYTHON)" || { echo "fssbench needs Python >= 3.11 and found none; set PYTHON=/path/to/python"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
endef
