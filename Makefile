# Every target sets up what it needs, so that each works first on a fresh machine.
# Another Python: make PYTHON=/path/to/python3.12 test

PYTHON ?= python3
VENV   := .venv
RUN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

# What the tests use of the system: a real sshd, FUSE, extended attributes, ACLs, capabilities, chattr,
# faketime to let the locks of a vault end, a token of PKCS#11, btrfs for snapshots, a server of PostgreSQL,
# systemd's checks of units.
DEBIAN_PACKAGES := openssh-server fuse3 attr acl libcap2-bin e2fsprogs faketime softhsm2 \
	btrfs-progs postgresql-15 systemd

# Tools of the tests whose own dependencies clash with ours, each in .tools/NAME.
SIDE_TOOLS := ministack moto cfn-lint checkov

# How long `make fuzz` tries each parser, in seconds.
FUZZ_SECONDS ?= 60
# How many tests run at once: one more than there are processors, as many wait for a server or a lock. The
# tests of one file follow each other, for they share servers.
WORKERS ?= $(shell echo $$(($$(nproc) + 1)))
# Further arguments: make test ARGS='-k restore', make bench ARGS='--only restic --corpus big'
ARGS ?=

.DELETE_ON_ERROR:
.PHONY: help demo test ceph coverage lint types bench simulate fuzz docs lock clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(STAMP): requirements.lock pyproject.toml tools/venv.sh
	@echo "Setting up $(VENV)"
	@tools/venv.sh $(PYTHON) $(VENV)
	@touch $@

demo: $(STAMP) ## back up, lose and recover real files, for all to see
	@$(RUN)/python -m tools.demo $(ARGS)

test: $(STAMP) ## run all tests, after installing what they use of Debian, npm and PyPI
	@tools/debian-packages.sh $(DEBIAN_PACKAGES)
	@tools/azurite.sh
	@tools/side-venv.sh $(PYTHON) $(SIDE_TOOLS)
	@$(RUN)/python -m compileall -q src
	@$(RUN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(ARGS)

ceph: $(STAMP) ## try the S3 store on Ceph's gateway, which it installs from Debian
	@tools/debian-packages.sh ceph-mon ceph-osd ceph-common radosgw
	@$(RUN)/python -m pytest tests/optional $(ARGS)

coverage: $(STAMP) ## run all tests and tell which lines they never reach
	@tools/debian-packages.sh $(DEBIAN_PACKAGES)
	@tools/azurite.sh
	@tools/side-venv.sh $(PYTHON) $(SIDE_TOOLS)
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

simulate: $(STAMP) ## what custody costs, and planning it for 100 TiB; writes docs/custody-costs.md
	@$(RUN)/python -m bench.custody

fuzz: $(STAMP) ## try every parser with hostile bytes for FUZZ_SECONDS each
	@DONJON_FUZZ_SECONDS=$(FUZZ_SECONDS) $(RUN)/python -m pytest tests/fuzz $(ARGS)

docs: $(STAMP) ## write the reference of the command line and of plans and the tables of roles anew, and check the links between the documents
	@$(RUN)/python -m tools.reference
	@$(RUN)/python -m tools.role_tables
	@$(RUN)/python -m tools.plan_reference
	@$(RUN)/python -m tools.links

lock: ## write requirements.lock anew; ARGS=--upgrade takes newer versions
	@tools/lock.sh $(PYTHON) $(ARGS)

clean: ## remove what the targets made, bench corpora and .venv included
	@if command -v chattr >/dev/null && [ -d .bench ]; then chattr -R -f -i .bench || true; fi
	rm -rf $(VENV) .tools node_modules .bench .fuzz .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	rm -rf .coverage .coverage.* htmlcov build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
