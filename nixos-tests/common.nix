# What every machine of the tests has: a reader with a virtual card, the key `vault` in slot 9d of
# that card, and two services that need its secrets: `by-file` opens the file as a user of its own,
# `by-credential` gets it from systemd.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  card = "${lib.getExe (pkgs.callPackage ./virtual-card.nix { })} --state=/var/lib/virtual-card";
  port = toString config.services.vsmartcard-vpcd.port;
  secrets = config.security.cryptkey.keys.vault.secrets;

  # A service that keeps what it read where the test finds it. NAME/read is in its runtime directory.
  consumer = name: serviceConfig: {
    wantedBy = [ "multi-user.target" ];
    serviceConfig = {
      Type = "oneshot";
      RemainAfterExit = true;
      RuntimeDirectory = name;
      RuntimeDirectoryMode = "0700";
    }
    // serviceConfig;
  };
in
{
  imports = [ ../nixos-module ];

  security.cryptkey = {
    enable = true;
    keys.vault = {
      acceptSingleCard = true;
      # bad-morning.nix writes another PIN there.
      pin.file = lib.mkDefault "/var/lib/pin/vault";
      # The card is new: its slots are empty, and its management key is the factory's.
      managementKey.factoryDefault = true;
      secrets = {
        restic = {
          use = "backups";
          format = "hex";
          owner = "restic";
          requiredBy = [ "by-file.service" ];
        };
        session.requiredBy = [ "by-credential.service" ];
      };
    };
  };

  systemd = {
    tmpfiles.rules = [
      "d /var/lib/pin 0700 root root -"
      "f /var/lib/pin/vault 0600 root root - hq7Zkw2P"
    ];

    services = {
      virtual-card = {
        description = "A card, put into the reader of vpcd whenever pcscd runs";
        wantedBy = [ "multi-user.target" ];
        serviceConfig = {
          StateDirectory = "virtual-card";
          StateDirectoryMode = "0700";
          # The factory. Here and not below: the journal quotes the command of who writes to it.
          ExecStartPre = "${card} --init-only --pin=hq7Zkw2P";
          # $ARGUMENTS: --absent, for a card that a test inserts.
          ExecStart = "${card} --port=${port} --patience=86400 $ARGUMENTS";
        };
      };

      by-file = consumer "by-file" {
        User = "restic";
        ExecStart = "${pkgs.coreutils}/bin/cp ${secrets.restic.path} %t/by-file/read";
      };

      by-credential = consumer "by-credential" {
        DynamicUser = true;
        LoadCredential = "session:${secrets.session.path}";
        ExecStart = "${pkgs.coreutils}/bin/cp %d/session %t/by-credential/read";
      };
    };
  };

  services.vsmartcard-vpcd.enable = true;

  users.users.restic = {
    isSystemUser = true;
    group = "restic";
  };
  users.groups.restic = { };

  # Tells the virtual card what to do.
  environment.systemPackages = [ pkgs.socat ];
}
