#!/bin/bash
# packages.sh DIR [PACKAGE…]: builds what packages.nix has: DIR/program/bin/nixos-cryptkey and
# DIR/virtual-card/bin/virtual-card as buildRustPackage builds and tests them, and the scripts of
# nixos-tests/ as the test driver's build checks them. All that this takes stays in DIR, so what did
# not change is not built again.
set -euo pipefail

here=$(dirname "$(realpath "$0")")
root=$(realpath "$here/../..")
mkdir -p "$1/target"
dir=$(realpath "$1")
shift

# The crates, as nixpkgs fetches them: those of the lock file.
if ! cmp --quiet "$root/Cargo.lock" "$dir/Cargo.lock"; then
    rm -rf "$dir/vendor"
    cargo vendor --quiet --locked --manifest-path "$root/Cargo.toml" "$dir/vendor" >/dev/null
    cp "$root/Cargo.lock" "$dir/Cargo.lock"
fi

# What checks the scripts: Debian's Python, and not a link to it.
python=$dir/python-$(sha256sum <"$here/requirements.txt" | head --bytes=8)
if [[ ! -e $python/done ]]; then
    rm -rf "$python"
    /usr/bin/python3 -m venv --copies "$python"
    "$python/bin/pip" --quiet install --requirement "$here/requirements.txt"
    touch "$python/done"
fi

nixpkgs=$(cargo metadata --quiet --locked --format-version=1 --manifest-path "$here/nixpkgs/Cargo.toml" |
    grep --only-matching --perl-regexp '"manifest_path":"\K[^"]*/nixel-[^"]*(?=/Cargo.toml")')

# What a builder sees: the programs that stdenv has here, each input by its name, libraries, Rust with
# the crates, and a place for what is compiled. Nothing else of this machine.
stdenv=$(dpkg --listfiles bash binutils coreutils findutils gcc grep sed | grep --extended-regexp '^(/usr)?/bin/.')
sandbox=(
    $stdenv /bin/sh=/bin/bash /usr/bin/cc=/usr/bin/gcc
    /inputs/openssl/openssl=/usr/bin/openssl /inputs/pkg-config/pkg-config=/usr/bin/pkg-config
    /lib /lib64 /usr/lib
    "/rust=$(rustc --print sysroot)" "/vendor=$dir/vendor" "/target=$dir/target" "/python=$python"
)
export NIX_STORE_DIR=$dir/store NIX_STATE_DIR=$dir/state NIX_LOG_DIR=$dir/log NIX_CONF_DIR=$here
export NIX_CONFIG="build-users-group =
substituters =
sandbox = true
sandbox-fallback = false
sandbox-paths = ${sandbox[*]}"
(($#)) || set -- scripts program virtual-card
for package in "$@"; do
    nix-build "$here/packages.nix" --attr "$package" --out-link "$dir/$package" \
        --arg nixpkgs "$nixpkgs/tests/inputs/nixpkgs" --argstr machine "$(rustc -vV) ${sandbox[*]}"
done
