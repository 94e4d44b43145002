# One virtual environment, .venv; every target installs it first. `make help` lists the targets.

VENV := .venv
BIN := $(VENV)/bin
HARNESS := $(BIN)/harness
STAMP := $(VENV)/.stamp
DOCS_STAMP := $(VENV)/.docs-stamp
ABLATIONS := $(sort $(patsubst models/%.yaml,%,$(wildcard models/sutlm-tiny-*.yaml)))

# The first interpreter that runs, is new enough, and can make virtual environments. Override: make PYTHON=/path/to/python
CANDIDATES := python3.11 python3.12 python3.13 python3
PYTHON ?= $(firstword $(foreach p,$(CANDIDATES),$(shell $(p) -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $(p))))

export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help install demo test test-all browser docs format ablations $(ABLATIONS) sutlm-tiny transcriber-tiny textlm-tiny clean distclean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

install: $(STAMP)  ## make .venv and install the harness there

$(STAMP): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "No Python found: sutlm-harness needs Python 3.11 or newer with the venv module" \
		"(looked for $(CANDIDATES)). Install one, or name it: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing into $(VENV) (several GB the first time, mostly PyTorch) ..."
	@$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev,cluster]'
	@touch $(STAMP)

DEMO := $(HARNESS) run --model sutlm-tiny --tasks cra,slue_ner

demo: $(STAMP)  ## evaluate the shipped model on cross-modal retrieval and on named entities (one seed)
	@echo "Retrieval, and named entities fine-tuned with one seed, on speech and on text: about four minutes on two cores."
	$(DEMO) --set slue_ner.seeds=1 --set 'slue_ner.train_on=[speech,text]'
	@echo "The intervals of slue_ner hold for these weights only. The full protocol has three seeds and fine-tunes on both" \
		"modalities too (15 minutes): $(DEMO)"

test: $(STAMP)  ## lint, types and the default tests
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/pytest -n auto

test-all: $(STAMP)  ## the slow tests too (not gpu, not browser)
	$(BIN)/pytest -m "not gpu and not browser"

browser: $(STAMP)  ## the tests in a real browser; installs Debian's chromium where it may
	@command -v chromium >/dev/null || command -v chromium-browser >/dev/null || { \
		test "$$(id -u)" = 0 && command -v apt-get >/dev/null && apt-get update -qq && \
		apt-get install -y -qq --no-install-recommends chromium fonts-dejavu-core >/dev/null; } || \
		echo "No chromium, and none could be installed: the tests that need it are skipped." >&2
	$(BIN)/pytest -m browser tests/browser

docs: $(DOCS_STAMP)  ## build the documentation into build/site; a broken link is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "Open build/site/index.html"

$(DOCS_STAMP): $(STAMP)
	@$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[docs]'
	@touch $(DOCS_STAMP)

format: $(STAMP)  ## rewrite the code in the project's format
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

sutlm-tiny: $(STAMP)  ## train the shipped model again (about an hour on two cores)
	$(HARNESS) train --model sutlm-tiny --output models/sutlm-tiny

transcriber-tiny: $(STAMP)  ## train PELM's transcriber again, from sutlm-tiny (minutes)
	$(HARNESS) train --model transcriber-tiny --output models/transcriber-tiny

textlm-tiny: $(STAMP)  ## train PELM's external language model again (minutes)
	$(HARNESS) train --model textlm-tiny --output models/textlm-tiny

ablations: $(ABLATIONS)  ## train the models that the shipped one is compared with

# Those that are shipped are trained in place.
$(ABLATIONS): $(STAMP)
	$(HARNESS) train --model $@ $(if $(wildcard models/$@/sutlm.json),--output models/$@)

clean:  ## remove build output and tool caches; keeps .venv and results/
	rm -rf build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -path ./$(VENV) -prune -o -type d -name __pycache__ -exec rm -rf {} +

distclean: clean  ## remove .venv and the test state too
	rm -rf $(VENV) .pytest-home
