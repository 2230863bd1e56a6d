# Everything here does its own set-up. `make demo` needs Python 3.11 or newer; `make test` and `make kafka` also Java 17 and Maven
# (they fetch Apache Kafka once), or a broker named in KAFKA_BOOTSTRAP_SERVERS.

PYTHON ?= python3
VENV   ?= .venv
# An index of torch's CPU builds, if you have one, for `make test`: without it torch comes with its CUDA libraries (5 GB).
TORCH_INDEX ?=
ARGS   ?=
SEEDS  ?= 100000
WORKERS ?= 1
ROUNDS ?= 200

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

# Programs beside Python that tests run for real; a test that misses one says so, and in CI fails.
PARTS := $(BIN)/python -m tests.parts.parts

.PHONY: help demo test prepare parts simulate chaos check format bench kafka models docs dashboards pictures wheel clean
.DEFAULT_GOAL := help

help:  ## this list
	@sed -n 's/^\([a-z]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST)

$(VENV)/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo 'detector needs Python 3.11 or newer: make PYTHON=python3.12 ...'; exit 1; }
	@echo 'Installing into $(VENV) ...'
	$(PYTHON) -m venv $(VENV)
	$(PIP) --upgrade pip
	$(PIP) --editable .
	@touch $@

$(VENV)/installed-dev: $(VENV)/installed
	@echo 'Installing what tests need into $(VENV); torch is large, this takes a minute or two ...'
	$(if $(TORCH_INDEX),$(PIP) --index-url $(TORCH_INDEX) torch)
	$(PIP) --editable '.[train,bench,schema,aws]' --group dev
	@touch $@

demo: $(VENV)/installed  ## see it work, without Kafka: an embedded broker, a simulated plant, the real service (ARGS="--seed 7")
	@$(BIN)/detector demo $(ARGS)

# Tests wait for servers half of the time: three processes keep two cores busy, if none of them takes both for a matrix product, and
# none compiles what the others compile too. Brokers live for a minute here: what a JVM would compile for the long run is wasted.
test: $(VENV)/installed-dev  ## everything: format, lint, types, layers, all tests, with real servers (Kafka, Prometheus, ...)
	@$(MAKE) --no-print-directory --jobs 2 check prepare
	JAVA_TOOL_OPTIONS=-XX:TieredStopAtLevel=1 OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 3 --dist loadfile --no-loadscope-reorder $(ARGS)

prepare: $(VENV)/installed-dev
	@$(BIN)/python deploy/kafka/local_kafka.py --fetch || true
	@$(PARTS) || true
	@$(BIN)/python -m tests.compiled

parts: $(VENV)/installed-dev  ## the servers and tools that tests run beside Kafka: Prometheus, Alertmanager, a schema registry, helm
	@$(PARTS)

simulate: $(VENV)/installed-dev  ## what a seed can do to workers and their log, 100,000 times (SEEDS=2000 WORKERS=2), or one again (SEED=7)
	@$(BIN)/python -m tests.simulation.simulate $(if $(SEED),--seed $(SEED),--seeds $(SEEDS) --workers $(WORKERS)) $(ARGS)

chaos: $(VENV)/installed-dev  ## a real Kafka, its network and the workers broken over and over; nothing may be lost (ROUNDS=15 SEED=1 STATIC=1)
	@$(BIN)/python -m tests.chaos.chaos --rounds $(ROUNDS) $(if $(SEED),--seed $(SEED)) $(if $(STATIC),--static)

check: $(VENV)/installed-dev  ## format, lint and types only
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy

format: $(VENV)/installed-dev  ## put the code into shape
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

# Quix Streams, to compare with: it asks for older packages than the service, so it has a folder that only its own process sees.
QUIX := .cache/quixstreams

$(QUIX)/installed: tests/bench/quixstreams.txt $(VENV)/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade --target $(QUIX) --requirement $<
	@touch $@

bench: $(VENV)/installed-dev $(QUIX)/installed  ## readings per second: decode, detect, the whole loop on a real Kafka, other libraries beside it
	@for bench in tests/bench/bench_*.py; do echo "== $$bench"; $(BIN)/python $$bench || exit 1; done

kafka: $(VENV)/installed  ## a local Kafka on port 9092 until Ctrl-C (ARGS="--port 9093")
	@$(BIN)/python deploy/kafka/local_kafka.py $(ARGS)

# With more threads sums come in another order, and so would other weights.
models: $(VENV)/installed  ## train the bundles that ship again
	@OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(BIN)/python models/train_plant.py
	@OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(BIN)/python models/train_universal.py

dashboards: $(VENV)/installed-dev  ## build the Grafana dashboards from deploy/grafana/*.py
	@$(BIN)/python -m deploy.grafana.build

pictures: $(VENV)/installed-dev  ## draw the dashboards for docs/, from seven minutes of a demo with a real Kafka and Prometheus
	@$(BIN)/python -m tests.deploy.pictures

docs: $(VENV)/installed  ## write the pages again that are made from the code
	@$(BIN)/python -m docs.configuration

wheel: $(VENV)/installed-dev  ## build wheel and sdist into dist/
	$(BIN)/python -m build --no-isolation

clean:  ## remove what was installed and built
	rm -rf $(VENV) .cache dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis
