PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.PHONY: setup demo reproduce gallery docs test lint types package browser

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

reproduce: setup
	$(BIN)/tts-jax reproduce --profile paper --out out/reproduce

# Every experiment, and the pages of docs/gallery that show what it found: about ten minutes.
gallery: setup
	rm -rf out/gallery
	$(BIN)/python docs/hooks/gallery.py

# The variable silences an advertisement of the theme.
docs: setup
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	@echo 'open out/docs/index.html'

# A test opens the page of `reproduce` in Chromium, and skips where there is none.
browser:
	@for browser in chromium chromium-browser google-chrome google-chrome-stable; do \
	  command -v $$browser && exit 0; \
	done; \
	{ test "$$(id -u)" = 0 && apt-get update --quiet && apt-get install --yes --quiet chromium; } || \
	  echo 'no Chromium, and it cannot be installed here: the test that needs it skips'

test: setup
	$(BIN)/python -m pytest -n 2 --dist loadfile --max-worker-restart 1

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup
	$(BIN)/mypy

# Wheel and sdist, to dist: complete, and the wheel at work in an empty environment.
package: setup
	rm -rf dist
	$(BIN)/python -m build --outdir dist
	$(BIN)/python .ci/package.py
