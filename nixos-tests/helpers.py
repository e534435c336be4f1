"""What the test scripts ask of a machine of common.nix."""

import base64
import json
import tomllib

from test_driver.machine import QemuMachine

from . import expected

PIN = "hq7Zkw2P"
PIN_FILE = "/var/lib/pin/vault"

# Exit codes of docs/exit-codes.md.
NO_CARD, PIN_WRONG, PERMISSION = 11, 15, 18


class Card:
    """The virtual card."""

    def __init__(self, machine: QemuMachine) -> None:
        self.machine = machine

    def _state(self) -> dict:
        return json.loads(self.machine.succeed("cat /var/lib/virtual-card/card.json"))

    def remove(self) -> None:
        """Pulls the card out, and waits until pcscd has noticed."""
        answer = self.machine.succeed(self.command("remove"))
        assert answer == "ok\n", answer

    def insert(self) -> None:
        """Puts the card back. pcscd, which ends when nobody needs it, may see it later."""
        self.machine.succeed(self.command("insert"))

    def command(self, command: str) -> str:
        """The shell command that tells the card something."""
        socket = "UNIX-CONNECT:/var/lib/virtual-card/control.sock"
        return f"echo {command} | /run/current-system/sw/bin/socat -t 40 - {socket}"

    def tries(self) -> int:
        """How often a wrong PIN may be presented."""
        return self._state()["pin"]["tries"]

    def private_key(self, slot: str) -> int:
        return int(self._state()["slots"][slot]["private_key"], 16)


class Key:
    """A key of the configuration."""

    def __init__(self, machine: QemuMachine, name: str, slot: str) -> None:
        self.machine, self.name, self.slot = machine, name, slot
        self.unit = f"cryptkey-{name}.service"
        self.reload = f"cryptkey-reload@{name}.service"
        self.profile = f"/var/lib/cryptkey/{name}.toml"
        self.secrets = f"/run/cryptkey/{name}"

    def expected(self, use: str, form: str = "raw") -> bytes:
        """A secret, computed from the profile and the card's private key by tests/expected.py,
        which shares no code with the program."""
        profile = tomllib.loads(self.machine.succeed(f"cat {self.profile}"))
        private_key = Card(self.machine).private_key(self.slot)
        master = expected.open_profile(profile, [private_key])
        return expected.output(profile, master, use, form=form)


def read(machine: QemuMachine, path: str) -> bytes:
    return base64.b64decode(machine.succeed(f"base64 {path}"))


def exit_code(machine: QemuMachine, unit: str) -> int:
    """What the main process of a unit ended with."""
    return int(machine.get_unit_property(unit, "ExecMainStatus"))


def runs(machine: QemuMachine, *units: str) -> list[str]:
    """Names this run of each unit: a restart changes it, a reload does not."""
    for unit in units:
        machine.require_unit_state(unit)
    return [machine.get_unit_property(unit, "InvocationID") for unit in units]


def run_as(machine: QemuMachine, user: str, command: str) -> int:
    """The exit code of a command of a user who has no session."""
    run = f"systemd-run --quiet --wait --pipe --expand-environment=no --uid={user}"
    status, _ = machine.execute(f"{run} {command}")
    return status


def forms(secret: bytes) -> list[str]:
    """How a secret may be written, in part or as a whole."""
    encoded = base64.b64encode(secret).decode().rstrip("=")
    pieces = [secret[i : i + 8].hex() for i in range(0, len(secret), 8)]
    return [encoded, *pieces, *(piece.upper() for piece in pieces)]


def found(secrets: list[str], text: str) -> list[str]:
    """Which of the secrets are in a text."""
    return [secret for secret in secrets if secret in text]


def files_with(machine: QemuMachine, secrets: list[str]) -> list[str]:
    """Which files on the machine's disk hold one of the secrets."""
    lines = " ".join(f"'{secret}'" for secret in secrets)
    # /run, where the patterns are, is no disk.
    machine.succeed(f"printf '%s\\n' {lines} > /run/patterns")
    search = "grep --files-with-matches --fixed-strings --file=/run/patterns"
    # find fails if grep finds nothing.
    output = machine.succeed(f"find / -xdev -type f -exec {search} {{}} + || true")
    machine.succeed("rm /run/patterns")
    return output.splitlines()
