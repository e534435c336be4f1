# Configurations that are not meant so: each is added to minimal.nix. The module says what is wrong.
{ nixpkgs }:
let
  lib = import (nixpkgs + "/lib");
  read-only-etc.system.etc.overlay = {
    enable = true;
    mutable = false;
  };
  # A change of the key that minimal.nix has, and another key.
  vault = options: { security.cryptkey.keys.vault = options; };
  other = options: { security.cryptkey.keys.other = options; };
  ask.pin.ask = true;
  secret = options: vault { secrets.restic = options; };
  two = [
    { serial = "12345678"; }
    { serial = "23456789"; }
  ];
  shipped =
    name: options: other (ask // options // { profile = ../vectors/profiles + "/${name}.toml"; });
  written = text: other (ask // { profile = builtins.toFile "other.toml" text; });

  cases = {
    key-name.security.cryptkey.keys."my key" = ask;
    key-name-with-at.security.cryptkey.keys."vault@home" = ask;
    pin-from-two = vault ask;
    pin-from-none = vault {
      cards = [
        {
          serial = "12345678";
          pin = { };
        }
      ];
    };
    no-pin = other { };
    no-pin-for-one-card = other {
      cards = [
        { serial = "12345678"; }
        {
          serial = "23456789";
          pin.ask = true;
        }
      ];
    };
    management-key-from-two = vault {
      managementKey = {
        protected = true;
        factoryDefault = true;
      };
    };
    management-key-from-none = vault {
      cards = [
        {
          serial = "12345678";
          managementKey = { };
        }
      ];
    };
    nameless-card = vault { cards = [ ask ]; };

    state-in-ram.fileSystems."/".fsType = "tmpfs";
    state-in-ram-below.fileSystems = {
      "/".fsType = "ext4";
      "/var/lib".fsType = "ramfs";
    };
    state-on-a-disk-below-ram.fileSystems = {
      "/".fsType = "tmpfs";
      "/var/lib/cryptkey".fsType = "ext4";
    };
    state-mounted-by-a-unit = {
      fileSystems."/".fsType = "tmpfs";
      systemd.mounts = [
        {
          where = "/var/lib/cryptkey";
          what = "/persist/cryptkey";
          type = "none";
          options = "bind";
        }
      ];
    };
    state-in-a-home.security.cryptkey.stateDir = "/root/cryptkey";
    state-beside-ram.fileSystems."/var/lib/crypt".fsType = "tmpfs";

    etc-that-is-read-only =
      vault {
        cards = [
          {
            serial = "12345678";
            pin.file = "/etc/cryptkey/pin";
            managementKey.file = "/etc/keys/management-key";
          }
        ];
        secrets.restic.path = "/etc/restic/password";
      }
      // read-only-etc;
    etc-that-has-it =
      vault {
        pin.file = lib.mkForce "/etc/here/vault.pin";
        secrets.restic.path = "/etc/restic/password";
      }
      // read-only-etc
      // {
        environment.etc.here.source = "/persist/here";
        fileSystems."/etc/restic".fsType = "ext4";
      };
    etc-that-is-mutable = secret { path = "/etc/restic/password"; } // {
      system.etc.overlay.enable = true;
    };
    password-of-a-user = {
      users.users.alice = {
        isNormalUser = true;
        passwordFile = "/run/cryptkey/vault/restic";
      };
    };
    password-at-another-path = secret { path = "/var/lib/password"; } // {
      users.users.root.passwordFile = "/var/lib/password";
    };
    container-with-a-link.containers.web.bindMounts = {
      "/run/cryptkey/vault" = { };
      "/secret".hostPath = "/run/cryptkey/vault/restic";
    };
    container-with-the-directory.containers.web.bindMounts."/secrets".hostPath = "/run/cryptkey";
    pcscd-without-its-module.disabledModules = [
      "security/polkit.nix"
      "services/hardware/pcscd.nix"
    ];
    pcscd-of-somebody-else = {
      disabledModules = [ "services/hardware/pcscd.nix" ];
      security.cryptkey.pcsc.enable = false;
    };

    too-early = secret {
      requiredBy = [ "systemd-cryptsetup@root.service" ];
      before = [
        "sysinit.target"
        "early.service"
      ];
    };
    socket = secret { requiredBy = [ "restic.socket" ]; };
    path = secret { before = [ "restic.path" ]; };
    unit-without-default-dependencies = secret { before = [ "early.service" ]; } // {
      systemd.services.early.unitConfig.DefaultDependencies = false;
    };
    unit-without-default-dependencies-in-words = secret { before = [ "early.service" ]; } // {
      systemd.services.early.unitConfig.DefaultDependencies = "no";
    };
    unpinned-in-another-directory.security.cryptkey.stateDir = "/persist/cryptkey";
    unpinned-with-consumers = secret { requiredBy = [ "nix-daemon.service" ]; };
    unpinned-with-who-comes-after = secret { before = [ "nix-daemon.service" ]; };
    unpinned-in-another-directory-with-consumers = {
      imports = [ (secret { requiredBy = [ "nix-daemon.service" ]; }) ];
      security.cryptkey.stateDir = "/persist/cryptkey";
    };
    unpinned-and-accepted = {
      imports = [ (vault { acceptUnpinned = true; }) ];
      security.cryptkey.stateDir = "/persist/cryptkey";
    };
    unpinned-and-never-enrolled = {
      imports = [ (vault { enroll = "never"; }) ];
      security.cryptkey.stateDir = "/persist/cryptkey";
    };
    unpinned-no-more = {
      imports = [ (vault { profileId = "00112233445566778899aabbccddeeff"; }) ];
      security.cryptkey.stateDir = "/persist/cryptkey";
    };
    undefined-unit = secret { requiredBy = [ "resitc.service" ]; };
    undefined-unit-to-restart = secret {
      requiredBy = [ "resitc.service" ];
      reloadUnits = [ "ngnix.service" ];
      restartUnits = [
        "postgersql.service"
        "resitc.service"
        "worker@1.service"
      ];
    };
    units-to-restart =
      secret {
        reloadUnits = [ "worker@1.service" ];
        restartUnits = [
          "worker@.service"
          "multi-user.target"
          "restic.timer"
        ];
      }
      // {
        systemd.services."worker@".serviceConfig.ExecStart = "/bin/worker %i";
      };
    restarts-itself = secret {
      restartUnits = [ "cryptkey-vault.service" ];
      reloadUnits = [ "cryptkey-reload@vault.service" ];
    };
    packaged-unit = secret { requiredBy = [ "packaged.service" ]; } // {
      systemd.services.packaged.overrideStrategy = "asDropin";
    };

    undeclared-owner = secret {
      owner = "restic";
      group = "backup";
    };
    disabled-unit = secret { requiredBy = [ "old.service" ]; } // {
      systemd.services.old.enable = false;
    };
    unit-of-systemd = secret { requiredBy = [ "systemd-networkd.service" ]; } // {
      systemd.services.systemd-networkd.wantedBy = [ "multi-user.target" ];
    };

    declared-owner-of-another-name = secret { owner = "backup"; } // {
      users = {
        mutableUsers = false;
        allowNoPasswordLogin = true;
        users.restic = {
          name = "backup";
          isSystemUser = true;
          group = "backup";
        };
        groups.restic.name = "backup";
      };
    };
    undeclared-owner-for-good = secret { owner = "restic"; } // {
      users = {
        mutableUsers = false;
        allowNoPasswordLogin = true;
      };
    };

    no-card-named = other (ask // { cards = [ { serial = "12345678"; } ]; }) // {
      imports = [
        (other { cards = [ { serial = "23456789"; } ]; })
      ];
    };
    touch-without-anybody = vault { touchPolicy = "cached"; };
    one-card = other (ask // { cards = [ { serial = "12345678"; } ]; });
    two-cards-of-which-one-opens = other (ask // { cards = two; });
    two-cards-that-open-together = other (
      ask
      // {
        cards = two;
        threshold = 2;
      }
    );
    threshold-without-cards = vault { threshold = 2; };
    threshold-above-the-cards = other (
      ask
      // {
        cards = two;
        threshold = 3;
      }
    );
    threshold-of-an-enrolled-key = vault {
      threshold = 2;
      profileId = "00112233445566778899aabbccddeeff";
    };
    threshold-of-a-key-that-is-not-enrolled = vault {
      threshold = 2;
      enroll = "never";
    };
    shipped-and-no-backup = shipped "piv-only" { };
    shipped-and-no-backup-for-two-cards = shipped "piv-only" { cards = two; };
    shipped-with-threshold = shipped "piv-piv-recovery" { threshold = 3; };
    shipped-and-all-needed = shipped "piv-recovery" { };
    shipped-with-backup = shipped "piv-piv-recovery-any" { };
    shipped-and-state-in-ram = shipped "piv-piv-recovery-any" { } // {
      fileSystems."/".fsType = "tmpfs";
    };
    shipped-without-pin = shipped "piv-piv-recovery-any" {
      pin = null;
      pinPolicy = "never";
    };
    shipped-and-yet-to-be-built = other (
      ask
      // {
        profile = derivation {
          name = "other.toml";
          system = "none";
          builder = "none";
        };
      }
    );
    shipped-and-missing = shipped "missing" { };
    shipped-directory = other (ask // { profile = ../vectors/profiles; });
    shipped-and-empty = written "";
    shipped-of-another-kind = written "[recipients]\nalice = \"age1\"\n";
    # What is wrong with these, check says when the spec is built.
    shipped-and-no-toml = written "= providers";
    shipped-with-wrong-types = written "threshold = \"two\"\nproviders = 3\n";
    shipped-in-another-style = written "threshold=0x2 # of 3\r\n  [[ providers ]]\r\n\ttype='passphrase'\r\n";
    attestation-without-roots = vault { attestation.policy = "required"; };
    attestation-if-available-without-roots = vault { attestation.policy = "if-available"; };
    attestation-roots-missing = vault {
      attestation = {
        policy = "required";
        roots = [ ./missing.pem ];
      };
    };
    attestation-roots-in-a-home = vault {
      attestation = {
        policy = "required";
        roots = [
          "/etc/cryptkey/roots.pem"
          "/home/alice/roots.pem"
        ];
      };
    };
    roots-without-attestation = vault { attestation.roots = [ "/etc/cryptkey/roots.pem" ]; };
    profile-in-a-home = other (ask // { profile = "/home/alice/other.toml"; });
    users-without-pcsc.security.cryptkey.pcsc = {
      enable = false;
      users = [ "alice" ];
    };
    abandon-without-fingerprint = vault {
      mode = "overwrite";
      overwrite.abandonProfile = true;
    };
    overwrite-without-mode = vault {
      overwrite.fingerprint = "SHA256:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8";
    };
    one-use-in-two-formats = vault {
      secrets.age = {
        use = "backups";
        format = "age";
      };
      secrets.restic.use = "backups";
    };
    shipped-with-passphrase = written "[[providers]]\ntype = \"passphrase\"\n";
  };

  yields =
    case:
    let
      machine = import ../nix/machine.nix {
        inherit nixpkgs;
        configuration.imports = [
          ./configurations/minimal.nix
          case
        ];
      };
    in
    {
      inherit (machine) assertions warnings;
    };
in
builtins.mapAttrs (_: yields) cases
