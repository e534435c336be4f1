# Proves what the README promises: at the first boot a key is enrolled on a new card, and services
# start with secrets of the right bytes; at the second boot it is verified, the bytes are the same
# and nothing was written to the disk; a stop scrubs; and neither the journal, with everything that
# can be said in it, nor the disk holds a secret. The PIN comes from an encrypted credential.
{ lib, ... }:
{
  name = "cryptkey-boot";

  nodes.machine =
    { pkgs, ... }:
    {
      security.cryptkey = {
        keys.vault.pin = {
          file = null;
          credential = "/etc/credstore.encrypted/vault.pin";
        };

        # Says all there is to say.
        package = pkgs.writeShellScriptBin "nixos-cryptkey" ''
          exec ${lib.getExe (pkgs.callPackage ../package.nix { })} -vv "$@"
        '';
      };

      # What an administrator does once, by hand.
      systemd.services.seal-pin = {
        requiredBy = [ "cryptkey-vault.service" ];
        before = [ "cryptkey-vault.service" ];
        unitConfig.ConditionPathExists = "!/etc/credstore.encrypted/vault.pin";
        serviceConfig.Type = "oneshot";
        script = ''
          mkdir --parents --mode=0700 /etc/credstore.encrypted
          systemd-creds encrypt --with-key=host --name=pin \
            /var/lib/pin/vault /etc/credstore.encrypted/vault.pin
        '';
      };
    };

  testScript = ''
    from helpers import PIN, Key, files_with, forms, found, read, run_as

    vault = Key(machine, "vault", "9d")


    def check_consumers() -> None:
        machine.wait_for_unit("by-file.service")
        machine.wait_for_unit("by-credential.service")
        assert read(machine, "/run/by-file/read") == vault.expected("backups", "hex")
        assert read(machine, "/run/by-credential/read") == vault.expected("session")


    with subtest("the first boot enrolls, and services read the right bytes"):
        machine.wait_for_unit("multi-user.target")
        check_consumers()
        machine.succeed(f"journalctl -b -u {vault.unit} | grep 'vault: enrolled'")

    with subtest("secrets are in RAM, and their owner's alone"):
        assert machine.succeed("findmnt -no FSTYPE /run/cryptkey").strip() == "ramfs"
        owner = machine.succeed(f"stat -c '%U %a' {vault.secrets}/restic")
        assert owner.strip() == "restic 400", owner
        assert run_as(machine, "restic", f"cat {vault.secrets}/restic") == 0
        assert run_as(machine, "nobody", f"cat {vault.secrets}/restic") != 0

    with subtest("the second boot verifies, and writes nothing"):
        state = "stat -c '%n %i %s %Y %Z' /var/lib/cryptkey/*"
        profile, before = read(machine, vault.profile), machine.succeed(state)
        secret = vault.expected("backups", "hex")
        machine.shutdown()
        machine.wait_for_unit("multi-user.target")
        check_consumers()
        machine.succeed(f"journalctl -b -u {vault.unit} | grep 'vault: verified'")
        assert vault.expected("backups", "hex") == secret
        assert read(machine, vault.profile) == profile
        assert machine.succeed(state) == before
        files = machine.succeed("ls -A /var/lib/cryptkey").split()
        assert files == ["pin-guard", "vault.toml"]

    published = [bytes.fromhex(secret.decode()), vault.expected("session")]
    secrets = [form for secret in published for form in forms(secret)]

    with subtest("the journal holds no secret"):
        journal = machine.succeed("journalctl --all --output=export")
        machine.succeed(f"journalctl -u {vault.unit} --priority=7..7 --output=cat | grep .")
        unspeakable = [*secrets, PIN, *forms(PIN.encode())]
        assert not found(unspeakable, journal)
        assert found(unspeakable, f"{journal}{unspeakable[0]}")

    with subtest("the disk holds no secret"):
        assert files_with(machine, secrets) == []
        machine.succeed(f"echo {secrets[0]} > /root/planted")
        assert files_with(machine, secrets) == ["/root/planted"]

    with subtest("a stop scrubs, and stops who needs the secrets"):
        machine.succeed(f"systemctl stop {vault.unit}")
        left = "find /run/cryptkey -path '*/.locks' -prune -o ! -type d -print"
        assert machine.succeed(left) == ""
        machine.require_unit_state("by-file.service", "inactive")
        machine.require_unit_state("by-credential.service", "inactive")
  '';
}
