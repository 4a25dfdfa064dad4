# `make demo` trains and tests the quickstart; `make check` takes minutes, `make test` is the whole check, and
# `make test-oldest` tries the oldest releases that pyproject.toml allows. Each installs what it needs.
PYTHON ?= python3
VENV := .venv
BIN := $(CURDIR)/$(VENV)/bin
RUNS := runs/quickstart
OLDEST := .venv-oldest
# By as many processes as there are processors to spare; a file's tests stay together, as do the fixtures they share.
# Both are to name tests alike, sets in them too.
JOBS ?= 2
PYTEST := -m pytest -n $(JOBS) --dist loadfile

.PHONY: demo check test test-oldest lint types types-of-windows docs browser clean

demo: $(VENV)/demo
	$(BIN)/nar fit --config scripts/configs/quickstart.yaml $$(test -f $(RUNS)/last.ckpt && echo --ckpt_path last)
	$(BIN)/nar test --ckpt_path $(RUNS)/best.ckpt

check: lint types
	PYTHONSAFEPATH=1 PYTHONHASHSEED=0 $(BIN)/python $(PYTEST) -m "not slow"

test: lint types types-of-windows docs browser $(VENV)/torch-scatter
	PYTHONSAFEPATH=1 PYTHONHASHSEED=0 $(BIN)/python $(PYTEST)

# pip takes torch from where it is configured to (PIP_INDEX_URL), so that may be a build for CPUs alone. Old releases warn
# beside new ones of what they need, which is no fault of ours.
test-oldest:
	$(PYTHON) -m venv $(OLDEST)
	$(PYTHON) .ci/oldest > $(OLDEST)/constraints.txt
	$(OLDEST)/bin/pip install -q --disable-pip-version-check -c $(OLDEST)/constraints.txt torch
	$(OLDEST)/bin/pip install -q --disable-pip-version-check -c $(OLDEST)/constraints.txt -e ".[test]"
	PYTHONSAFEPATH=1 PYTHONHASHSEED=0 $(OLDEST)/bin/python $(PYTEST) -m "not slow" -W default

lint: $(VENV)/test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

# Editable installs hide the mapped folders from mypy: it checks an ordinary one, and must find every file of it.
types: $(VENV)/test
	rm -rf build
	$(BIN)/pip install -q --no-deps --no-build-isolation --target build/types .
	rm -rf build/types/nar/pretrained # weights alone, which mypy would take for packages
	cd tests && MYPYPATH=../build/types $(BIN)/mypy --config-file ../pyproject.toml -p nar | tee ../build/mypy.txt
	grep -q "no issues found in $$(find nar processors hybrid datasets -name '*.py' | wc -l) source files" build/mypy.txt

# What Windows lacks is found by types too.
types-of-windows: types
	cd tests && MYPYPATH=../build/types $(BIN)/mypy --config-file ../pyproject.toml --platform win32 --cache-dir .mypy_cache/win32 -p nar

# The reference is made of the same installation, which is why it comes after the types.
docs: types
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict -q

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
	rm -rf $(VENV) $(OLDEST) build *.egg-info
