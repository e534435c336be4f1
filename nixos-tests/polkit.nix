# Proves who reaches the card, without a session: the listed users and nobody else, also after the
# list has changed, and nobody when it is empty; while the keys' units work all along, and every
# other action of polkit is decided as if this module was not there.
{
  name = "cryptkey-polkit";

  nodes.machine =
    { lib, ... }:
    {
      users.users = lib.genAttrs [ "alice" "bob" "mallory" ] (_: {
        isNormalUser = true;
      });

      security.cryptkey.pcsc.users = [ "alice" ];
      specialisation = {
        bob.configuration.security.cryptkey.pcsc.users = lib.mkForce [ "bob" ];
        nobody.configuration.security.cryptkey.pcsc.users = lib.mkForce [ ];
      };

      # Somebody else's rule, in a file that is read later.
      security.polkit.extraConfig = ''
        polkit.addRule(function (action, subject) {
          if (action.id == "org.freedesktop.systemd1.manage-units" && subject.user == "mallory") {
            return polkit.Result.YES;
          }
        });
      '';
    };

  testScript = ''
    from helpers import PERMISSION, Key, run_as, runs

    RULE = "/run/polkit-1/rules.d/05-nixos-cryptkey.rules"
    USERS = ["alice", "bob", "mallory"]
    vault = Key(machine, "vault", "9d")


    def switch(to: str) -> None:
        machine.succeed(f"/run/booted-system/{to}/bin/switch-to-configuration test")


    def check_access(allowed: list[str]) -> None:
        """polkitd may take a moment to notice a new rule."""
        wanted = [0 if user in allowed else PERMISSION for user in USERS]
        retry(lambda _: [run_as(machine, u, "nixos-cryptkey cards") for u in USERS] == wanted, 60)
        machine.succeed(f"systemctl reload {vault.unit}")


    def decisions() -> list[int]:
        """What polkit says to things that have nothing to do with cards."""
        check = "/run/current-system/sw/bin/pkcheck --process $$ --action-id"
        return [
            run_as(machine, user, f"sh -c '{check} org.freedesktop.{action}'")
            for user in USERS
            for action in ("systemd1.manage-units", "login1.reboot", "login1.inhibit-block-sleep")
        ]


    machine.wait_for_unit("multi-user.target")

    with subtest("alice, who is listed, reaches the card, and others do not"):
        machine.wait_for_unit("polkit-cryptkey.service")
        check_access(["alice"])
        assert machine.succeed(f"stat -c '%U %a' {RULE}") == "root 644\n"

    decided = decisions()
    started = runs(machine, vault.unit)

    with subtest("the list has changed: bob does, and alice no longer"):
        switch("specialisation/bob")
        check_access(["bob"])

    with subtest("the list is empty: there is no rule, and nobody does"):
        switch("specialisation/nobody")
        check_access([])
        machine.fail(f"test -e {RULE}")

    with subtest("other actions are decided as without a rule, some yes and some no"):
        assert decisions() == decided
        assert decided[USERS.index("mallory") * 3] == 0
        assert decided[USERS.index("alice") * 3] != 0

    with subtest("the list is the first one again"):
        switch("")
        check_access(["alice"])
        assert runs(machine, vault.unit) == started
  '';
}
