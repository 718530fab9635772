# The FAM workbook. `make` lists the targets; each of them sets up by itself what it needs.
# Needs Python 3.11 or later and GNU Make 3.81 or later. Everything is installed in .venv, nothing elsewhere.
#
#   make reproduce                                          figures and tables of the quick profile
#   make reproduce PROFILE=cuhk03-pair1 DATA_ROOT=<folder>  another profile, with data from <folder>
#   make reproduce PY=python                                in the environment that is active now (conda)
#   make reproduce JOBS=1                                   one notebook at a time, not two
#   make reproduce NETWORKS=mine                            of networks trained here, not of those that ship

PROFILE   ?= quick
DATA_ROOT ?=
PYTHON    ?= python3
JOBS      ?= 2
ARGS      ?=
NETWORKS  ?= shipped

PY    := .venv/bin/python
READY := .venv/.ready
# With a Python of the user's own there is nothing to set up.
ifeq ($(origin PY),command line)
READY :=
endif

# Every process sees this folder's library, and no package or kernel of the user's.
export PYTHONPATH := $(CURDIR)
export PYTHONNOUSERSITE := 1
export JUPYTER_PREFER_ENV_PATH := 1
# Threads that spin while they wait slow each other down twentyfold as soon as two processes share the cores.
export OMP_WAIT_POLICY := PASSIVE
# Where nothing else runs they may: small networks are up to half as fast again.
SPIN := env -u OMP_WAIT_POLICY

# Other networks give other numbers: they have folders of their own.
export FAM_NETWORKS := $(NETWORKS)
ifeq ($(NETWORKS),mine)
export FAM_FIGURES ?= build/mine/figures
export FAM_BUILD ?= build/mine
endif

B   := $(or $(FAM_BUILD),build)/$(PROFILE)
LIB := $(wildcard fam_lib/*.py workbook/*.py workbook/*/*.py)
# Sends what a notebook writes away from figures/, for runs whose results are not to be kept.
ASIDE = FAM_FIGURES=build/$(1)/figures FAM_BUILD=build/$(1)

.DELETE_ON_ERROR:
.PHONY: help setup reproduce executed train evidence report test lint unit unit-lib nbval data-check evaluate lab bench refresh publish lock clean clean-cache

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-12s %s\n", $$1, $$2}' Makefile

setup: $(READY)  ## install the locked packages in .venv
	@echo ".venv is ready"

.venv/.ready: requirements.lock tools/uv.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Python 3.11 or later is needed, but $(PYTHON) is $$($(PYTHON) --version 2>&1 || echo not there);" \
	       "name another one: make PYTHON=python3.12" >&2; exit 1; }
	@echo "setting up .venv: about 6 GB of packages, a minute to half an hour"
	@$(PYTHON) -m venv .venv
	@.venv/bin/python -m pip install -q --disable-pip-version-check --require-hashes -r tools/uv.lock
	@test -t 2 || quiet=-q; \
	 .venv/bin/uv pip install $$quiet --compile-bytecode --python .venv/bin/python --require-hashes -r requirements.lock && \
	 .venv/bin/uv pip install -q --python .venv/bin/python --no-deps --no-build-isolation -e .
	@touch $@

reproduce: $(READY)  ## run the notebooks of PROFILE (quick) and check every figure and table
	@$(PY) -m workbook.run.check_outputs $(PROFILE) --stale
	@$(MAKE) --no-print-directory $(if $(findstring -j,$(MAKEFLAGS)),,-j$(JOBS)) executed
	@! grep -q '^networks:' params/$(PROFILE).yaml || $(MAKE) --no-print-directory evidence
	@$(PY) -m workbook.run.check_outputs $(PROFILE)

# The profile's notebooks, as the first line of `reproduce` wrote them down.
RUN := $(patsubst %,$(B)/run/%.ipynb,$(shell cat $(B)/notebooks 2>/dev/null))
executed: $(RUN)
	@:

# 01 trains, where no network ships, the one that these read from the cache. Order only: a new 01 does not make them
# old.
$(patsubst %,$(B)/run/%.ipynb,03_reid_evaluation 04_sanity_check): | $(B)/run/01_setup.ipynb
# 02 times the methods (Table 1): it waits until nothing else runs beside it.
$(B)/run/02_fam_methods.ipynb: | $(filter-out %/02_fam_methods.ipynb,$(RUN))

# "exec", so that stopping make stops the notebook and not only a shell around it.
$(B)/run/%.ipynb: notebooks/%.ipynb params/$(PROFILE).yaml $(LIB) | $(READY)
	@exec $(if $(filter 02%,$*),$(SPIN)) $(PY) -m workbook.run.run_notebook $* --profile $(PROFILE) --data-root "$(DATA_ROOT)"

train: $(READY)  ## train the networks of PROFILE here, from nothing; it goes on where it stopped
	@$(PY) -m workbook.run.train $(PROFILE) --data-root "$(DATA_ROOT)" $(ARGS)

evidence: $(READY)  ## measure every network that PROFILE lists (trainings, cuhk03-pair1); it goes on where it stopped
	@$(PY) -m workbook.run.evidence $(PROFILE) --data-root "$(DATA_ROOT)" $(ARGS)

report: reproduce  ## one HTML site of the executed notebooks of PROFILE, in build/PROFILE/report/
	@$(PY) -m workbook.run.site $(PROFILE)

test: lint unit nbval  ## style, unit tests, notebook rules, and the notebooks' checked outputs

lint: $(READY)  ## style of code and notebooks
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .

unit: $(READY)  ## unit tests and notebook rules
	@OMP_NUM_THREADS=1 $(PY) -m pytest -q -n 2 tests

unit-lib: $(READY)  ## the library's tests alone
	@OMP_NUM_THREADS=1 $(PY) -m pytest -q -n 2 tests/fam_lib

NBVAL = $(call ASIDE,nbval) $(PY) -m pytest -q -p no:cacheprovider --nbval-lax --nbval-current-env \
	  --nbval-cell-timeout 1800 -o faulthandler_timeout=0 --nbval-sanitize-with tests/nbval_sanitize.cfg
nbval: $(READY)  ## run the committed notebooks and compare their marked outputs
	@# 01 draws the synthetic people, which the others find in the cache.
	@$(NBVAL) -n $(JOBS) --dist loadfile notebooks/01*.ipynb notebooks/05*.ipynb
	@$(NBVAL) -n $(JOBS) --dist loadfile notebooks/0[234]*.ipynb

data-check: $(READY)  ## say which Re-ID data sets are there and whether they are sound
	@$(PY) -m workbook.reid.check --data-root "$(DATA_ROOT)" $(ARGS)

evaluate: $(READY)  ## the heavy part of notebook 03 as a job of its own; it goes on where it stopped
	@$(PY) -m workbook.run.evaluate $(PROFILE) --data-root "$(DATA_ROOT)" $(ARGS)

lab: $(READY)  ## open the notebooks in JupyterLab; what they write goes to build/lab/
	@JUPYTER_CONFIG_PATH=$(CURDIR)/tools/jupyter $(call ASIDE,lab) $(PY) -m jupyterlab --LabApp.default_url=/lab/tree/notebooks/01_setup.ipynb $(ARGS)

bench: $(READY)  ## time the methods on this machine, or the ranking: ARGS=retrieval
	@$(SPIN) $(PY) -m workbook.benchmark $(ARGS)

refresh: $(READY)  ## run the committed notebooks again and store their new outputs
	@$(SPIN) $(call ASIDE,refresh) $(PY) -m workbook.run.refresh_notebooks $(ARGS)

publish: reproduce  ## for maintainers: the tables of figures/quick are from now on what others are compared with
	@mkdir -p data/published/quick && rm -f data/published/quick/*.csv && cp figures/quick/*.csv data/published/quick/

LOCK = .venv/bin/uv pip compile -q --generate-hashes --no-emit-index-url --universal --no-header --python-version 3.11
lock: $(READY)  ## renew the lock files after a change in pyproject.toml (ARGS=--upgrade takes newer versions)
	@$(LOCK) pyproject.toml --extra workbook --group test -o requirements.lock $(ARGS)
	@echo uv | $(LOCK) --no-annotate - -o tools/uv.lock $(ARGS)

clean:  ## remove executed notebooks and what tools left; keeps .venv, figures and heavy results
	@rm -rf build __pycache__ .pytest_cache .ruff_cache .hypothesis *.egg-info
	@find fam_lib workbook tests notebooks \( -name __pycache__ -o -name .ipynb_checkpoints \) -prune -exec rm -rf {} +

clean-cache: clean  ## also remove trained networks and other heavy results
	@rm -rf data/cache
