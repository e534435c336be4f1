# Everything here works on a fresh Debian 12 machine with Rust and root.

# `.ci/run` and the tests need all of these; the release binary needs the first three to be built.
PACKAGES := gcc g++ pkg-config libpcsclite-dev pcscd vsmartcard-vpcd opensc openssl yubico-piv-tool \
	yubikey-manager libclang1-14 libclang-common-14-dev python3 python3-cryptography \
	python3-pyscard python3-venv strace systemd systemd-container mmdebstrap iproute2 duktape nix-bin \
	qemu-system-x86 swtpm e2fsprogs mount

export CARGO_TARGET_DIR := $(abspath $(or $(CARGO_TARGET_DIR),target))
# The cards that the tests put into the readers of a pcscd of their own.
export CRYPTKEY_VIRTUAL_CARD := $(CARGO_TARGET_DIR)/debug/virtual-card
export CRYPTKEY_NITROKEY_CARD := $(CARGO_TARGET_DIR)/debug/nitrokey-card

# Every case of it runs the release binary.
PROGRAM := $(CARGO_TARGET_DIR)/release/nixos-cryptkey
CAMPAIGN = CRYPTKEY_PROGRAM=$(PROGRAM) \
	cargo test --locked --test campaign

NITROKEY := --locked --manifest-path tests/nitrokey-card/Cargo.toml
# The tests mostly wait for cards and readers, not for the processor.
export RUST_TEST_THREADS := 8
RUNS := 30
SEED := 20261121
BOOTS := 10
SECONDS := 60

# The fuzz targets; each starts from its seeds.
FUZZ := conversation tampered attestation certificate metadata profile guard spec
CORPUS := $(CARGO_TARGET_DIR)/fuzz-corpus

# What Nix builds, and all that it takes.
NIX := $(CARGO_TARGET_DIR)/nix

# What checks the Nix files; built once.
TOOLS := $(CARGO_TARGET_DIR)/tools
RECIPES := $(CARGO_TARGET_DIR)/recipes
NIX_FILES = $(shell find . -name target -prune -o -name '*.nix' -print)

.PHONY: help setup build nix lint test campaign fuzz fuzz-build fuzz-runs demo bench clean

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
	cargo clippy --locked --test campaign -- -D warnings
	cargo clippy $(NITROKEY) --all-targets -- -D warnings
	cargo clippy --locked --manifest-path fuzz/Cargo.toml -- -D warnings
	cargo install --locked --quiet --root $(TOOLS) nixfmt_rs@0.5.3 deadnix@1.3.1
	rm -rf $(RECIPES) && mkdir -p $(RECIPES)/recipes $(RECIPES)/recovery $(RECIPES)/fleet/hosts
	for page in recipes recovery fleet; do awk -v to=$(RECIPES)/$$page/ \
		'/^```/ { inside = $$0 == "```nix"; file = ""; next } \
		inside { if (!file) file = to $$2; print >file }' docs/$$page.md; done
	$(TOOLS)/bin/nixfmt --check $(NIX_FILES) $$(find $(RECIPES) -name '*.nix')
	$(TOOLS)/bin/deadnix --fail $(NIX_FILES) $$(find $(RECIPES) -name '*.nix')

# The release binary is the one that Nix builds; it is optimized as a whole, on one core.
test: PROGRAM := $(NIX)/program/bin/nixos-cryptkey
test: setup ## prove that everything works, against two cards behind a real pcscd
	$(MAKE) --jobs=2 --output-sync lint nix
	tests/release.sh $(PROGRAM)
	tests/expected.py --self-test tests/vectors
	cargo build $(NITROKEY)
	cargo build --locked --package virtual-card
	cargo test --locked --workspace --no-fail-fast
	CRYPTKEY_SEED=$(SEED) $(CAMPAIGN)
	$(MAKE) fuzz-runs
	cargo test $(NITROKEY)

campaign: setup build ## the whole campaign of faults, with figures (SEED=20261121)
	cargo build $(NITROKEY)
	cargo build --locked --package virtual-card
	rm -f $(CARGO_TARGET_DIR)/figures
	CRYPTKEY_CAMPAIGN=whole CRYPTKEY_SEED=$(SEED) CRYPTKEY_FIGURES=$(CARGO_TARGET_DIR)/figures \
		$(CAMPAIGN) --no-fail-fast -- --nocapture
	sort $(CARGO_TARGET_DIR)/figures

# By the stable compiler, so without a sanitizer: there is no unsafe code to watch.
fuzz-build:
	cargo install --locked --quiet --root $(TOOLS) cargo-fuzz@0.13.2
	$(TOOLS)/bin/cargo-fuzz build --sanitizer none

fuzz: setup fuzz-build ## fuzz what cards, files and specs may say (SECONDS=60, for each target)
	@for target in $(FUZZ); do mkdir -p $(CORPUS)/$$target && \
		$(TOOLS)/bin/cargo-fuzz run --sanitizer none $$target $(CORPUS)/$$target \
		fuzz/seeds/$$target -- -max_total_time=$(SECONDS) -timeout=20 -print_final_stats=1 || exit 1; done

# The same runs each time: from the seeds in the repository.
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
