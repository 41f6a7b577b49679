# Two commands matter: `make demo` shows the product, `make test` is what CI runs.
.DEFAULT_GOAL := help
.PHONY: help setup demo test test-long test-compose dashboards bench bench-detection bench-detectors scenarios screenshots bench-live bench-kafka nuisance conformance matrix fuzz fault clean
SEED ?=
DURATION_S ?= 90
BROKERS ?= 1
PACKETS ?= 10000000
RUNS ?= 9
SECONDS_HELD ?= 60
EVENTS ?=
TRACES ?= ../shared/traces

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup:  ## install what is missing (root: distribution packages; always: .venv and the compiled packet path)
	@scripts/setup.sh

demo: setup  ## a plant day in about a minute: real servers, a live tap, five violations (SEED=7 repeats a day; STAY=1 serves the console)
	@.venv/bin/python -m examples.demo $(if $(SEED),--seed $(SEED)) $(if $(STAY),--stay)

test: setup  ## every check: ruff, mypy, import-linter, clippy, cargo test, pytest
	@scripts/checks.sh

test-long: setup  ## the same with the long tests, every stack of the matrix, and the unsafe module under valgrind
	@scripts/setup.sh matrix
	@scripts/setup.sh long
	@scripts/setup.sh compose
	@scripts/checks.sh long

test-compose: setup  ## docker-compose.yml is run: an engine of its own, the demo's day, every service restarted (root; minutes)
	@scripts/setup.sh compose
	@.venv/bin/python -m tests.compose

bench: setup  ## CPU per packet beside tcpdump, tshark and nfstream, counts against a ledger (quick: PACKETS=300000 RUNS=3)
	@.venv/bin/python -m benchmarks.bench --packets $(PACKETS) --runs $(RUNS)

bench-detection: setup  ## incidents in a simulated plant: found, how soon, how often nothing was the matter (SEED=1 SEEDS=20; SHAPES=1.5 for one declaration, SAVE=STEM for files)
	@.venv/bin/python -m pip install -q river==0.26.1
	@.venv/bin/python -m benchmarks.detection.level2 --seed $(or $(SEED),1) --seeds $(or $(SEEDS),20) $(if $(SHAPES),--shapes $(SHAPES)) $(if $(SAVE),--save $(SAVE))

nuisance:  ## every-day work of real tools that must call nobody, and its evil twins that must (SEED=n)
	@scripts/setup.sh nuisance
	@.venv/bin/python -m benchmarks.detection.nuisance --seed $(or $(SEED),1) --traces $(TRACES) --save docs/measurements/nuisance.md

scenarios: setup  ## attacks and their benign twins on real servers: alerted with the right cause, or silent (SEED=n ONLY=S3,S7 SAVE=1)
	@scripts/setup.sh long
	@.venv/bin/python -m benchmarks.detection.scenarios $(if $(SEED),--seed $(SEED)) $(if $(ONLY),--only $(ONLY)) $(if $(SAVE),--save)

screenshots: setup  ## the pictures of the console in docs/images, of the recorded plant day, light and dark
	@.venv/bin/python -m scripts.screenshots

bench-live: setup  ## the highest rate on a veth pair without loss, beside a reader of nothing (quick: SECONDS_HELD=5)
	@.venv/bin/python -m benchmarks.live --seconds $(SECONDS_HELD)

bench-kafka: setup  ## events on their way through Kafka, on a broker of its own (quick: EVENTS=20000 RUNS=1)
	@.venv/bin/python -m benchmarks.kafka --events $(or $(EVENTS),100000) --runs $(RUNS)

bench-detectors: setup  ## topic to finding with one and two detectors, memory in PostgreSQL, and how long a finding takes (quick: EVENTS=200000)
	@.venv/bin/python -m benchmarks.detectors $(if $(EVENTS),--events $(EVENTS))

dashboards: setup  ## write the JSON of the Grafana dashboards from dashboards/grafana
	@.venv/bin/python -m dashboards.grafana

conformance: setup  ## hold `hopwatch inspect` against tshark: TRACES=DIR of captures with *.truth.json, COMPARE=the script that compares
	@.venv/bin/python -m scripts.conformance $(TRACES) $(if $(COMPARE),--compare $(COMPARE))

matrix:  ## every verb, client and server (Python, Java, Rust, Debian) against the clients' own counts; writes docs/measurements/matrix.md
	@scripts/setup.sh matrix
	@scripts/matrix.sh $(if $(ONLY),--only "$(ONLY)",--save docs/measurements/matrix.md)

fuzz: setup  ## ten million new inputs for every fuzz target (hours; INPUTS=100000 takes fewer); report to docs/measurements/
	@scripts/fuzz.sh long $(INPUTS)

fault: setup  ## kill broker, agents, detectors and database, cut the network, then account for every event (SEED=n DURATION_S=n BROKERS=1|3)
	@SEED=$(SEED) DURATION_S=$(DURATION_S) BROKERS=$(BROKERS) .venv/bin/python -m tests.fault

clean:  ## remove what setup made inside the checkout
	rm -rf .venv wire/target build
