# The README's commands. Each needs nothing but make and a Python of 3.11 or later, and sets up .venv by itself.
#   make lab PYTHON=/path/to/python    make .venv from that interpreter and keep a torch it already has
#   make lab LAB_ARGS="--no-browser --port 9999"
PYTHON ?= python3
LAB_ARGS ?=
NOTEBOOK_ARGS ?=
MEASUREMENT_ARGS ?=
FUZZ_ARGS ?=

VENV := .venv/bin/python
LESSON := 00_first_picture.ipynb
AS_ROOT := $(if $(filter 0,$(shell id -u)),--allow-root)
ASKED := $(if $(filter file,$(origin PYTHON)),,--asked)
export JUPYTER_PREFER_ENV_PATH := 1

.DEFAULT_GOAL := help
.PHONY: help lab test quick lint browser notebooks checkpoints league parity real kills fuzz measurements
.PHONY: lab-environment test-environment browser-environment

help:  ## show this list
	@grep -hE '^[a-z]+: .*##' $(MAKEFILE_LIST) | sed 's/:.*##/:/' | awk -F': +' '{printf "make %-12s %s\n", $$1, $$2}'

lab: lab-environment  ## install, then open JupyterLab at the first lesson
	$(VENV) -m jupyterlab notebooks/$(LESSON) --LabApp.default_url=/lab/tree/$(LESSON) $(AS_ROOT) $(LAB_ARGS)

test: test-environment  ## install, then run every test and every notebook, against the clock
	$(VENV) tools/run_tests.py

quick: test-environment  ## lint and the fast tests, no notebooks, in at most 3 min (for every commit)
	$(VENV) tools/run_tests.py --quick

lint: test-environment  ## ruff
	$(VENV) -m ruff check

real: test-environment  ## published weights here and in diffusers (WEIGHTS=folder, or WEIGHTS=file CONFIG=folder)
	$(VENV) tools/real.py "$(WEIGHTS)" $(if $(CONFIG),--config "$(CONFIG)") $(if $(SIZE),--size $(SIZE))

parity: test-environment  ## our networks, samplers and files against diffusers
	$(VENV) -m pytest tests/parity tests/test_published.py tests/test_planted_faults.py

kills: test-environment  ## kill a training at 50 random moments, go on each time, compare the weights to the last bit
	$(VENV) tools/kills.py --record

fuzz: test-environment  ## 10,000 random prompts, pictures, configs and command lines (FUZZ_ARGS="--seed 1")
	$(VENV) tools/fuzz.py $(FUZZ_ARGS)

browser: browser-environment  ## the widgets in a real JupyterLab, in this machine's Chromium or Chrome
	$(VENV) -m pytest -rs tests/browser/test_browser.py

notebooks: test-environment  ## build and run the lessons whose source changed (NOTEBOOK_ARGS="--only 00 --force")
	$(VENV) tools/notebooks.py $(NOTEBOOK_ARGS)

measurements: test-environment  ## write the figures of README and docs out of docs/results (MEASUREMENT_ARGS=--check)
	$(VENV) tools/measurements.py $(MEASUREMENT_ARGS)

TRAIN := .venv/bin/minildm train
PARTS := --vae runs/decoder --clip runs/relations

checkpoints: test-environment  ## train every shipped model anew (hours), or go on where a run was cut short
	$(TRAIN) vae --out runs/vae --resume
	$(TRAIN) decoder --out runs/decoder --vae runs/vae --resume
	$(TRAIN) clip --out runs/clip --resume
	$(TRAIN) relations --out runs/relations --clip runs/clip --resume
	$(TRAIN) latent --out runs/shapes $(PARTS) --steps 27000 --resume
	$(TRAIN) latent --out runs/latent-300 $(PARTS) --objects 1 --small --seconds 300 --resume
	$(TRAIN) pixel --out runs/pixel-300 $(PARTS) --objects 1 --small --seconds 300 --resume
	$(TRAIN) pixel --out runs/pixel --objects 1 --no-captions --resume
	$(TRAIN) upscaler --out runs/upscaler --resume
	$(TRAIN) edges --out runs/edges --model runs/shapes --resume
	$(TRAIN) layout --out runs/layout --model runs/shapes --clip runs/relations --resume
	$(TRAIN) digits-vae --out runs/digits-vae --resume
	$(TRAIN) classifier --out runs/classifier --resume
	$(TRAIN) digits-classifier --out runs/digits-classifier --resume
	$(VENV) tools/publish.py shapes relations=clip latent-300 pixel-300 pixel digits-vae classifier \
		digits-classifier upscaler edges layout
	$(VENV) tools/measurements.py

LEAGUE := .venv/bin/minildm league --out minildm/league/results

league: test-environment  ## the runs that lesson 13 quotes (hours of one core), or what is left of them
	$(LEAGUE) --budget 60
	$(LEAGUE) --budget 300
	$(LEAGUE) --budget 1200 --seeds 1 --figure docs/league.png
	$(VENV) tools/measurements.py

lab-environment:
	@$(PYTHON) tools/environment.py lab $(ASKED)

test-environment:
	@$(PYTHON) tools/environment.py test $(ASKED)

browser-environment:
	@$(PYTHON) tools/environment.py browser $(ASKED)
