# Everything from a fresh machine that has Python 3.11 and a package index: `make help` lists it.
# Paths in rules are relative, so the project may lie under a path with a space in it.

PYTHON ?= python3
VENV ?= .venv
# CPU builds. A bare `torch` would bring gigabytes of CUDA, and so might one that another package
# asks for: hence one exact version, installed in the same command as everything else.
TENSORFLOW ?= tensorflow-cpu
JAX ?= jax
TORCH ?= torch==2.13.0
# What compiles the kernels for CPUs; FAST= leaves it out.
FAST ?= fast
# A file of versions that pip is to keep to; `make test-oldest` writes one.
CONSTRAINTS ?=
# For `make test-python`.
OTHER_PYTHON ?= python3.13

# For `make demo` and `make bench`: QUICK=1 takes small sizes. ARGS goes to the example as it
# stands; BACKEND is the one to time, by default all of them.
# For `make fuzz` MINUTES is how long, on each backend.
QUICK ?=
BACKEND ?=
MINUTES ?= 1
ARGS ?=
DEMO_OUTPUT ?= demo-output
# For `make test-triton`: 1 runs the kernels in Triton's interpreter, which needs no GPU.
INTERPRET ?= 1
# For the suites; for example: make test-jax PYTEST_ARGS="-x -k lowpass"
PYTEST_ARGS ?= -n 2 --dist worksteal
# 1 leaves out nothing on TensorFlow and JAX, which else skip what would only compile longer.
WHOLE ?=
# For `make test-python` and `make test-oldest`, a part of the suite. `pythons` is what depends on the
# version of Python: files, public names, and how layers keep Keras's contract. `versions` is what depends
# on those of frameworks: also the kernels, which they compile and which run without Numba there.
PART ?=
pythons := tests/layers/test_contract.py tests/saving tests/recording tests/nir_format \
	tests/conversion/test_convert.py tests/test_spike_monitor.py tests/test_callbacks.py \
	tests/test_config.py tests/test_docstrings.py tests/test_lazy.py tests/test_signatures.py \
	tests/test_versions.py
versions := $(pythons) tests/kernels tests/layers/test_filters.py tests/layers/test_time_batched.py \
	tests/energy/test_layer_stats.py tests/test_regularizers.py tests/test_reset.py
part := --ignore=tests/examples --ignore=tests/gpu $(if $(PART),$($(PART)))

export TF_CPP_MIN_LOG_LEVEL ?= 2
# On a GPU both would otherwise take all of its memory, in every worker of a suite.
export TF_FORCE_GPU_ALLOW_GROWTH ?= true
export XLA_PYTHON_CLIENT_PREALLOCATE ?= false

empty :=
comma := ,
escaped_venv := $(subst $(empty) $(empty),\ ,$(VENV))
python := "$(VENV)/bin/python"
# PyTorch users need no Keras: their modules and example run where there is none.
torch_venv := $(escaped_venv)-torch
torch_python := "$(VENV)-torch/bin/python"
and_fast := $(if $(FAST),$(comma)$(FAST))
pip_install := $(python) -m pip install --disable-pip-version-check
demo_ready := $(escaped_venv)/.ready-for-demo
test_ready := $(escaped_venv)/.ready-for-test
docs_ready := $(escaped_venv)/.ready-for-docs
torch_ready := $(torch_venv)/.ready
triton_ready := $(escaped_venv)-triton/.ready
triton_python := "$(VENV)-triton/bin/python"
nir_ready := $(escaped_venv)-nir/.ready
nir_python := "$(VENV)-nir/bin/python"
spyx_ready := $(escaped_venv)-spyx/.ready
spyx_python := "$(VENV)-spyx/bin/python"
results := .test-results

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
# Every step uses all cores by itself, and two pips must not work in one environment at once.
.NOTPARALLEL:
.PHONY: help demo demo-torch bench bench-conversion test lint types format test-tensorflow test-jax \
	test-torch test-pytorch test-package test-triton test-nir test-oldest test-python test-summary fuzz \
	docs test-docs clean

help: ## List these commands
	@awk -F ':.*## ' '/^[a-z][a-z -]*:.*## / {printf "  make %-38s %s\n", $$1, $$2}' Makefile

demo: $(demo_ready) ## Install, and run the Fashion-MNIST example (QUICK=1: under a minute)
	KERAS_BACKEND=tensorflow MPLBACKEND=Agg $(python) examples/spiking_fashion_mnist.py \
		--brief --output "$(DEMO_OUTPUT)" $(if $(filter-out 0,$(QUICK)),--quick) $(ARGS)

demo-torch: $(torch_ready) ## The same for PyTorch, without Keras (QUICK=1: under a minute)
	$(torch_python) examples/spiking_fashion_mnist_torch.py \
		--brief --output "$(DEMO_OUTPUT)/torch" $(if $(filter-out 0,$(QUICK)),--quick) $(ARGS)

bench: $(test_ready) ## Time the layers beside their limits (BACKEND=jax, QUICK=1)
	MPLBACKEND=Agg $(python) -m benchmarks $(if $(BACKEND),--backend $(BACKEND)) \
		$(if $(filter-out 0,$(QUICK)),--quick --output bench-output,--output benchmarks)

bench-conversion: $(test_ready) ## Hold converted networks beside one another (BACKEND=jax, QUICK=1)
	MPLBACKEND=Agg $(if $(BACKEND),KERAS_BACKEND=$(BACKEND)) $(python) -m benchmarks.conversion \
		$(if $(filter-out 0,$(QUICK)),--quick --output bench-output,--output benchmarks) $(ARGS)

test: lint types test-package test-tensorflow test-jax test-torch test-pytorch ## Install, lint, check types, run the suite on every backend
	@$(python) -m coverage combine --quiet --keep --data-file=$(results)/coverage \
		$(results)/tensorflow.coverage $(results)/jax.coverage $(results)/torch.coverage \
		$(results)/pytorch.coverage
	$(python) -m coverage report --data-file=$(results)/coverage
	@$(MAKE) --no-print-directory test-summary

lint: $(test_ready) ## Check style and format
	$(python) -m ruff check .
	$(python) -m ruff format --check .

types: $(test_ready) ## Check types
	$(python) -m mypy

format: $(test_ready) ## Fix style and format where that is safe
	$(python) -m ruff check --fix .
	$(python) -m ruff format .

# Workers of a suite share what JAX compiles.
test-jax: export JAX_COMPILATION_CACHE_DIR = $(CURDIR)/$(results)/jax-cache
test-jax: export JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS = 0
test-jax: export JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES = -1

# Coverage of one backend alone is low by design; `make test` judges that of all three.
test-tensorflow test-jax test-torch: test-%: $(test_ready) ## Run the suite on one backend
	@mkdir -p $(results)
	KERAS_BACKEND=$* COVERAGE_FILE=$(results)/$*.coverage $(python) -m pytest \
		--ignore=tests/pytorch --ignore=tests/docs --ignore=tests/nir $(if $(filter-out 0,$(WHOLE)),--whole) \
		--cov --cov-report= --cov-fail-under=0 --junitxml=$(results)/$*.xml $(PYTEST_ARGS)

test-pytorch: $(torch_ready) ## Test the PyTorch modules where there is no Keras
	@mkdir -p $(results)
	COVERAGE_FILE=$(results)/pytorch.coverage $(torch_python) -m pytest \
		--confcutdir=tests/pytorch tests/pytorch \
		--cov --cov-report= --cov-fail-under=0 --junitxml=$(results)/pytorch.xml $(PYTEST_ARGS)

# What a package index would show and serve: the README renders, the licence and the files are there.
test-package: $(test_ready) ## Build the package, and check what an index would make of it
	@rm -rf $(results)/package
	$(python) -m build --outdir $(results)/package
	$(python) -m twine check --strict $(results)/package/*

# A font cache of its own: that of another environment may name fonts that are gone, which is a warning.
docs: $(docs_ready) ## Build the documentation into docs/_build/html (warnings are errors)
	MPLCONFIGDIR="$(CURDIR)/docs/_build/matplotlib" $(python) -m sphinx --jobs auto \
		--fail-on-warning --keep-going --nitpicky --quiet -b html docs docs/_build/html
	$(python) -m pytest --confcutdir=tests/docs -q tests/docs/test_links.py
	@echo "Open docs/_build/html/index.html"

test-docs: $(docs_ready) ## Read the built documentation in a headless browser (after `make docs`)
	@mkdir -p $(results)
	$(python) -m pytest --confcutdir=tests/docs tests/docs --junitxml=$(results)/docs.xml

# Both run without Numba, and without the examples' tests and what is not in the package.
test-oldest: ## Run the suite on the oldest versions that pyproject.toml allows (BACKEND=jax)
	@mkdir -p $(results)/oldest
	$(PYTHON) tests/oldest.py > $(results)/oldest/constraints.txt
	$(MAKE) --no-print-directory $(addprefix test-,$(or $(BACKEND),tensorflow jax torch)) \
		VENV="$(VENV)-oldest" \
		results=$(results)/oldest FAST= CONSTRAINTS=$(results)/oldest/constraints.txt \
		PYTEST_ARGS="$(part) $(PYTEST_ARGS)"

# Without PyTorch: its builds for a CPU are not to be had for every Python.
test-python: ## Run the suite on OTHER_PYTHON=python3.13, without PyTorch (BACKEND=jax)
	$(MAKE) --no-print-directory $(addprefix test-,$(or $(BACKEND),tensorflow jax)) \
		VENV="$(VENV)-$(OTHER_PYTHON)" \
		results=$(results)/$(OTHER_PYTHON) PYTHON=$(OTHER_PYTHON) TORCH= FAST= \
		PYTEST_ARGS="$(part) $(PYTEST_ARGS)"

fuzz: $(test_ready) ## Try random models for MINUTES=1 on each backend (BACKEND=jax, ARGS="--replay 7")
	@failed=0; for backend in $(or $(BACKEND),tensorflow jax torch); do \
		KERAS_BACKEND=$$backend $(python) -m tests.fuzz --minutes $(MINUTES) $(ARGS) || failed=1; \
	done; exit $$failed

# In the interpreter, on a CPU. On a GPU: make test-triton INTERPRET=0 TORCH=torch
test-triton: $(triton_ready) ## Test the kernels in Triton, which are not in the package yet
	@mkdir -p $(results)
	TRITON_INTERPRET=$(INTERPRET) $(triton_python) -m pytest --confcutdir=tests/gpu tests/gpu \
		--junitxml=$(results)/triton.xml $(PYTEST_ARGS)

# Keras writes graphs; then the simulators that run on PyTorch read them, and the one on JAX.
test-nir: $(test_ready) $(nir_ready) $(spyx_ready) ## Hold other simulators' spikes against those of Keras
	KERAS_BACKEND=$(or $(BACKEND),torch) $(python) -m tests.nir.export $(results)/nir
	$(nir_python) -m pytest --confcutdir=tests/nir tests/nir --junitxml=$(results)/nir.xml
	$(spyx_python) -m pytest --confcutdir=tests/nir tests/nir --junitxml=$(results)/spyx.xml

test-summary:
	@$(python) -c "$$summary" $(results)/tensorflow.xml $(results)/jax.xml $(results)/torch.xml \
		$(results)/pytorch.xml $(wildcard $(results)/nir.xml $(results)/spyx.xml $(results)/docs.xml)

clean: ## Remove everything that the commands above made, .venv included
	rm -rf .venv .venv-torch .venv-triton .venv-nir .venv-spyx .venv-oldest .venv-python3* $(results) \
		demo-output bench-output docs/_build build dist .coverage .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# All use one environment: each command installs no more of it than it needs.
$(escaped_venv)/pyvenv.cfg $(torch_venv)/pyvenv.cfg $(escaped_venv)-triton/pyvenv.cfg \
		$(escaped_venv)-nir/pyvenv.cfg $(escaped_venv)-spyx/pyvenv.cfg:
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(v < (3, 11) and \
		f"Python 3.11 or newer is needed; $(PYTHON) is {v[0]}.{v[1]}: try make PYTHON=python3.11")'
	$(PYTHON) -m venv "$$(dirname "$@")"
	@echo '*' > "$$(dirname "$@")/.gitignore"

$(demo_ready): $(escaped_venv)/pyvenv.cfg pyproject.toml Makefile
	$(pip_install) --editable ".[viz$(and_fast)]" "$(TENSORFLOW)"
	@touch "$(VENV)/.ready-for-demo"

$(test_ready): $(escaped_venv)/pyvenv.cfg pyproject.toml Makefile
	$(pip_install) --editable ".[dev$(and_fast)]" "$(TENSORFLOW)" "$(JAX)" $(if $(TORCH),"$(TORCH)") \
		$(if $(CONSTRAINTS),--constraint $(CONSTRAINTS))
	@touch "$(VENV)/.ready-for-test"

# PyTorch for the reference of its modules and the page on them; the other pages run on TensorFlow.
$(docs_ready): $(escaped_venv)/pyvenv.cfg pyproject.toml Makefile
	$(pip_install) --editable ".[docs,viz]" "$(TENSORFLOW)" "$(TORCH)"
	@touch "$(VENV)/.ready-for-docs"

# Without its dependencies, for Keras is one of them.
$(torch_ready): $(torch_venv)/pyvenv.cfg pyproject.toml Makefile
	$(torch_python) -m pip install --disable-pip-version-check "$(TORCH)" numpy \
		$(if $(FAST),numba) matplotlib tqdm "pytest>=8.2" "pytest-cov>=7" pytest-xdist scipy
	$(torch_python) -m pip install --disable-pip-version-check --no-deps --editable .
	@touch "$(VENV)-torch/.ready"

# A CPU build of PyTorch does not bring Triton.
$(triton_ready): $(escaped_venv)-triton/pyvenv.cfg pyproject.toml Makefile
	$(triton_python) -m pip install --disable-pip-version-check "$(TORCH)" numpy triton \
		"pytest>=8.2" pytest-xdist
	$(triton_python) -m pip install --disable-pip-version-check --no-deps --editable .
	@touch "$(VENV)-triton/.ready"

# sinabs asks for an older nir, and for drivers of chips; SpikingJelly for much that has no part here.
$(nir_ready): $(escaped_venv)-nir/pyvenv.cfg Makefile
	$(nir_python) -m pip install --disable-pip-version-check "$(TORCH)" nir==1.0.8 nirtorch==2.6 \
		snntorch==1.0.0 "pytest>=8.2" scipy tqdm matplotlib pbr loguru requests packaging
	$(nir_python) -m pip install --disable-pip-version-check --no-deps sinabs==3.1.3 spikingjelly==2.0.0
	@touch "$(VENV)-nir/.ready"

$(spyx_ready): $(escaped_venv)-spyx/pyvenv.cfg Makefile
	$(spyx_python) -m pip install --disable-pip-version-check spyx==1.0.0 nir==1.0.8 "pytest>=8.2"
	@touch "$(VENV)-spyx/.ready"

define summary
import sys
from pathlib import Path
from xml.etree import ElementTree

total = [0, 0, 0]
for path in map(Path, sys.argv[1:]):
    suite = ElementTree.parse(path).getroot().find("testsuite")
    failed = int(suite.get("failures")) + int(suite.get("errors"))
    skipped = int(suite.get("skipped"))
    counts = [int(suite.get("tests")) - failed - skipped, failed, skipped]
    total = [sum(pair) for pair in zip(total, counts)]
    print("{}: {} passed, {} failed, {} skipped".format(path.stem, *counts))
print("total: {} passed, {} failed, {} skipped".format(*total))
endef
export summary
