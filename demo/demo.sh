#!/bin/bash
# Shows nixos-cryptkey at work with a virtual card behind a real pcscd: `make demo`.
# Everything is in directories of its own, and gone at the end, also after Ctrl-C.
set -euo pipefail

with_card=$(realpath "$1") # the example program of virtual-card
expected=$(realpath "$(dirname "$0")/../tests/expected.py")

# --- how it is told ---

if [[ -t 1 && -z ${NO_COLOR-} ]]; then bold=$'\e[1m' dim=$'\e[2m' plain=$'\e[0m'; else bold='' dim='' plain=''; fi

step=0
say() { printf '\n%s%d. %s%s\n' "$bold" "$((++step))" "$*" "$plain"; }
note() { printf '   %s%s%s\n' "$dim" "$*" "$plain"; }

# Shows a command and runs it: `run COMMAND…` where it must succeed, `run_to CODE COMMAND…` where it
# must fail with that code.
run() { run_to 0 "$@"; }
run_to() {
    local wanted=$1 code=0
    shift
    printf '%s$ %s%s\n' "$bold" "$*" "$plain"
    "$@" || code=$?
    ((code == 0)) || note "exit code $code"
    ((code == wanted)) || give_up "exit code $code where $wanted was expected"
}

give_up() {
    printf '\nThe demo failed: %s\n' "$*" >&2
    exit 1
}

# --- where it happens ---

disk=$(mktemp -d /var/tmp/cryptkey-demo.XXXXXX)
ram=$disk/ram
mounted=''

clean_up() {
    local code=$?
    trap - EXIT
    cd /
    # With its standard input, the stack of pcscd and card ends.
    if [[ -n ${STACK_PID-} ]]; then
        eval "exec ${stack_input}>&-"
        wait "$STACK_PID" 2>/dev/null || true
    fi
    [[ -z $mounted ]] || umount "$ram"
    rm -rf "$disk" "$ram"
    exit "$code"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

mkdir "$ram"
if ((EUID == 0)) && mount -t tmpfs -o mode=0755,size=1m cryptkey-demo "$ram" 2>/dev/null; then
    mounted=yes
else
    rmdir "$ram"
    ram=$(mktemp -d /dev/shm/cryptkey-demo.XXXXXX)
    chmod 0755 "$ram"
fi
cd "$disk"

# A service's user gets one of the secrets; only root may give it away.
me=$(id -un)
if ((EUID == 0)); then service=nobody; else service=$me; fi

# One line to the virtual card, one line back.
card() {
    python3 -c 'if True:
        import socket, sys
        control = socket.socket(socket.AF_UNIX)
        control.connect("card/control.sock")
        control.sendall(sys.argv[1].encode() + b"\n")
        answer = control.makefile().readline().strip()
        print(answer) if answer != "ok" else None
        sys.exit(answer.startswith(("error", "timeout")))' "$*"
}

# --- the demo ---

echo "${bold}nixos-cryptkey: secrets for services that only a smart card in the machine can unlock.$plain"

say "A pcscd of our own starts, with a virtual YubiKey in its reader. Its slot 9d holds a key."
coproc STACK { exec setsid "$with_card" "$disk/card" --serial 12345678 --slot-key 9d=generate; }
stack_input=${STACK[1]}
read -r line <&"${STACK[0]}" || give_up "no pcscd or no card"
eval "$line"
run nixos-cryptkey cards

say "The spec says what the machine should have. On NixOS the module writes it; it holds no secret."
cat >spec.json <<END
{
  "version": 1,
  "stateDir": "$disk/state",
  "runtimeDir": "$ram",
  "keys": {
    "vault": {
      "cards": [ { "serial": "12345678" } ],
      "slot": "9d",
      "pin": { "file": "$disk/pin" },
      "cardTimeoutSec": 1,
      "secrets": {
        "restic": { "use": "backups", "format": "hex",
                    "owner": "$service", "group": "$(id -gn "$service")" },
        "session": { "use": "web-session", "format": "base64", "length": 48,
                     "owner": "$me", "group": "$(id -gn)", "mode": "0440" }
      }
    }
  }
}
END
(umask 077 && printf 123456 >pin)
run cat spec.json

say "Is it a good spec? That can be asked without a card, while the system is built."
run nixos-cryptkey check --spec spec.json

say "A mistake is named by its place."
sed 's/"slot": "9d"/"slot": "9c"/' spec.json >mistake.json
run_to 10 nixos-cryptkey check --spec mistake.json

say "What would happen now? Asking changes nothing and spends no PIN try."
run nixos-cryptkey plan --spec spec.json

say "Apply enrolls the key: it seals a new random master key to the card, then publishes secrets."
run nixos-cryptkey apply --spec spec.json

say "The secrets are on a RAM file system, each with its owner and mode."
run ls -l "$ram/vault/"
note "The sealed key, on disk; without the card it opens nothing:"
run ls -l state/

say "Where nothing would change, apply leaves the card alone."
run nixos-cryptkey apply --spec spec.json

say "At every later boot it only opens the key again. Nothing on disk changes."
before=$(sha256sum state/vault.toml)
run nixos-cryptkey apply --always --spec spec.json
[[ $before == "$(sha256sum state/vault.toml)" ]] || give_up "the profile changed"

say "After a reboot the RAM is empty; the same card yields the same secrets."
sha256sum "$ram"/vault/* >published.sha256
run nixos-cryptkey scrub --spec spec.json
run nixos-cryptkey apply --spec spec.json
run sha256sum --check published.sha256

say "How do things stand?"
run nixos-cryptkey status --spec spec.json

say "Are these the right bytes? A program that shares no code with it computes them from the virtual card's key."
key=$(python3 -c 'import json; print(json.load(open("card/card.json"))["slots"]["9d"]["private_key"])')
verify() {
    local file=$1
    shift
    "$expected" --profile state/vault.toml --private-key "$key" "$@" | cmp - "$file" ||
        give_up "${file##*/} differs"
    echo "${file##*/}: equal"
}
verify "$ram/vault/restic" --use backups --format hex
verify "$ram/vault/session" --use web-session --format base64 --length 48

say "Somebody pulls the card. The boot stops with an error that says what to do."
card remove
run_to 11 nixos-cryptkey apply --always --spec spec.json

say "With softFail the boot goes on without this key. What was published stays."
sed 's/"slot": "9d"/"softFail": true, "slot": "9d"/' spec.json >soft.json
run nixos-cryptkey apply --always --spec soft.json
run ls -l "$ram/vault/"

say "The card is back, and all is well."
card insert
card wait seen
run nixos-cryptkey apply --always --spec spec.json

printf '\n%sThat is all. Everything the demo made is removed.%s\n' "$bold" "$plain"
