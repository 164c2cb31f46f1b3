# Every command of the project. `make` alone lists them; PYTHON=... and VENV=... choose others.
# The environment is brought up to date when setup.py or the constraints change.

SHELL := bash
PYTHON ?= python3
VENV ?= .venv
UPSTREAM := .venv-upstream
CONSTRAINTS := requirements/constraints.txt
UPSTREAM_PINS := requirements/constraints-upstream.txt
STAMP := $(VENV)/.installed
UPSTREAM_STAMP := $(UPSTREAM)/.installed

export PIP_DISABLE_PIP_VERSION_CHECK := 1
# setuptools prints a framed warning about every editable install
QUIET := PYTHONWARNINGS=ignore

# The published BEiT-3 code, for the tests to compare with; it would bring an old timm along.
TORCHSCALE := -m pip install --quiet --no-deps -c $(CONSTRAINTS) torchscale

# Test files that run at a time, with one thread of torch each; a process takes about 1.5 GB.
JOBS ?= 2
PARALLEL_TESTS = env OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest -q -n $(JOBS) --dist loadfile

# Limits of oneDNN and of torch's own kernels. Never name more for torch than the processor has.
ISAS := SSE41,ATEN_CPU_CAPABILITY=default AVX2,ATEN_CPU_CAPABILITY=avx2 AVX512_CORE
ISA_TESTS := tests/test_models tests/test_ops

# pip prints hundreds of lines: keep downloads from 10 MB, builds and the end; errors go to stderr.
PIP_LINES := { grep --line-buffered -oE \
	'(Downloading|Using cached) .*\([0-9]{2,}\.[0-9]+ MB\)|.*\([0-9.]+ GB\)|Building wheel for [^ ]+ .*started|Installing collected packages' \
	|| true; }

# $(call new_env,FOLDER): a fresh virtual environment with a current pip
define new_env
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' \
		|| { echo "mmbeit3 needs Python 3.10 or newer as $(PYTHON); use: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' \
		|| { echo "$(PYTHON) cannot make environments; on Debian or Ubuntu: apt install python3-venv" >&2; exit 1; }
	@$(PYTHON) -m venv $(1)
	@$(1)/bin/python -m pip install --quiet --upgrade pip
endef

TOWERS := beit3-tiny-pretraining-images_128_shapes beit3-tiny-pretraining-seg_128_shapes
MODELS := cascade-mask-rcnn_beit3-tiny_shapes/iter_700 mask2former_beit3-tiny_shapes/iter_900 \
	beit3-tiny-pretraining_64_shapes/iter_5000

# Python of the machine that benchmarks/gpu.sh runs on, and packages that it has besides torch.
GPU_PYTHON ?= 3.12
GPU_HAS ?=

.PHONY: help env demo weights test test-all test-isa lint types test-upstream test-notebooks docs gpu-wheels clean

help:  ## list the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-14s %s\n", $$1, $$2 }' Makefile

env: $(STAMP)  ## create .venv with everything the project needs (a few GB, a few minutes)

demo: env  ## generate data, train a tiny detector and segmentor, evaluate them, draw
	@$(VENV)/bin/python tools/demo.py

weights: env  ## pretrain the towers of weights/ anew, and train models from them (two hours)
	$(VENV)/bin/mmbeit3 make-shapes --plain --size 64 --out data/plain --train 3000 --val 200 --held-out 3
	$(VENV)/bin/mmbeit3 train edge-codes-tiny_64_shapes
	$(VENV)/bin/mmbeit3 train beit3-tiny-pretraining_64_shapes
	$(VENV)/bin/mmbeit3 make-shapes --out data/shapes_pretraining --train 10000 --val 200 --seed 1
	$(VENV)/bin/mmbeit3 make-shapes --out data/shapes
	$(VENV)/bin/mmbeit3 train edge-codes-tiny_128_shapes
	@set -e; for tower in $(TOWERS); do \
		$(VENV)/bin/mmbeit3 train $$tower; \
		$(VENV)/bin/mmbeit3 convert work_dirs/$$tower/iter_6000.pth weights/$$tower.safetensors; \
	done
	$(VENV)/bin/mmbeit3 train cascade-mask-rcnn_beit3-tiny_shapes \
		--cfg-options load_from=weights/$(word 1,$(TOWERS)).safetensors
	$(VENV)/bin/mmbeit3 train mask2former_beit3-tiny_shapes \
		--cfg-options load_from=weights/$(word 2,$(TOWERS)).safetensors
	@set -e; for model in $(MODELS); do \
		$(VENV)/bin/mmbeit3 publish work_dirs/$$model.pth weights/$$(dirname $$model).safetensors --half; \
	done
	sha256sum weights/*.safetensors

test: env  ## run the tests, two files at a time (JOBS=4: four)
	@$(PARALLEL_TESTS)

test-all: env  ## run the tests, the slow ones too
	@$(PARALLEL_TESTS) -m "slow or not slow"

test-isa: env  ## run what depends on the processor's instructions with fewer of them (x86)
	@set -e; for isa in $(ISAS); do \
		limits="ONEDNN_MAX_CPU_ISA=$${isa//,/ }"; \
		echo "-- $$limits"; \
		env $$limits $(VENV)/bin/python -m pytest -q $(ISA_TESTS); \
	done
	@$(VENV)/bin/python -m pytest -q -m "slow or not slow" tests/test_ops/test_cpu/test_processor.py

lint: env  ## ruff: lint and format
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/ruff format --check .

types: env  ## mypy: types of the package
	@$(VENV)/bin/python -m mypy

test-upstream: $(UPSTREAM_STAMP)  ## run the tests on the original OpenMMLab packages (.venv-upstream)
	@$(UPSTREAM)/bin/python -m pytest -q

docs: env  ## build the documentation as a site into build/site; a bad link is an error
	@NO_MKDOCS_2_WARNING=1 $(VENV)/bin/python -m mkdocs build --quiet --strict
	@echo "open build/site/index.html; with its search: $(VENV)/bin/python -m http.server -d build/site"

test-notebooks: env  ## run notebooks/ in short
	@$(VENV)/bin/python -m pytest -q -m slow tests/test_notebooks

gpu-wheels: env  ## fill wheels/ for benchmarks/gpu.sh (GPU_PYTHON=3.12 GPU_HAS="numpy ...")
	$(VENV)/bin/python -m benchmarks.wheels --python $(GPU_PYTHON) --has $(GPU_HAS)

clean:  ## remove build leftovers and caches (environments, data and work_dirs stay)
	rm -rf build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache
	find mmbeit3 benchmarks tools tests configs -name __pycache__ -type d -prune -exec rm -rf {} +

$(STAMP): setup.py pyproject.toml $(CONSTRAINTS)
	@echo "Creating $(VENV): downloads torch and the mm stack (a few GB), takes some minutes ..."
	$(call new_env,$(VENV))
	@set -o pipefail; $(QUIET) $(VENV)/bin/python -m pip install -c $(CONSTRAINTS) -e ".[tests,report,export,tiles,serve,docs,notebooks]" | $(PIP_LINES)
	@$(VENV)/bin/python $(TORCHSCALE)
	@touch $@
	@echo "$(VENV) is ready; check it with $(VENV)/bin/mmbeit3 doctor"

$(UPSTREAM_STAMP): setup.py pyproject.toml $(UPSTREAM_PINS)
	@echo "Creating $(UPSTREAM): downloads torch and the original mm stack (a few GB) ..."
	$(call new_env,$(UPSTREAM))
	@set -o pipefail; $(UPSTREAM)/bin/python -m pip install -r $(UPSTREAM_PINS) | $(PIP_LINES)
	@$(UPSTREAM)/bin/python $(TORCHSCALE)
	@$(QUIET) $(UPSTREAM)/bin/python -m pip install --quiet --no-deps -e .
	@touch $@
