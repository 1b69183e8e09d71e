# Short names for what start.py does, and for the tools of those who work on the project. Two commands do
# everything on a fresh machine:   make lab   and   make test   (without make: python start.py lab)

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PYDEVD_DISABLE_FILE_VALIDATION := 1
export HF_HUB_OFFLINE ?= 1

.PHONY: help lab test test-all lint notebooks catalogue explainer vendor site site-check pictures scoreboard bench gpu lock clean

help:
	@echo "make lab        set up and open JupyterLab on the first notebook; in Chinese: make lab ACCUM_LANGUAGE=zh"
	@echo "make test       set up and run the checks and tests (about ten minutes)"
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
	@echo "make lock       rewrite constraints.txt and hashes/ from the versions in .venv"
	@echo "make clean      remove .venv and caches"

# --- Set-up: start.py does it, and leaves a stamp for each part

$(VENV)/lab: requirements.txt constraints.txt pyproject.toml start.py
	@$(PYTHON) start.py set-up lab
	@touch $@

$(VENV)/test: $(VENV)/lab requirements-dev.txt
	@$(PYTHON) start.py set-up test
	@touch $@

# --- What one does with it

lab:
	@$(PYTHON) start.py lab

test:
	@$(PYTHON) start.py test

test-all:
	@$(PYTHON) start.py test-all

lint:
	@$(PYTHON) start.py lint

notebooks: $(VENV)/test
	@$(BIN)/python tools/notebooks.py build

catalogue: $(VENV)/test
	@$(BIN)/python tools/catalogue.py extract

explainer: $(VENV)/lab
	@$(BIN)/python -m explainer.build

site:
	@$(PYTHON) start.py site

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
	@$(BIN)/python benchmarks/windows_by_tokens.py

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
	@$(BIN)/python tools/hashes.py

clean:
	rm -rf $(VENV) build .pytest_cache .hypothesis .mypy_cache .ruff_cache .import_linter_cache
