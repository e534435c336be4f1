# Configurations that are not meant so: each is added to minimal.nix. The module says what is wrong.
{ nixpkgs }:
let
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
    undefined-unit = secret { requiredBy = [ "resitc.service" ]; };
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
