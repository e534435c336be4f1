# Everything here works on a fresh Debian 12 machine with Rust and root.

# `.ci/run` and the tests need all of these; the release binary needs the first three to be built.
PACKAGES := gcc g++ pkg-config libpcsclite-dev pcscd vsmartcard-vpcd opensc openssl yubico-piv-tool \
	yubikey-manager libclang1-14 libclang-common-14-dev python3 python3-cryptography \
	python3-pyscard python3-venv strace systemd systemd-container mmdebstrap iproute2 duktape nix-bin \
	qemu-system-x86 swtpm e2fsprogs mount age wireguard-tools openssh-client openssh-server

export CARGO_TARGET_DIR := $(abspath $(or $(CARGO_TARGET_DIR),target))
# The cards that the tests put into the readers of a pcscd of their own.
export CRYPTKEY_VIRTUAL_CARD := $(CARGO_TARGET_DIR)/debug/virtual-card
export CRYPTKEY_NITROKEY_CARD := $(CARGO_TARGET_DIR)/debug/nitrokey-card

# Every case of it runs the release binary.
PROGRAM := $(CARGO_TARGET_DIR)/release/nixos-cryptkey
CAMPAIGN = CRYPTKEY_PROGRAM=$(PROGRAM) \
	cargo test --locked --test campaign

NITROKEY := --locked --manifest-path tests/nitrokey-card/Cargo.toml
# What a property needs to be drawn: tests with any, and how many times as many cases the campaign has.
PROPERTIES := --package nixos-cryptkey --lib --test profile_changes --test profile_proof --test profile_seal \
	--test polkit_rule
CASES := 20
# The tests mostly wait for cards and readers, not for the processor.
export RUST_TEST_THREADS := 8
RUNS := 30
# What chance starts from; `make campaign` has another one each time.
SEED := 20261121
BOOTS := 10
SECONDS := 60

# The fuzz targets; each starts from its seeds.
FUZZ := age conversation tampered attestation certificate metadata profile guard spec
CORPUS := $(CARGO_TARGET_DIR)/fuzz-corpus

# What Nix builds, and all that it takes.
NIX := $(CARGO_TARGET_DIR)/nix

# What checks the Nix files; built once.
TOOLS := $(CARGO_TARGET_DIR)/tools
# They run for seconds, and optimizing them would take minutes.
INSTALL := CARGO_TARGET_DIR=$(TOOLS)/build CARGO_PROFILE_DEV_DEBUG=0 cargo install --locked --quiet --debug --root $(TOOLS)
RECIPES := $(CARGO_TARGET_DIR)/recipes
NIX_FILES = $(shell find . -name target -prune -o -name '*.nix' -print)

# Tests that want root or a pcscd. Those that boot machines and the campaign run by their names only.
PRIVILEGED := ask integration lock polkit polkit_killed publish publish_killed publish_reader publish_refused
BY_NAME := campaign vm qemu
PLAIN := $(filter-out $(PRIVILEGED) $(BY_NAME),$(sort \
	$(patsubst tests/%.rs,%,$(wildcard tests/*.rs)) $(patsubst tests/%/main.rs,%,$(wildcard tests/*/main.rs))))

# The parts of `make test`, which run side by side: some compute, some wait for machines and cards. Those
# that take longest come first.
PARTS := test-qemu test-containers test-campaign test-programs test-fuzz test-lint test-release

.PHONY: help setup build nix lint check test campaign fuzz fuzz-build fuzz-runs demo bench clean \
	programs images $(PARTS)

help: ## say what there is to make
	@sed -n 's/^\([a-z]*\):[^#]*## /  make \1\t/p' $(MAKEFILE_LIST)

setup: ## install what is missing (needs root if something is)
	@tests/setup.sh $(PACKAGES)

build: ## build the release binary
	cargo build --locked --release

nix: setup ## build and test the packages as Nix does, and check the scripts of the NixOS tests
	tests/nix/packages.sh $(NIX)

lint: ## check format and lints
	cargo fmt --all --check
	cargo fmt --check --manifest-path tests/nitrokey-card/Cargo.toml
	cargo fmt --check --manifest-path fuzz/Cargo.toml
	cargo clippy --locked --workspace --all-targets -- -D warnings
	cargo clippy --locked $(addprefix --test ,$(BY_NAME)) -- -D warnings
	cargo clippy $(NITROKEY) --all-targets -- -D warnings
	cargo clippy --locked --manifest-path fuzz/Cargo.toml -- -D warnings
	$(INSTALL) nixfmt_rs@0.5.3 deadnix@1.3.1
	rm -rf $(RECIPES) && mkdir -p $(RECIPES)/recipes $(RECIPES)/recovery $(RECIPES)/fleet/hosts
	for page in recipes recovery fleet; do awk -v to=$(RECIPES)/$$page/ \
		'/^```/ { inside = $$0 == "```nix"; file = ""; next } \
		inside { if (!file) file = to $$2; print >file }' docs/$$page.md; done
	$(TOOLS)/bin/nixfmt --check $(NIX_FILES) $$(find $(RECIPES) -name '*.nix')
	$(TOOLS)/bin/deadnix --fail $(NIX_FILES) $$(find $(RECIPES) -name '*.nix')

check: ## what needs neither root, nor pcscd, nor a machine, for whoever is at work
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	cargo test --locked --lib --bins $(addprefix --test ,$(PLAIN))
	cargo test --locked --package virtual-card --lib --test attestation --test channel --test keys --test pin

test: setup ## prove that everything works, against two cards behind a real pcscd
	@+CRYPTKEY_SEED=$(SEED) $(MAKE) --no-print-directory --jobs --keep-going --output-sync=target $(PARTS)

# The release binary of the parts is the one that Nix builds.
test-campaign test-release: PROGRAM := $(NIX)/program/bin/nixos-cryptkey

# All else that they run.
programs:
	cargo build $(NITROKEY)
	cargo build --locked --package virtual-card
	cargo test --locked --no-run $(addprefix --test ,$(BY_NAME))
	cargo test --locked --no-run --workspace
	cargo test --no-run $(NITROKEY)

# What the machines boot from; it is mostly waited for the network.
images:
	tests/vm/root.sh
	tests/qemu/image.sh

test-qemu: programs images
	cargo test --locked --test qemu

test-containers: programs images
	cargo test --locked --test vm

test-campaign: programs nix
	$(CAMPAIGN)

test-programs: programs
	tests/expected.py --self-test tests/vectors
	cargo test --locked --workspace --no-fail-fast
	cargo test $(NITROKEY)

# These compute when nobody else does, and take nothing from those that are waited for.
test-fuzz: programs
	@+nice $(MAKE) --no-print-directory fuzz-runs

test-lint: programs nix
	@+nice $(MAKE) --no-print-directory lint

test-release: nix
	tests/release.sh $(PROGRAM)

campaign: SEED := $(shell date +%s)
campaign: setup build ## the whole campaign of faults, with figures, and many more cases of each property (SEED=…)
	cargo build $(NITROKEY)
	cargo build --locked --package virtual-card
	rm -f $(CARGO_TARGET_DIR)/figures
	CRYPTKEY_SEED=$(SEED) CRYPTKEY_CASES=$(CASES) cargo test --locked $(PROPERTIES)
	CRYPTKEY_CAMPAIGN=whole CRYPTKEY_SEED=$(SEED) CRYPTKEY_FIGURES=$(CARGO_TARGET_DIR)/figures \
		$(CAMPAIGN) --no-fail-fast -- --nocapture
	sort $(CARGO_TARGET_DIR)/figures

# By the stable compiler, so without a sanitizer: there is no unsafe code to watch.
fuzz-build:
	$(INSTALL) cargo-fuzz@0.13.2
	$(TOOLS)/bin/cargo-fuzz build --sanitizer none

fuzz: setup fuzz-build ## fuzz what cards, files and specs may say (SECONDS=60, for each target)
	@for target in $(FUZZ); do mkdir -p $(CORPUS)/$$target && \
		$(TOOLS)/bin/cargo-fuzz run --sanitizer none $$target $(CORPUS)/$$target \
		fuzz/seeds/$$target -- -max_total_time=$(SECONDS) -timeout=20 -print_final_stats=1 || exit 1; done

# The same runs each time: from the seeds in the repository. They take less than better code takes to build.
fuzz-runs: export CARGO_PROFILE_RELEASE_OPT_LEVEL := 1
fuzz-runs: export CARGO_PROFILE_RELEASE_DEBUG := 0
fuzz-runs: fuzz-build
	@for target in $(FUZZ); do rm -rf $(CORPUS)/runs && mkdir -p $(CORPUS)/runs && \
		$(TOOLS)/bin/cargo-fuzz run --sanitizer none $$target $(CORPUS)/runs \
		fuzz/seeds/$$target -- -seed=$(SEED) -runs=2000 -timeout=20 -verbosity=0 || exit 1; done

demo: setup build ## show it at work, with a virtual card
	cargo build --locked --package virtual-card --bin virtual-card --example with-card
	PATH="$(CARGO_TARGET_DIR)/release:$$PATH" demo/demo.sh $(CARGO_TARGET_DIR)/debug/examples/with-card

bench: setup build ## measure it beside a floor program and OpenSC, and at boot (RUNS=30 BOOTS=10)
	cargo build --locked --release --package virtual-card
	cargo build --locked --release --example floor --example bench
	$(CARGO_TARGET_DIR)/release/examples/bench $(RUNS)
	CRYPTKEY_VIRTUAL_CARD=$(CARGO_TARGET_DIR)/release/virtual-card cargo bench --locked --bench boot -- $(BOOTS)

clean: ## remove what was built
	cargo clean
