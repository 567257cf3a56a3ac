# Named tasks; each is a thin line over a module. `make help` lists them.

DIR      ?= .local
TARGETS  ?= east,west
PROVIDER ?= local
UPSTREAM ?=
LIGHT    ?=
ARGS     ?=
WORKERS  ?= 4
MINUTES  ?= 60
PYTHON   ?= python3
BASE     ?=

VENV  := .venv
BIN   := $(VENV)/bin
READY := $(VENV)/.ready
GROUND = $(BIN)/python -m deploy.local
LOCK   = CUSTOM_COMPILE_COMMAND="make lock" $(BIN)/pip-compile --quiet --generate-hashes --strip-extras --allow-unsafe \
         --no-emit-index-url --no-emit-trusted-host --no-emit-find-links --no-emit-options

# Tests start thousands of short processes: what one compiles the next need not.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help demo test e2e up down status env unit lint fmt verify nightly cover bench bench-tunnel assets kind-image docs \
        charts lock image sbom security-scan

help: ## list these tasks
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo "Variables: DIR=$(DIR) TARGETS=$(TARGETS) PROVIDER=local|existing|kind LIGHT=1 (targets are API servers only)"
	@echo "           ARGS='-k name' (for test, e2e, unit, cover, bench, bench-tunnel) WORKERS=4 MINUTES=60 BASE=image|debian; PROVIDER=existing UPSTREAM=file TARGETS=east=file,west=file"

demo: $(READY) ## fresh clone to a running example: control planes, operator, targets, a small shop
	@$(BIN)/python -m deploy.local.demo --dir $(DIR)

test: $(READY) ## everything needed, then all tests, real control planes included
	@$(GROUND) assets > /dev/null
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile $(ARGS)

up: $(READY) ## start a fleet: one upstream and the TARGETS
	@$(GROUND) up --dir $(DIR) --provider $(PROVIDER) --targets $(TARGETS) \
		$(if $(UPSTREAM),--upstream $(UPSTREAM)) $(if $(filter 1 yes true,$(LIGHT)),--light)

down: $(READY) ## end the fleet, and the operators and agents that were started on it
	@$(GROUND) down --dir $(DIR)

status: $(READY) ## how each process of the fleet is
	@$(GROUND) status --dir $(DIR)

env: $(READY) ## shell lines for eval: KUBECONFIG with a context for each cluster, PATH
	@$(GROUND) env --dir $(DIR)

unit: $(READY) ## the fast tests: all that need no control planes
	$(BIN)/python -m pytest -m "not real" $(ARGS)

lint: $(READY) ## ruff, mypy strict, and the layers of the imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

fmt: $(READY) ## format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

verify: $(READY) ## fail when a generated file, a rendered manifest or docs/testing.md is not what its source gives
	$(BIN)/python -m syncer.api.crds --check
	$(BIN)/python -m syncer.api.reference --check
	$(BIN)/python -m tests.ids --check
	$(BIN)/python -m deploy.helm --check

e2e: $(READY) ## end to end: PROVIDER=local on fake nodes; kind: image and charts on three kind clusters; existing: on yours
	@$(if $(filter existing,$(PROVIDER)),,$(GROUND) assets > /dev/null)
	@$(BIN)/python -m tests.e2e $(if $(UPSTREAM),--upstream $(UPSTREAM) --targets $(TARGETS)) $(PROVIDER) -- $(if $(filter local,$(PROVIDER)),-n $(WORKERS) --dist loadfile) $(ARGS)

nightly: $(READY) ## what takes long: MINUTES of churn over failing links, then faults that last, 1,000 agents, 10,000 histories
	@$(GROUND) assets > /dev/null
	$(BIN)/python -m tests.nightly.churn --minutes $(MINUTES)
	SYNCLINE_TEST_NIGHTLY=1 SYNCLINE_TEST_HISTORIES=10000 $(BIN)/python -m pytest \
		tests/tunneler/test_histories.py tests/tunneler/test_comeback.py tests/e2e/test_tunnel_faults.py $(ARGS)

cover: $(READY) ## branch coverage of all tests, subprocesses included; fails under 85 %
	@$(GROUND) assets > /dev/null
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest -n $(WORKERS) --dist loadfile $(ARGS)
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

bench: $(READY) ## measure against the raw limit of the same API servers
	@$(GROUND) assets > /dev/null
	$(BIN)/python -m bench $(ARGS)

bench-tunnel: $(READY) ## measure the tunnel beside direct TCP and one plain proxy hop; needs a C compiler
	$(BIN)/python -m bench.tunnel $(ARGS)

assets: $(READY) ## find or build the control-plane binaries and print their folder
	@$(GROUND) assets

kind-image: $(READY) ## build the node image of PROVIDER=kind where no registry answers; needs root, once for this machine
	@$(BIN)/python -m deploy.local.kind image

image: $(READY) ## build the container image of this checkout, check it, list what is in it: docs/image.md
	@$(BIN)/python -m deploy.image build $(if $(BASE),--base $(BASE))

sbom: $(READY) ## write what the lock holds to build/sbom.cdx.json (CycloneDX); make image does the same for an image
	@$(BIN)/python -m deploy.image sbom

security-scan: $(READY) ## check the lock, the wheels and the built image; look up known vulnerabilities where pip-audit is
	@$(BIN)/python -m deploy.image check

docs: $(READY) ## write docs/api-reference.md from the models, and into docs/testing.md which test covers what
	$(BIN)/python -m syncer.api.reference
	$(BIN)/python -m tests.ids

charts: $(READY) ## copy CRDs and roles into the charts, and render deploy/manifests from them
	$(BIN)/python -m deploy.helm

lock: $(READY) ## choose the versions of all dependencies anew, with hashes
	$(LOCK) --upgrade --extra dev -o requirements-dev.txt pyproject.toml
	$(LOCK) --upgrade -c requirements-dev.txt -o requirements.txt pyproject.toml
	$(LOCK) --upgrade -c requirements-dev.txt -o deploy/image/build-requirements.txt deploy/image/build-requirements.in
	$(LOCK) --upgrade -o deploy/local/tools/go/requirements.txt deploy/local/tools/go/requirements.in

# Everything is installed by hash; a run with nothing to do takes no time.
$(READY): requirements-dev.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "error: $(PYTHON) is not Python 3.11 or newer" >&2; \
		echo "hint: install one and name it: make PYTHON=python3.12 ..." >&2; exit 1; }
	@echo "installing the virtual environment $(VENV)" >&2
	@$(PYTHON) -m venv $(VENV) >&2
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-compile --require-hashes -r requirements-dev.txt >&2
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e . >&2
	@touch $@
