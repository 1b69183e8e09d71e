# Two commands do everything on a fresh machine:   make lab   and   make test
# Both build .venv first, print what they are doing, and take seconds from the second run on.

PYTHON ?= python3
VENV := .venv
UV := 0.13.9
BIN := $(VENV)/bin
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PYDEVD_DISABLE_FILE_VALIDATION := 1
export HF_HUB_OFFLINE ?= 1
# Else each of many processes compiles the modules of PyTorch and Transformers again: five seconds each.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help lab test test-all lint notebooks catalogue explainer vendor site site-check pictures scoreboard bench gpu lock clean

help:
	@echo "make lab        set up and open JupyterLab on the first notebook; in Chinese: make lab ACCUM_LANGUAGE=zh"
	@echo "make test       set up and run the checks and tests (about twenty minutes)"
	@echo "make test-all   the same with more random cases, more settings, and whole scripts (an hour)"
	@echo "make lint       style, types, dead code, import contracts, notebooks against their scripts, translations"
	@echo "make notebooks  rebuild the notebooks from notebooks/src, in every language"
	@echo "make explainer  the visual explainer: build/explainer.html, one file that needs no kernel and no network"
	@echo "make site       the course as live pages in build/site, which need no kernel and no network; and course.zip"
	@echo "make site-check links, sizes and requests of build/site, before it is uploaded: FOLDER=... for another"
	@echo "make catalogue  take up new and changed texts for translation"
	@echo "make pictures   take the pictures of the explorers again (needs Chromium)"
	@echo "make scoreboard try the installed frameworks against one big batch"
	@echo "make bench      time our loops beside others, the noise scale, predictions (ten minutes)"
	@echo "make gpu        compare predictions of memory with this machine's GPU, and measure RoBERTa on it"
	@echo "make lock       rewrite constraints.txt from the versions in .venv"
	@echo "make clean      remove .venv and caches"

# --- Set-up: each stamp records that its part is installed

$(VENV)/python:
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(v < (3, 11) and "Python 3.11 or newer is needed; %s is %d.%d. Name another one: make PYTHON=python3.11 ..." % (sys.executable, v[0], v[1]) or 0)'
	@echo "Making a virtual environment in $(VENV) ..."
	@$(PYTHON) -m venv $(VENV)
	@touch $@

# uv installs the same pinned versions as pip in a quarter of the time; where it is not to be had, pip does it.
# torch goes first, by pip: pip's own settings (an index of CPU builds, a folder of wheels) say which build.
define install
@$(BIN)/python -m uv --version >/dev/null 2>&1 || $(BIN)/python -m pip install --quiet uv==$(UV) 2>/dev/null || true
@if $(BIN)/python -m uv --version >/dev/null 2>&1; then \
  $(BIN)/python -m uv pip install --quiet --python $(BIN)/python $(1) || $(BIN)/python -m pip install --quiet $(1); \
else $(BIN)/python -m pip install --quiet $(1); fi
endef

$(VENV)/lab: $(VENV)/python requirements.txt constraints.txt pyproject.toml
	@echo "Installing what the notebooks need (once; about a minute) ..."
	@$(BIN)/python -m pip install --quiet --no-deps $$(grep '^torch==' requirements.txt)
	$(call install,-r requirements.txt -c constraints.txt)
	@$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/test: $(VENV)/lab requirements-dev.txt
	@echo "Installing what the tests need (once) ..."
	$(call install,-r requirements-dev.txt -c constraints.txt)
	@touch $@

# --- What one does with it

FIRST = notebooks/$(addsuffix /,$(filter-out en,$(ACCUM_LANGUAGE)))00_start_here.ipynb

lab: $(VENV)/lab
	@test -f $(FIRST) || { echo "There are no notebooks in the language '$(ACCUM_LANGUAGE)': take en or zh."; exit 2; }
	@echo "Opening JupyterLab on $(FIRST) (Ctrl-C twice ends it) ..."
	@JUPYTER_CONFIG_PATH=$(CURDIR)/tools/jupyter $(BIN)/jupyter lab $(FIRST) $(LAB_FLAGS)

# Number of processes among which the tests are divided.
WORKERS ?= 2

test: $(VENV)/test lint
	@echo "Running the tests, every notebook, and the browser suite ..."
	@$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --durations=15

# What is marked slow is more of the same; the thorough profile draws more cases.
test-all: $(VENV)/test lint
	@echo "Running all tests, the slow ones too ..."
	@$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --durations=15 \
	  -m "slow or not slow" --hypothesis-profile=thorough

lint: $(VENV)/test
	@echo "Checking style, types, dead code, import contracts, notebooks against their scripts, translations ..."
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/vulture
	@$(BIN)/lint-imports
	@$(BIN)/python tools/notebooks.py check
	@$(BIN)/python tools/catalogue.py check

notebooks: $(VENV)/test
	@$(BIN)/python tools/notebooks.py build

catalogue: $(VENV)/test
	@$(BIN)/python tools/catalogue.py extract

explainer: $(VENV)/lab
	@$(BIN)/python -m explainer.build

site: $(VENV)/lab
	@$(BIN)/python -m web.build --zip

site-check: $(VENV)/lab
	@$(BIN)/python -m web.check $(FOLDER)

# Only to renew what the explainer draws with; its bundle is committed, so that others need no Node.
vendor:
	@cd explainer/vendor && npm ci --ignore-scripts --silent && npm run --silent build
	@$(PYTHON) explainer/vendor/licences.py

pictures: $(VENV)/test
	@mkdir -p docs/pictures
	@$(BIN)/python -m pytest -q tests/browser -m "slow or not slow" -k pictures --pictures docs/pictures

scoreboard: $(VENV)/test
	@echo "Trying the installed frameworks (about half a minute) ..."
	@$(BIN)/python -m accum_lib scoreboard

bench: $(VENV)/test
	@echo "Timing the loop, the noise scale, predictions of memory, RoBERTa (ten minutes) ..."
	@$(BIN)/python benchmarks/loop_overhead.py
	@$(BIN)/python benchmarks/noise_scale.py
	@$(BIN)/python benchmarks/memory_prediction.py
	@$(BIN)/python benchmarks/roberta_throughput.py

# Both are run, whatever the first one finds; the committed results of another machine stay as they are.
gpu: $(VENV)/lab
	@mkdir -p build/gpu
	@echo "Measuring on the GPU; the results go to build/gpu (up to twenty minutes) ..."
	-@$(BIN)/python benchmarks/gpu/memory_grid.py --device cuda --out build/gpu/memory_grid.json
	@$(BIN)/python benchmarks/gpu/roberta_lab.py --device cuda --out build/gpu/roberta_lab.json

# Versions of everything that gets installed, also of what the requirements need in their turn. A local
# label such as +cpu names one build and would not be found on another machine.
lock: $(VENV)/test
	@$(BIN)/python -m pip freeze --exclude-editable | sed -E 's/\+[A-Za-z0-9.]+$$//' > constraints.txt

clean:
	rm -rf $(VENV) build .pytest_cache .hypothesis .mypy_cache .ruff_cache .import_linter_cache
