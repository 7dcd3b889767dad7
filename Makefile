# make demo   the whole story in minutes, on generated images
# make serve-demo   the same, as a page in the browser on which everything may be tried
# make quick  formatting, types and the fast tests: a minute or so on two idle cores
# make test   everything that a change must pass; the ten slowest tests are named at the end
# make coverage  the same tests, and what share of each module they run: reported, nothing depends on it
# make docs   the documentation as a site in build/site, with its links checked
# make stress  the tests under other instruction sets, numbers of threads, orders and loads: hours, or a part by
#              make stress STRESS="--only AVX2 tests/network"
# make bench  every benchmark; their results go to benchmarks/results. It takes a day, or a part of it by
#              make bench BENCH="--only gate.py metrics.py", and names those that it skips for want of data, as BENCH=--help says

PYTHON ?= python3
VENV   ?= .venv
PORT   ?= 8765
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
FAST   := tests/adapters tests/files tests/generations tests/indexing tests/losses tests/memory tests/network tests/retrieval \
	tests/strings tests/cli/test_hints.py tests/cli/test_usage.py tests/holdings/test_journal_and_notes.py \
	tests/methods/test_values.py tests/upgrade/test_gate.py tests/test_rooms.py tests/test_wording.py
# PyTorch's own wheels for this machine: where there is no GPU, those for the CPU alone, which are a tenth of the size.
TORCH  ?= $(shell nvidia-smi -L >/dev/null 2>&1 && echo auto || echo cpu)

# Where compiled modules may not be kept, each process that a test starts compiles the whole package anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo serve-demo quick test coverage stress lint docs bench clean

demo: $(READY)
	$(BIN)/evergallery demo

# The workspace is made once, and again after  make clean.
serve-demo: $(READY)
	@$(BIN)/python -m evergallery.cli.demo_pictures evergallery-demo
	@$(BIN)/evergallery serve --workspace evergallery-demo --port $(PORT) --allow-writes

quick: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	@$(BIN)/mypy & types=$$!; $(BIN)/python -m pytest -q $(FAST) && wait $$types

# Types are checked while tests wait for processes, browsers and servers that they have started.
test: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	@nice $(BIN)/mypy & types=$$!; $(BIN)/python -m pytest -n 2 --dist loadfile --durations=10; tests=$$?; \
		wait $$types && exit $$tests

coverage: $(READY)
	$(BIN)/python -m pytest -n 2 --dist loadfile --cov --cov-report=term:skip-covered --cov-report=html

stress: $(READY)
	$(BIN)/python tests/stress.py $(STRESS)

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --num-workers 2

bench: $(READY)
	$(BIN)/python benchmarks/every.py $(BENCH)

docs: $(READY)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt '.[docs]'
	$(BIN)/python docs/site.py build/pages
	$(BIN)/python -m mkdocs build --strict --quiet

INSTALL := $(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --constraint constraints.txt --editable '.[dev]'
# uv where it can be had, because it installs several times faster; else pip alone.
$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' || \
		{ echo "Evergallery needs Python 3.11, 3.12 or 3.13: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing into $(VENV): PyTorch is large, this takes a minute or more the first time."
	@if $(BIN)/python -m pip install --quiet --disable-pip-version-check uv 2>/dev/null; then \
		$(INSTALL) --torch-backend=$(TORCH) 2>$(VENV)/install.log || \
			{ echo "PyTorch's own wheels cannot be had here, or do not fit: taking those of the package index."; $(INSTALL); }; \
	else \
		$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'; \
	fi
	@touch $(READY)

clean:
	rm -rf $(VENV) evergallery-demo build dist
