# Proves that a changed configuration is applied in place: a secret is added and removed while the
# services that use the others stay up; and when the card is away, the switch says so, and all that
# is published stays.
{
  name = "cryptkey-reload";

  nodes.machine = {
    security.cryptkey.keys.vault.cardTimeoutSec = 5;
    specialisation.more.configuration = {
      security.cryptkey.keys.vault.secrets.second = { };
    };
  };

  testScript = ''
    from helpers import NO_CARD, Card, Key, exit_code, read, runs

    card = Card(machine)
    vault = Key(machine, "vault", "9d")
    units = [vault.unit, "by-file.service", "by-credential.service"]

    machine.wait_for_unit("multi-user.target")
    started = runs(machine, *units)
    restic = vault.expected("backups", "hex")


    def switch(to: str) -> str:
        return f"/run/booted-system/{to}/bin/switch-to-configuration test"


    def check_published(names: list[str]) -> None:
        """What is published, and that no unit was restarted for it."""
        assert machine.succeed(f"ls {vault.secrets}/").split() == names
        assert read(machine, f"{vault.secrets}/restic") == restic
        assert runs(machine, *units) == started


    with subtest("a secret is added in place"):
        check_published(["restic", "session"])
        machine.succeed(switch("specialisation/more"))
        check_published(["restic", "second", "session"])
        assert read(machine, f"{vault.secrets}/second") == vault.expected("second")

    with subtest("without the card the switch fails, and nothing is scrubbed"):
        card.remove()
        machine.fail(switch(""))
        assert exit_code(machine, vault.reload) == NO_CARD
        check_published(["restic", "second", "session"])

    with subtest("with the card again, a reload applies what the switch could not"):
        card.insert()
        machine.succeed(f"systemctl reload {vault.unit}")
        check_published(["restic", "session"])

    with subtest("a reload that changes nothing says so"):
        machine.succeed(f"systemctl reload {vault.unit}")
        machine.succeed(f"journalctl -b -u {vault.reload} | grep 'vault: unchanged, not verified'")
        check_published(["restic", "session"])
  '';
}
