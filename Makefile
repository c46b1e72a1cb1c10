PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.PHONY: setup demo test lint types

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: setup
	$(BIN)/tts-jax run two-timescale --profile paper --out out/two-timescale
	$(BIN)/tts-jax run same-step --profile paper --out out/same-step
	@printf '\nThe figures of the paper, drawn anew:\n'
	@ls -1 out/two-timescale/*.png out/two-timescale/*.gif out/same-step/*.png out/same-step/*.gif

test: setup
	$(BIN)/python -m pytest -n 2 --dist loadfile

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup
	$(BIN)/mypy
