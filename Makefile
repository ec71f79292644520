# One command each: see `make help`. Every target may be run again and again; what is there is not installed or built twice.

CACHE      ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/pagoda
TOOLS      := $(CACHE)/tools
VENV       := $(CACHE)/venv
TARGET_DIR := $(or $(CARGO_TARGET_DIR),target)
BINARIES   := pagoda user-tower-svc item-tower-svc index-svc

# Tools of ours come after the machine's own.
export PATH := $(PATH):$(TOOLS)/bin:$(HOME)/.cargo/bin
export PAGODA_CACHE := $(CACHE)

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help demo build test soak check fmt bench-train bench-index bench-tests install-build install-test binaries \
	fmt-check clippy arrows unused doc-links proto-lint manifests dockerfile doctest nextest soak-processes soak-simulations

help: ## Show this help
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1|\2/' | awk -F'|' '{printf "%-18s %s\n", $$1, $$2}'

demo: build ## Install what is missing, build, run the whole system on generated data; ARGS="--keep" leaves it running
	$(TARGET_DIR)/release/pagoda demo $(ARGS)

build: install-build ## Install what is missing, build the programs into target/release
	cargo build --release --locked $(BINARIES:%=-p %)

test: install-test fmt-check clippy arrows unused doc-links proto-lint dockerfile doctest binaries manifests bench-tests nextest ## Install what is missing, run every check and test

soak: install-test binaries soak-processes soak-simulations ## The long runs: real processes killed under load, simulations with many more seeds (half an hour); PAGODA_SOAK_SECONDS=n, PAGODA_SOAK_UPGRADE_TO=another/index-svc

check: install-build fmt-check clippy ## The fast checks alone: format and lints

fmt: ## Format the Rust code
	cargo fmt --all

bench-train: install-build ## Pagoda's training step beside PyTorch's on this machine (a quarter of an hour); ARGS="--quick" for one, "--large" for 10M items
	@scripts/install-deps test
	cargo build --release --locked -p pagoda
	$(if $(PAGODA_BENCH_PYTHON),,python3 bench/install_torch.py $(CACHE)/bench-venv)
	python3 bench/train.py --pagoda $(TARGET_DIR)/release/pagoda --python $(or $(PAGODA_BENCH_PYTHON),$(CACHE)/bench-venv/bin/python) $(ARGS)

bench-index: install-build ## What a search costs from Faiss's Python wheel up to the rpc, at equal recall (a quarter of an hour); ARGS="--quick" for a small one, "--rungs upper" for the service alone, "--pgvector" for a database beside it
	cargo build --release --locked $(BINARIES:%=-p %) --bin index-svc
	cargo build --release --locked $(BINARIES:%=-p %) -p pagoda-ann --example bench_ladder --example bench_load --example bench_snapshot
	$(if $(PAGODA_BENCH_PYTHON),,python3 bench/install_faiss.py $(CACHE)/bench-index-venv)
	python3 bench/index.py --release $(TARGET_DIR)/release --python $(or $(PAGODA_BENCH_PYTHON),$(CACHE)/bench-index-venv/bin/python) $(ARGS)

# ---- what the targets above are made of -------------------------------------------------------------------------------

install-build:
	@scripts/install-deps build

install-test:
	@scripts/install-deps test
	@scripts/install-tools

fmt-check:
	cargo fmt --all --check

clippy:
	cargo clippy --locked --workspace --all-targets --quiet -- -D warnings

arrows: ## Who may depend on whom, under which licenses, from where (deny.toml)
	cargo deny --locked --log-level error check bans licenses sources

unused: ## Dependencies that are declared and not used
	cargo machete --skip-target-dir

doc-links: ## Broken links in the documentation
	RUSTDOCFLAGS="-D warnings -A rustdoc::private_intra_doc_links" cargo doc --locked --workspace --no-deps --quiet

proto-lint: ## The contract in proto/ against buf's rules
	$(VENV)/bin/buf lint proto

dockerfile: ## The Dockerfile against hadolint's rules
	$(VENV)/bin/hadolint Dockerfile

# With the tests, so that their dependencies' features count and nothing is compiled twice.
binaries:
	cargo build --locked --workspace --bins --tests --quiet

manifests: ## The Kubernetes manifests: build, schema, cross references, config
	PATH="$(VENV)/bin:$(PATH)" $(VENV)/bin/python scripts/check_manifests.py --binaries $(TARGET_DIR)/debug
	PATH="$(VENV)/bin:$(PATH)" $(VENV)/bin/python -m unittest -q scripts/test_check_manifests.py

bench-tests: ## The benchmarks' own arithmetic
	python3 -m unittest -q bench/test_train.py bench/test_index.py bench/test_index_upper.py

doctest:
	cargo test --locked --workspace --doc --quiet

nextest: ## All tests, those that start the real services included
	PAGODA_TEST_PYTHON=$(VENV)/bin/python PAGODA_TEST_AZURITE=$$(command -v azurite-blob) cargo nextest run --locked --workspace

# Ten times as many seeds, and cases of each property, as `make test` tries.
soak-simulations: export PAGODA_SEEDS ?= 20000
soak-simulations: export PAGODA_SIMULATION_SEEDS ?= 2000
soak-simulations: export PROPTEST_CASES ?= 2560
soak-simulations:
	cargo nextest run --locked --workspace --profile soak --no-capture -E 'package(pagoda-commit-log) and (binary(simulation) or binary(model))'
	cargo nextest run --locked --workspace --profile soak --no-capture -E 'package(index-svc) and test(simulation)'
	cargo nextest run --locked --workspace --profile soak -E 'kind(lib) and (package(pagoda-commit-log) or package(index-svc) or package(pagoda-ann))'

# Each of its two tests by itself: the load of one is no concern of the other's.
soak-processes: export PAGODA_SOAK_SECONDS ?= 600
soak-processes:
	cargo nextest run --locked --workspace --profile soak --no-capture -E 'package(system-tests) and test(/^(soak|swaps)::/)'
