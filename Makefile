# Everything runs in .venv, which the first target that needs it makes. `make help` lists the targets.
.DEFAULT_GOAL := help
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c

VENV := .venv
PYTHON ?= python3
BIN := $(VENV)/bin
# Compile for the machine at hand or for any: kernels are chosen at run time, so both give the same program.
CARGO_FLAGS ?= --release
# As pip does: start-up time is a promise, and not every environment may write its caches later.
export UV_COMPILE_BYTECODE := 1

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "%-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(BIN)/uv:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip uv

# The package in the environment, with what its tests need, rebuilt when a source changes.
SOURCES := $(shell find src crates python Cargo.toml Cargo.lock pyproject.toml -name '*.rs' -o -name '*.toml' -o -name '*.lock' -o -name '*.py' 2>/dev/null)
$(VENV)/.built: $(BIN)/uv $(SOURCES)
	$(BIN)/uv pip install --quiet --python $(BIN)/python --group test --group lint maturin
	VIRTUAL_ENV=$(abspath $(VENV)) $(BIN)/maturin develop --quiet --uv $(CARGO_FLAGS)
	@touch $@

.PHONY: build
build: $(VENV)/.built ## Make .venv and build the package into it

.PHONY: demo
demo: build ## Audit the real transcoders in examples/ and variants made from them
	@echo '$$ unitrow audit examples'
	@$(BIN)/unitrow audit examples || test $$? -eq 1
	@echo
	@echo '$$ unitrow demo'
	@$(BIN)/unitrow demo

.PHONY: test
test: build test-rust test-python ## Every Rust and Python test that needs no torch

.PHONY: test-rust
test-rust:
	cargo test --workspace --quiet

.PHONY: test-python
test-python: build
	$(BIN)/python -m pytest -q -m "not torch and not interop"

$(VENV)/.torch: $(VENV)/.built
	$(BIN)/uv pip install --quiet --python $(BIN)/python torch safetensors --group interop
	@touch $@

$(VENV)/.train: $(VENV)/.built
	$(BIN)/uv pip install --quiet --python $(BIN)/python torch transformers
	@touch $@

.PHONY: test-torch
test-torch: $(VENV)/.torch ## The tests with torch, and against files of the reference writers
	$(BIN)/python -m pytest -q -m "torch or interop"

.PHONY: lint
lint: $(VENV)/.torch ## Formatting, lints and types, as CI wants them; types need torch
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --quiet -- -D warnings
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m mypy.stubtest unitrow._native --allowlist tests/stubtest-allowlist.txt --ignore-unused-allowlist

.PHONY: format
format: build ## Format all sources
	cargo fmt --all
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

.PHONY: wheel
wheel: build ## Build a wheel and an sdist into dist/
	$(BIN)/maturin build --release --sdist --out dist

.PHONY: demo-train
demo-train: $(VENV)/.train ## Train a transcoder of a real model in a few minutes, audit it and judge it
	$(BIN)/python -m unitrow.training.demo

.PHONY: bench-train
bench-train: $(VENV)/.torch ## The same and sparsify's, seed by seed: the table in docs/training.md
	$(BIN)/python benches/python/transcoders.py

.PHONY: bench
bench: $(VENV)/.torch ## Speed against peers, in the same run, and what memory allows
	cargo bench --package unitrow-norms --bench memory
	$(BIN)/python benches/python/run.py

SOAK_SECONDS ?= 300

.PHONY: soak
soak: build ## Tests of random moments, each for SOAK_SECONDS (300)
	SOAK_SECONDS=$(SOAK_SECONDS) $(BIN)/python -m pytest -q tests/test_audit_faults.py tests/test_audit_resume.py \
	  tests/with_torch/test_trainer_processes.py

FUZZ_SECONDS ?= 60

.PHONY: fuzz
fuzz: ## Fuzz each parser for FUZZ_SECONDS (60)
	cargo fuzz --version >/dev/null 2>&1 || cargo install --quiet cargo-fuzz
	for target in header index npz npy; do \
	  dictionary=$$([ $$target = header ] || [ $$target = index ] && echo json || echo npy); \
	  RUSTC_BOOTSTRAP=1 cargo fuzz run --sanitizer none $$target -- \
	    -max_total_time=$(FUZZ_SECONDS) -dict=fuzz/dictionaries/$$dictionary.dict; \
	done

HOST := $(shell rustc -vV 2>/dev/null | sed -n 's/^host: //p')

.PHONY: asan
asan: ## The Rust tests under AddressSanitizer
	RUSTC_BOOTSTRAP=1 RUSTFLAGS=-Zsanitizer=address \
	  cargo test --quiet --workspace --exclude unitrow --target $(HOST) --target-dir target/asan

.PHONY: valgrind
valgrind: ## The tests of the kernels under valgrind
	CARGO_TARGET_$(shell echo $(HOST) | tr 'a-z-' 'A-Z_')_RUNNER="valgrind --quiet --error-exitcode=9" \
	  UNITROW_UNDER_VALGRIND=1 PROPTEST_CASES=8 cargo test --quiet -p unitrow-norms --target $(HOST) --target-dir target/valgrind

ARM := aarch64-unknown-linux-gnu

# Debian's compiler, because it comes with a standard library for ARM: rustc-web, libstd-rust-web-dev:arm64
# (after `dpkg --add-architecture arm64`), gcc-aarch64-linux-gnu and qemu-user. The loader is that of libc6:arm64,
# which comes along: with the cross compiler's own (`-L`) threads never start, because the two differ in version.
.PHONY: neon
neon: ## The tests of the kernels on emulated ARM (needs Debian packages, named in the Makefile)
	RUSTC=/usr/bin/rustc CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc \
	  CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER=qemu-aarch64 \
	  PROPTEST_CASES=32 cargo test --quiet -p unitrow-norms --lib --tests --target $(ARM) --target-dir target/neon

.PHONY: clean
clean: ## Remove everything that was built
	rm -rf $(VENV) target dist .bench
