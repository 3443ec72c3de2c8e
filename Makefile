# make run        start the app on 127.0.0.1:8501
# make test       every test but those that need CUDA, and the benchmarks; two at a time, WORKERS=6 for six
# make test-gpu   the CUDA tests, with the active Python (torch and transformers installed; no virtual environment)
# make messages   collect the interface's texts into the catalogue and compile it
# make lint       ruff
# make clean      remove what the others made
#
# Needs a POSIX shell and Python 3.11 or newer; `make run PYTHON=python3.12` picks another one.

PYTHON ?= python3
PORT ?= 8501
WORKERS ?= 2
VENV = .venv
RUN = $(VENV)/.run-$(shell cat requirements.txt | cksum | cut -d ' ' -f 1)
TEST = $(VENV)/.test-$(shell cat requirements.txt tests/requirements.txt | cksum | cut -d ' ' -f 1)
PIP = $(VENV)/bin/python -m pip --disable-pip-version-check install --quiet --requirement

.PHONY: run test test-gpu messages lint clean environment app tools

run: app
	@echo "The Attention Microscope starts at http://127.0.0.1:$(PORT) (Ctrl+C stops it)"
	@exec $(VENV)/bin/python -m streamlit run app.py --server.port $(PORT)

test: tools
	@BROWSER_PATH="$$($(VENV)/bin/python tests/find_browser.py)" || exit 1; export BROWSER_PATH; \
	$(VENV)/bin/python -m pytest -n $(WORKERS) --dist worksteal $(ARGS) && \
	$(VENV)/bin/python -m ruff check .

test-gpu:
	@$(PYTHON) tests/check_gpu.py
	@$(PYTHON) -m pytest -m gpu tests $(ARGS)

messages: tools
	@$(VENV)/bin/python tests/messages.py

lint: tools
	@$(VENV)/bin/python -m ruff check .

environment:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "Expected Python 3.11 or newer; got: $$($(PYTHON) --version 2>&1)." \
		"Install a newer one, or name it: make run PYTHON=python3.12" >&2; exit 1; }
	@$(VENV)/bin/python -c 'import sys, pip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo "Making the virtual environment $(VENV) ..."; $(PYTHON) -m venv --clear $(VENV); } || { \
		echo "Expected the venv module; Python could not make $(VENV)." \
		"On Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }

# A stamp's name holds the checksum of what it stands for: changed requirements are installed, the same ones are not.
app: environment
	@test -f $(RUN) || { \
		echo "Installing what the app needs into $(VENV) (the first time takes some minutes) ..."; \
		$(PIP) requirements.txt && rm -f $(VENV)/.run-* && touch $(RUN); }

tools: app
	@test -f $(TEST) || { \
		echo "Installing what the tests need into $(VENV) ..."; \
		$(PIP) tests/requirements.txt && rm -f $(VENV)/.test-* && touch $(TEST); }

clean:
	@rm -rf $(VENV) build .pytest_cache .ruff_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
