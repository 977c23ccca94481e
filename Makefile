# Every target does the set-up it needs, once: a virtual environment with hash-checked packages.
# Needed beforehand: Python 3.11 or newer (with its venv module) and make.

VENV   ?= .venv
JOBS   ?= 2
PYTEST ?=
EXTRAS ?= ptxas prove
MUTANTS ?=
RULES  ?=
PY     := $(VENV)/bin/python

# A stamp carries the checksum of what it was installed from, so a changed file means a new stamp.
sum     = $(firstword $(shell cat $(1:%=constraints/%.txt) pyproject.toml | cksum))
DEMO   := $(VENV)/.demo-$(call sum,demo)
TEST   := $(VENV)/.test-$(call sum,test $(EXTRAS))
BENCH  := $(VENV)/.bench-$(call sum,bench)

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.SUFFIXES:

.PHONY: help
help:  ## show this list
	@echo "gcomp: make TARGET"
	@awk -F ':.*## ' '/^[a-z][a-z-]*:.*## / { printf "  %-8s %s\n", $$1, $$2 }' Makefile
	@echo "Variables: VENV=$(VENV) JOBS=$(JOBS) PYTEST='extra pytest options' EXTRAS='$(EXTRAS)' (of: prove ptxas tvm)"
	@echo "           MUTANTS='options of make mutants' RULES='options of make rules, or names'"

.PHONY: demo
demo: $(DEMO)  ## compile a small model, check it against ONNX Runtime, time both
	@$(PY) -m examples.demo

.PHONY: test
test: $(TEST)  ## run all tests, with few examples for each property
	@$(PY) -m pytest -q -n $(JOBS) --hypothesis-profile=quick $(PYTEST)

.PHONY: lint
lint: $(TEST)  ## check style, formatting and types
	@status=0; \
	for tool in "ruff check -q" "ruff format -q --check" "basedpyright --pythonpath $(PY)"; do \
	    echo "$$tool"; $(PY) -m $$tool || status=1; \
	done; exit $$status

.PHONY: check
check: lint test  ## lint, then test

.PHONY: golden
golden: $(TEST)  ## rewrite the expected text of the golden tests (then read the diff)
	@$(PY) -m pytest -q tests/golden --update-golden $(PYTEST)

.PHONY: mutants
mutants: $(TEST)  ## break the compiler in many small ways; do the tests notice? (docs/mutants.md)
	@$(PY) -m tests.mutants --jobs $(JOBS) $(MUTANTS)

.PHONY: rules
rules: $(TEST)  ## try the rules that changed on thousands of random graphs, and prove them (docs/rules.md)
	@$(PY) -m tests.campaign rules $(RULES)

.PHONY: bench
bench: $(BENCH)  ## time gcomp beside ONNX Runtime and OpenVINO
	@$(PY) -m bench models

.PHONY: wheel
wheel: $(DEMO)  ## build dist/gcomp-*.whl
	@$(PY) -m pip wheel -q --disable-pip-version-check --no-deps --no-build-isolation -w dist .
	@ls dist/*.whl

.PHONY: pins
pins: $(TEST)  ## choose package versions anew and write constraints/*.txt
	@$(PY) -m pip install -q --disable-pip-version-check pip-tools
	@rm -f constraints/*.txt
	@PYTHON=$(PY) sh constraints/pin.sh

.PHONY: clean
clean:  ## remove the environment and everything built
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .ruff_cache .hypothesis .coverage htmlcov
	find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +

$(DEMO): SET = demo
$(TEST): SET = test
$(TEST): WISHED = $(EXTRAS)
$(BENCH): SET = bench
$(DEMO) $(TEST) $(BENCH): | $(PY)
	@echo "$(VENV): installing the packages of constraints/$(SET).txt (once, some minutes on a slow line)"
	@$(PY) -m pip install -q --disable-pip-version-check --only-binary :all: --require-hashes -r constraints/$(SET).txt
	@for set in $(WISHED); do \
	    echo "$(VENV): installing the packages of constraints/$$set.txt"; \
	    $(PY) -m pip install -q --disable-pip-version-check --only-binary :all: --require-hashes -r constraints/$$set.txt || \
	        echo "$(VENV): not installed: tests that need $$set are skipped" >&2; \
	done
	@echo "$(VENV): installing gcomp from this folder"
	@$(PY) -m pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
	@rm -f $(VENV)/.$(SET)-*
	@touch $@

$(PY):
	@found=; seen=; \
	for name in python3.14 python3.13 python3.12 python3.11 python3 python; do \
	    version=$$($$name -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) || continue; \
	    if ! $$name -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	        seen="$$seen, $$name is $$version"; continue; fi; \
	    if ! $$name -c 'import venv, ensurepip' 2>/dev/null; then \
	        seen="$$seen, $$name ($$version) has no venv module"; continue; fi; \
	    found=$$name; break; \
	done; \
	if [ -z "$$found" ]; then \
	    echo "gcomp needs Python 3.11 or newer with its venv module; found here:$${seen:-, no Python}." | sed 's/:,/:/' >&2; \
	    echo "On Debian and Ubuntu: apt-get install python3 python3-venv" >&2; \
	    exit 1; \
	fi; \
	echo "$(VENV): creating with $$found ($$($$found -c 'import platform; print(platform.python_version())'))"; \
	$$found -m venv $(VENV) || { rm -rf $(VENV); exit 1; }
