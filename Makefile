# Both targets set up what they need, in .venv, on a fresh machine with Python 3.11 or later.
PYTHON ?= python3
INSTALLED := .venv/.installed
OLDEST_PYTHON := 3.11
# Threads that spin while they wait are slow where other processes want the cores too.
export OMP_WAIT_POLICY := PASSIVE
export PATH := $(CURDIR)/.venv/bin:$(PATH)

.PHONY: repro test lint lock docs benchmark clean

repro: $(INSTALLED)  ## run the pipeline and show what was found and repaired
	dvc repro
	python -m modelrepair show

test: $(INSTALLED) lint  ## run every test, a file at a time in each of two processes
	python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

lint: $(INSTALLED)
	ruff check .
	ruff format --check .
	mypy
	lint-imports --no-logo
	python scripts/stage_dependencies.py

docs: $(INSTALLED)  ## build the documentation into docs/_build; a link to nothing is an error
	python -m sphinx -q -W --keep-going docs docs/_build

benchmark: $(INSTALLED)  ## every case, or CASES; downloads MNIST unless FOLDER holds it; goes on where it was ended
	python benchmarks/repair.py $(CASES) $(if $(FOLDER),--folder $(FOLDER))

# Each file that is installed has one of the hashes of the lock. torch and torchvision have other files for CPUs and for each
# kind of GPU, on indices of their own: they are pinned by version, and what else they need is there before they come.
$(INSTALLED): requirements.lock requirements-torch.lock pyproject.toml
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --require-hashes --no-deps --requirement requirements.lock
	.venv/bin/python -m pip install --quiet --requirement requirements-torch.lock
	.venv/bin/python -m pip install --quiet --no-deps --editable .
	.venv/bin/python -m pip check
	touch $@

lock:  ## write the hashes of the versions in requirements.lock anew, after a change of one; uv must be installed
	uv pip compile --quiet --no-deps --universal --python-version $(OLDEST_PYTHON) --generate-hashes \
		--no-header --no-annotate --output-file requirements.lock requirements.lock > /dev/null

clean:  ## remove the environment and half-finished work
	rm -rf .venv .scratch
