# make demo   the whole story in minutes, on generated images
# make test   everything that a change must pass
# make bench  the speed benchmarks; their results go to benchmarks/results

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready

.PHONY: demo test lint bench clean

demo: $(READY)
	$(BIN)/evergallery demo

test: lint
	$(BIN)/python -m pytest -n 2 --dist loadfile

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(READY)
	$(BIN)/python benchmarks/adapters.py
	$(BIN)/python benchmarks/augmentation.py
	$(BIN)/python benchmarks/evaluation.py
	$(BIN)/python benchmarks/extraction.py
	$(BIN)/python benchmarks/extraction_memory.py

# uv where it can be had, because it installs several times faster; else pip alone.
$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' || \
		{ echo "Evergallery needs Python 3.11, 3.12 or 3.13: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing into $(VENV): PyTorch is large, this takes a minute or more the first time."
	@if $(BIN)/python -m pip install --quiet --disable-pip-version-check uv 2>/dev/null; then \
		$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --constraint constraints.txt --editable '.[dev]'; \
	else \
		$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'; \
	fi
	@touch $(READY)

clean:
	rm -rf $(VENV) evergallery-demo build dist
