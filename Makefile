# Every target sets up what it needs, so that each works first on a fresh machine.
# Another Python: make PYTHON=/path/to/python3.12 test

PYTHON ?= python3
VENV   := .venv
RUN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

# What the tests use of the system: a real sshd, FUSE, extended attributes, ACLs, capabilities, chattr.
DEBIAN_PACKAGES := openssh-server fuse3 attr acl libcap2-bin e2fsprogs

# How long `make fuzz` tries each parser, in seconds.
FUZZ_SECONDS ?= 60
# Further arguments: make test ARGS='-k restore', make bench ARGS='--only restic --corpus big'
ARGS ?=

.DELETE_ON_ERROR:
.PHONY: help demo test coverage lint types bench fuzz docs lock clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(STAMP): requirements.lock pyproject.toml tools/venv.sh
	@echo "Setting up $(VENV)"
	@tools/venv.sh $(PYTHON) $(VENV)
	@touch $@

demo: $(STAMP) ## back up, lose and recover real files, for all to see
	@$(RUN)/python -m tools.demo $(ARGS)

test: $(STAMP) ## run all tests, after installing what they use of Debian and npm
	@tools/debian-packages.sh $(DEBIAN_PACKAGES)
	@tools/azurite.sh
	@$(RUN)/python -m pytest $(ARGS)

coverage: $(STAMP) ## run all tests and tell which lines they never reach
	@tools/debian-packages.sh $(DEBIAN_PACKAGES)
	@tools/azurite.sh
	@$(RUN)/coverage erase
	@$(RUN)/coverage run -m pytest $(ARGS)
	@$(RUN)/coverage combine --quiet
	@$(RUN)/coverage report

lint: types ## check style, types, and which room may import which
	@$(RUN)/ruff check .
	@$(RUN)/ruff format --check .
	@$(RUN)/lint-imports --no-logo

types: $(STAMP) ## check types
	@$(RUN)/mypy

bench: $(STAMP) ## measure beside restic and Borg; writes docs/benchmarks.md
	@$(RUN)/python -m bench $(ARGS)

fuzz: $(STAMP) ## try every parser with hostile bytes for FUZZ_SECONDS each
	@DONJON_FUZZ_SECONDS=$(FUZZ_SECONDS) $(RUN)/python -m pytest tests/fuzz $(ARGS)

docs: $(STAMP) ## write the reference of the command line anew, and check the links between the documents
	@$(RUN)/python -m tools.reference
	@$(RUN)/python -m tools.links

lock: ## write requirements.lock anew; ARGS=--upgrade takes newer versions
	@tools/lock.sh $(PYTHON) $(ARGS)

clean: ## remove what the targets made, bench corpora and .venv included
	@if command -v chattr >/dev/null && [ -d .bench ]; then chattr -R -f -i .bench || true; fi
	rm -rf $(VENV) node_modules .bench .fuzz .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	rm -rf .coverage .coverage.* htmlcov build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
