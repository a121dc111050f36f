# `make demo` and `make test` are all a newcomer needs: the first of them to run also sets up .venv.
PYTHON ?= python3
WORKERS ?= 2
BIN := .venv/bin
STAMP := .venv/.installed

.DEFAULT_GOAL := help
.PHONY: help demo test browser reproduce lab student teacher slides clean

help: ## Show this list
	@echo "Usage: make TARGET    (the first time, it sets up .venv: some minutes)"
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1|\2/p' Makefile | awk -F'|' '{ printf "%-12s %s\n", $$1, $$2 }'
	@echo "  Variables: PYTHON=python3.12 (to make .venv with), WORKERS=2 (notebooks tested at once), ARGS=... (for demo, reproduce and lab)"
	@echo "  On Linux without an NVIDIA GPU, PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu saves gigabytes of download."

demo: $(STAMP) ## Make a video with the weights in the package (more options: ARGS="--help")
	@$(BIN)/millivid demo $(ARGS)

test: $(STAMP) ## Check the package and every notebook
	@echo "== 1/4 ruff: undefined names and the like, lines that are too long to read"
	@$(BIN)/ruff check millivid tests
	@$(BIN)/ruff check --select E501 --no-cache nbs tests
	@echo "== 2/4 the package is what the notebooks export, the notebooks are clean"
	@$(BIN)/python tests/check_notebooks.py
	@echo "== 3/4 the notebooks run, $(WORKERS) at a time"
	@OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 PYTHONUNBUFFERED=1 $(BIN)/nbdev_test --n_workers $(WORKERS) --do_print --timing
	@echo "== 4/4 pytest"
	@$(BIN)/python -m pytest -q -n $(WORKERS) --dist loadfile tests

browser: $(STAMP) ## Try lessons and widgets in JupyterLab and Chromium (screenshots: out/browser)
	@$(BIN)/python -m pytest -q -rs tests/test_browser.py

reproduce: $(STAMP) ## Train and judge every model of the comparison: hours (a lab of some minutes: ARGS=--quick)
	@$(BIN)/millivid reproduce $(ARGS)

lab: $(STAMP) ## Open the notebooks in JupyterLab
	@$(BIN)/jupyter lab $(ARGS) nbs

student: $(STAMP) ## Copies of the notebooks without solutions, in out/student (what you changed there stays)
	@$(BIN)/python nbs/_course.py student

teacher: $(STAMP) ## Complete copies of the notebooks, in out/teacher
	@$(BIN)/python nbs/_course.py teacher

slides: $(STAMP) ## Slides for each lesson, made from its notebook, in out/slides (a double click opens one)
	@$(BIN)/python nbs/_slides.py

clean: ## Remove what demo, tests and documentation left (keeps .venv, out/student, out/teacher and trained runs)
	[ ! -d out ] || find out -mindepth 1 -maxdepth 1 ! -name student ! -name teacher -exec rm -rf {} +
	rm -rf build dist _docs _proc nbs/_docs nbs/nbdev.yml .quarto nbs/.quarto *.egg-info .pytest_cache .ruff_cache .hypothesis
	find millivid tests nbs -name __pycache__ -prune -exec rm -rf {} +
	find nbs -name .ipynb_checkpoints -prune -exec rm -rf {} +

$(STAMP): pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null 2>&1 || \
	  { echo "No $(PYTHON) here. Install Python 3.10 or newer, or name yours: make PYTHON=/path/to/python3 ..." >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
	  { echo "$(PYTHON) is $$($(PYTHON) --version 2>&1); millivid needs Python 3.10 or newer: make PYTHON=python3.12 ..." >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || \
	  { echo "$(PYTHON) cannot make virtual environments. On Debian and Ubuntu: sudo apt install python3-venv" >&2; exit 1; }
	@echo "Setting up .venv (only the first time, and when pyproject.toml or constraints.txt changes)"
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt -e '.[dev,doom,train]'
	@touch $@
