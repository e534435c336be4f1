# Proves what happens when a boot goes wrong: the card comes late; it does not come at all, for a key
# that must be there and for one that may fail softly; the PIN is wrong, which costs one try and is
# never forgiven. Each time, services without their secrets do not run, and all is well once the card
# or the right PIN is there.
{
  name = "cryptkey-bad-morning";

  nodes.machine =
    { config, pkgs, ... }:
    let
      inherit (config.security.cryptkey.keys) soft;
    in
    {
      # Each boot begins without the card.
      systemd.services.virtual-card.environment.ARGUMENTS = "--absent";

      security.cryptkey.keys = {
        vault.cardTimeoutSec = 60;
        soft = {
          slot = "82";
          softFail = true;
          acceptSingleCard = true;
          cardTimeoutSec = 60;
          pin.file = "/var/lib/pin/vault";
          managementKey.factoryDefault = true;
          secrets.spare.requiredBy = [ "by-soft.service" ];
        };
      };

      systemd.services.by-soft = {
        wantedBy = [ "multi-user.target" ];
        serviceConfig = {
          Type = "oneshot";
          RemainAfterExit = true;
          RuntimeDirectory = "by-soft";
          ExecStart = "${pkgs.coreutils}/bin/cp ${soft.secrets.spare.path} %t/by-soft/read";
        };
      };
    };

  testScript = ''
    from helpers import NO_CARD, PIN, PIN_FILE, PIN_WRONG, Card, Key, exit_code, read

    card = Card(machine)
    vault, soft = Key(machine, "vault", "9d"), Key(machine, "soft", "82")


    def wait_for_journal(unit: str, text: str) -> None:
        machine.wait_until_succeeds(f"journalctl -b -u {unit} | grep --fixed-strings '{text}'")


    def check_consumers() -> None:
        machine.wait_for_unit("by-file.service")
        machine.wait_for_unit("by-soft.service")
        assert read(machine, "/run/by-file/read") == vault.expected("backups", "hex")
        assert read(machine, "/run/by-soft/read") == soft.expected("spare")


    with subtest("the card comes 5 s after the first key asked for it"):
        wait_for_journal(vault.unit, "waiting for")
        machine.require_unit_state("by-file.service", "inactive")
        insert = card.command("insert")
        machine.succeed(f"systemd-run --on-active=5 /bin/sh -c '{insert}'")
        check_consumers()

    machine.shutdown()

    with subtest("no card: the key fails, and its services are not started"):
        wait_for_journal("by-file.service", "Dependency failed")
        machine.require_unit_state(vault.unit, "failed")
        assert exit_code(machine, vault.unit) == NO_CARD
        machine.require_unit_state("by-file.service", "inactive")
        machine.require_unit_state("by-credential.service", "inactive")
        machine.fail(f"test -e {vault.secrets}")

    with subtest("no card, and softFail: the key's unit is up, and its service is skipped"):
        wait_for_journal("by-soft.service", "unmet condition check")
        machine.require_unit_state(soft.unit, "active")
        wait_for_journal(soft.unit, "soft: skipped")
        machine.require_unit_state("by-soft.service", "inactive")
        machine.fail(f"test -e {soft.secrets}")

    with subtest("the card is there again: who needs a key starts it"):
        card.insert()
        machine.succeed(f"systemctl restart {soft.unit}")
        machine.succeed("systemctl start by-file.service by-soft.service")
        check_consumers()

    with subtest("a wrong PIN costs one try, and softFail does not forgive it"):
        assert card.tries() == 3
        machine.succeed(f"echo wr0ngPIN > {PIN_FILE}")
        machine.fail(f"systemctl restart {soft.unit}")
        machine.require_unit_state(soft.unit, "failed")
        assert exit_code(machine, soft.unit) == PIN_WRONG
        assert card.tries() == 2
        machine.require_unit_state("by-soft.service", "inactive")
        machine.fail(f"test -e {soft.secrets}")

    with subtest("the right PIN is taken, and gives the tries back"):
        machine.succeed(f"echo {PIN} > {PIN_FILE}")
        machine.succeed("systemctl start by-soft.service")
        check_consumers()
        assert card.tries() == 3
  '';
}
