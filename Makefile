# make demo: the main job on real GalSim data, start to pictures.  make test: the tests, in five minutes; make test-all: all
# of them.  Each sets up .venv first.

PYTHON ?= python3
NPROC ?= 2
DEMO_EPOCHS ?= 30
export OMP_NUM_THREADS = 1

BIN := .venv/bin
READY := .venv/ready
PYTEST := $(BIN)/python -m pytest -n $(NPROC) --dist worksteal
SIMULATE := $(BIN)/mpirun -n $(NPROC) $(BIN)/python -m hpcauxvae.simulate

.PHONY: demo test test-all lint docs course dist bench gpu-check build engine clean

demo: demo/run/metrics.json
	@echo "Pictures: demo/run/pictures/"

demo/run/metrics.json: demo/trained demo/fresh.h5 demo/galaxies-noiseless.h5 demo/fresh-noiseless.h5
	$(BIN)/hpcauxvae evaluate demo/run --fresh demo/fresh.h5 \
	    --noiseless demo/galaxies-noiseless.h5 demo/fresh-noiseless.h5

# Of its own name, because a run that was interrupted has a checkpoint too, from which the next make goes on.
demo/trained: demo/galaxies.h5
	$(BIN)/torchrun --standalone --nproc-per-node $(NPROC) -m hpcauxvae.train demo/galaxies.h5 \
	    --model aux-vae --aux radius,g1,g2 --epochs $(DEMO_EPOCHS) --out demo/run --resume auto
	touch $@

demo/galaxies.h5: | $(READY)
	mkdir -p demo
	$(SIMULATE) $@ --n 16384 --seed 7

demo/fresh.h5: | $(READY)
	mkdir -p demo
	$(SIMULATE) $@ --n 32768 --seed 8

demo/%-noiseless.h5: demo/%.h5
	$(SIMULATE) $@ --like $< --noiseless

test: $(READY)
	$(PYTEST) -m "smoke or not (slow or processes or native or cluster)"

test-all: $(READY)
	$(PYTEST)

PROSE := *.md docs/*.md docs/*/*.md results/*/*.md tests/*.md

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python docs/prose.py $(PROSE)
	if command -v shellcheck >/dev/null; then \
	    shellcheck --external-sources --source-path=jobs jobs/*.sh jobs/*.pbs && \
	    shellcheck --shell=bash --exclude=SC2034 jobs/sites/*.env; fi

# The site, build/site/index.html. A link that leads nowhere is an error.
docs: $(READY)
	rm -rf build/pages
	mkdir -p build
	cp -r docs build/pages
	$(BIN)/python -m sphinx --fail-on-warning --keep-going --quiet build/pages build/site

# Runs every step of the course as its page has it, and keeps its pictures.
course: $(READY)
	$(BIN)/python docs/course.py build/course --keep

# A source distribution, a wheel of it, and that one tried in an environment and a folder of its own.
dist: $(READY)
	rm -rf build/dist
	$(BIN)/python -m build --outdir build/dist .
	cp constraints.txt build/dist
	rm -rf build/tried
	$(PYTHON) -m venv build/tried/venv
	build/tried/venv/bin/python -m pip install --quiet --constraint constraints.txt build/dist/hpcauxvae-*.whl
	cd build/tried && PATH=$(CURDIR)/build/tried/venv/bin:$$PATH sh -euc ' \
	    hpcauxvae data dsprites squares.h5 --shapes square --n 600; \
	    hpcauxvae train squares.h5 --aux x,y --epochs 1 --out run; \
	    hpcauxvae evaluate run --no-control; \
	    hpcauxvae doctor'

bench: $(READY)
	$(BIN)/python benchmarks/moments.py

# On a machine with a GPU, with nvcc and a Python that has torch, pytest, hypothesis, pybind11, cmake and ninja; no .venv.
gpu-check:
	HPCAUXVAE_CUDA=ON $(PYTHON) setup.py build_ext --inplace
	$(PYTHON) -m pytest -rs -k "gpu or graph or stream or waits" tests/dependence/test_cuda.py
	$(PYTHON) benchmarks/moments.py --device cuda

build: $(READY)
	@$(MAKE) --no-print-directory engine || echo "warning: no engine: pages of hpcauxvae report will have no explorer"

# What the explorer of a report runs decoders with, and what its tests look for barriers with: of npm, as package-lock.json
# has it. The latter stays in build/.
ENGINE := hpcauxvae/report/static/engine
FROM_NPM := build/npm/node_modules
AXE := $(FROM_NPM)/axe-core/axe.min.js

engine: $(ENGINE)/ort-wasm-simd-threaded.wasm

$(ENGINE)/ort-wasm-simd-threaded.wasm: $(AXE)
	mkdir -p $(ENGINE)
	cp $(addprefix $(FROM_NPM)/onnxruntime-web/dist/,ort.wasm.bundle.min.mjs ort-wasm-simd-threaded.wasm) $(ENGINE)
	touch $@

$(AXE): hpcauxvae/report/static/package-lock.json
	mkdir -p build/npm
	cp hpcauxvae/report/static/package*.json build/npm
	cd build/npm && npm ci --ignore-scripts --no-audit --no-fund
	touch $@

$(READY): pyproject.toml setup.py CMakeLists.txt constraints.txt $(wildcard csrc/*)
	@echo "Installing into .venv: some 2 GB, several minutes without a word"
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[simulate,import,hpo,dev]'
	touch $@

clean:
	rm -rf .venv build demo *.egg-info hpcauxvae/dependence/_core*.so $(ENGINE)
