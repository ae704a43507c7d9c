# Everything a person or CI does here. `make help` lists it; each target can be run again at no cost.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= python3
GROUND := $(PYTHON) -m tests.ground
VENV := .venv/bin
STAMP := .venv/.installed-$(shell cat requirements/dev.txt pyproject.toml | sha256sum | cut -c1-16)
SURFACE := $(wildcard tests/surface tests/test_surface.py tests/*/test_surface.py)
NAMESPACE ?= finetune-system

.PHONY: help quickstart venv check test cluster cluster-down images install drills matrix gpu bench bench-operator generate clean packages binaries

help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

quickstart: venv ## Fine-tune a small model on this machine, without a cluster: a minute or two
	$(VENV)/python examples/quickstart_data.py
	$(VENV)/finetune run examples/quickstart.yaml

venv: $(STAMP) ## Make .venv with every pinned, hashed dependency

$(STAMP): requirements/dev.txt pyproject.toml
	$(PYTHON) -m tests.ground.environment
	@rm -f .venv/.installed-* && touch $@

check: venv ## Format, lint, types, import rules, generated files, frozen surface
	$(VENV)/ruff format --check .
	$(VENV)/ruff check .
	$(VENV)/mypy
	$(VENV)/lint-imports
	$(VENV)/python -m finetune_contract.schema --check
	$(VENV)/python -m charts.dashboards --check
	$(if $(SURFACE),$(VENV)/pytest -q $(SURFACE))

test: packages venv cluster images ## All tests, with all that they need: a real cluster, images, an S3 server
	$(VENV)/pytest -m "not matrix and not drill and not gpu"

packages: ## Install the system packages that the cluster needs (Debian, root)
	$(GROUND).packages

binaries: ## Build Kubernetes, its runtime, the S3 server and helm from Go modules: 15 minutes, once on a machine
	@test -n "$(KUBECONFIG)" || $(GROUND).binaries

cluster: packages binaries ## Start a real Kubernetes on this machine (nothing if KUBECONFIG names yours)
	$(GROUND).cluster up

cluster-down: ## Stop it and leave nothing but the nodes' images
	$(GROUND).cluster down

images: cluster ## Build the operator's and the trainer's image and bring them into the cluster
	$(GROUND).images

install: images ## Install the chart into the cluster
	$(GROUND).install --namespace $(NAMESPACE)

drills: packages venv cluster images ## Break everything that can break, on the real cluster, and print what became of it
	$(VENV)/pytest tests/drills tests/replicas

matrix: venv ## The full matrices: every world size, ZeRO stage and strategy, resumed and compared
	$(VENV)/pytest -m matrix

gpu: venv ## What needs an NVIDIA GPU: whole jobs, resuming, memory, losses beside the CPU's; fails without one
	DS_ACCELERATOR=cuda $(VENV)/pytest -m gpu tests/gpu

bench: venv ## Measure overheads against bare training loops
	$(VENV)/python -m tests.bench

bench-operator: packages venv binaries ## Measure the operator among thousands of jobs: an hour on two quiet cores
	$(VENV)/python -m tests.scale

generate: venv ## Write the generated files: CRDs, the chart's copy, the reference, the dashboards
	$(VENV)/python -m finetune_contract.schema --write
	$(VENV)/python -m charts.dashboards --write

clean: ## Stop the cluster; drop its images, the environment and all caches of tools (not the shared cache)
	$(GROUND).cluster down --purge
	rm -rf .venv .finetune out .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
