# `make demo` trains and tests the quickstart; `make test` is the whole check. Both install what they need.
PYTHON ?= python3
VENV := .venv
BIN := $(CURDIR)/$(VENV)/bin
RUNS := runs/quickstart

.PHONY: demo test lint types browser clean

demo: $(VENV)/demo
	$(BIN)/nar fit --config scripts/configs/quickstart.yaml $$(test -f $(RUNS)/last.ckpt && echo --ckpt_path last)
	$(BIN)/nar test --ckpt_path $(RUNS)/best.ckpt

test: lint types browser $(VENV)/torch-scatter
	PYTHONSAFEPATH=1 $(BIN)/python -m pytest

lint: $(VENV)/test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

# Editable installs hide the mapped folders from mypy: it checks an ordinary one, and must find every file of it.
types: $(VENV)/test
	rm -rf build
	$(BIN)/pip install -q --no-deps --no-build-isolation --target build/types .
	cd tests && MYPYPATH=../build/types $(BIN)/mypy --config-file ../pyproject.toml -p nar | tee ../build/mypy.txt
	grep -q "no issues found in $$(find nar processors hybrid datasets -name '*.py' | wc -l) source files" build/mypy.txt

# torch comes first and pinned: left to be found by another package it would be a build of several gigabytes.
$(VENV)/demo: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q --disable-pip-version-check -c constraints.txt torch
	$(BIN)/pip install -q --disable-pip-version-check -c constraints.txt -e .
	touch $@

$(VENV)/test: $(VENV)/demo
	$(BIN)/pip install -q --disable-pip-version-check -c constraints.txt -e ".[test]"
	touch $@

# It has no wheel for this torch: it is built against the one that is there, once, which takes minutes.
$(VENV)/torch-scatter: $(VENV)/test
	$(BIN)/pip install -q --disable-pip-version-check -c constraints.txt --no-build-isolation --no-deps torch-scatter
	touch $@

# The pages of nar view are opened in a real browser: where there is none, and a Debian, it comes from there.
browser:
	command -v chromium || command -v chromium-browser || command -v google-chrome || { \
	  sudo=$$(test "$$(id -u)" = 0 || echo sudo); \
	  $$sudo apt-get update -qq && $$sudo apt-get install -y -qq --no-install-recommends chromium fonts-dejavu-core; }

clean:
	rm -rf $(VENV) build *.egg-info
