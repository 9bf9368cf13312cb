# Two commands do everything on a fresh machine: `make run` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
TYPES := build/types/vsim
SUITE ?= tests
JOBS ?= 2
# What runs beside the tests.
BESIDE ?=
KERNELS := kernels-engine kernels-placement kernels-prefixes
GPU_MACHINES ?= $(filter-out %-mapping.yaml %-replays.yaml, $(wildcard traces/recorded/gpu/*.yaml))
# The tests start hundreds of processes, which would each compile every module where this is set.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: run test check suite $(KERNELS) collected fidelity tolerances validation servers bench \
	schema readme clean types
run: $(STAMP)
	$(BIN)/vsim run scenarios/quickstart.yaml --out out/quickstart

test: $(STAMP)
	$(MAKE) --no-print-directory -j2 kernels-engine kernels-prefixes check kernels-placement collected
	$(MAKE) --no-print-directory -j2 suite $(BESIDE)

suite: $(STAMP)
	$(BIN)/pytest $(SUITE) --ignore=tests/benchmarks -p no:cacheprovider -n $(JOBS) --dist worksteal

check: $(STAMP) types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# What is compiled once a machine, so that no two processes of the tests compile the same. `test`
# names them by how long they take, for both cores to be busy to the end.
$(KERNELS): kernels-%: $(STAMP)
	$(BIN)/python -m tests.kernels $*

# Rewrites the tests' assertions in one process, which all that run them would do at the same time.
# What can't be collected is said when they run.
collected: $(STAMP)
	@$(BIN)/pytest $(SUITE) --ignore=tests/benchmarks -p no:cacheprovider --collect-only -q \
	    > /dev/null 2>&1 || true

# Predictions beside every recorded run of a real server; public runs where VSIM_REAL_RUNS is set.
fidelity: $(STAMP)
	$(BIN)/vsim check

# Lowers tolerances to what is reached, and raises none.
tolerances: $(STAMP)
	@mkdir -p build
	$(BIN)/python -m vsim.sim.fidelity.tighten > build/tolerances.yaml
	mv build/tolerances.yaml sim/fidelity/tolerances.yaml
	$(BIN)/python -m vsim.sim.fidelity.gpu.tighten > build/tolerances.yaml
	mv build/tolerances.yaml sim/fidelity/gpu/tolerances.yaml

# The report of cases measured on GPUs, from the recordings; takes vsim[plots].
validation: $(STAMP)
	@mkdir -p build
	$(BIN)/vsim check traces/recorded/gpu --json build/outcome.json > build/check.txt || true
	$(BIN)/python -m vsim.sim.fidelity.gpu.bounding $(GPU_MACHINES) > build/bounds.json
	mv build/bounds.json reports/validation/gpu/bounds.json
	$(BIN)/python -m vsim.reports.validation build/outcome.json reports/validation/gpu

# The report of servers, from their recordings, and public runs where VSIM_REAL_RUNS is set.
servers: $(STAMP)
	@mkdir -p build
	$(BIN)/vsim check --json build/outcome.json > build/check.txt || true
	$(BIN)/python -m vsim.reports.validation.server_report build/outcome.json

# Benchmarks are no tests: they do large work, and their figures want a quiet machine.
bench: $(STAMP)
	$(BIN)/pytest tests/benchmarks --benchmark-only --benchmark-columns=min,median,ops --timeout 0

schema: $(STAMP)
	$(BIN)/vsim schema > scenarios/scenario.schema.json

# The quickstart's output in README.md, which a test holds against a fresh run.
readme: run
	$(BIN)/vsim run scenarios/quickstart.yaml --out out/quickstart > out/quickstart.txt
	awk '/^```text/ && !done { done = 1; print; while ((getline line < "out/quickstart.txt") > 0) { \
	    sub(/ +$$/, "", line); print line }; skip = 1; next } /^```$$/ { skip = 0 } !skip' \
	    README.md > README.md.tmp && mv README.md.tmp README.md

$(STAMP): pyproject.toml constraints.txt tools/environment.py
	$(PYTHON) tools/environment.py $(VENV)
	touch $@

# mypy and pyright resolve the renamed packages through links; nothing imports them at run time.
types:
	@mkdir -p $(TYPES)
	@for p in sim traces reports hwbackend; do test -d $$p && ln -sfn ../../../$$p $(TYPES)/$$p || true; done

clean:
	rm -rf build dist out *.egg-info
