#!/bin/bash
# Checks a release binary: small, stripped, and linked to nothing but libc, libgcc and libpcsclite.
set -euo pipefail

binary=$1
most=$((4 * 1000 * 1000))
allowed='^(libc\.so\.6|libgcc_s\.so\.1|libpcsclite\.so\.1|ld-linux-[a-z0-9-]+\.so\.[0-9])$'

fail() {
    echo "$binary: $1" >&2
    exit 1
}

size=$(stat --format=%s "$binary")
((size <= most)) || fail "$size bytes; at most $most are allowed"
sections=$(readelf --wide --sections "$binary")
[[ $sections != *.symtab* ]] || fail "not stripped"
dynamic=$(readelf --wide --dynamic "$binary")
libraries=$(sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p' <<<"$dynamic")
[[ $libraries == *libpcsclite* ]] || fail "not linked to libpcsclite: is this the program?"
strange=$(grep -Ev "$allowed" <<<"$libraries" || true)
[[ -z $strange ]] || fail "linked to $strange"
[[ $dynamic != *RUNPATH* && $dynamic != *RPATH* ]] || fail "brings a search path for libraries"

echo "release binary: $size bytes, linked to" $libraries
