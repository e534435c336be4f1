# Every option of the module with a value of its own.
{
  security.cryptkey = {
    enable = true;
    stateDir = "/persist/cryptkey";
    runtimeDir = "/run/secrets-of-cards";
    verbosity = 2;
    warnOfHibernation = false;
    sharedCard = "refuse";
    runtimeFileSystem = {
      type = "tmpfs";
      size = "4m";
    };
    pcsc = {
      users = [
        "alice"
        "o'brien \"\\"
      ];
      groups = [ "wheel" ];
      rule = "runtime";
    };

    keys.vault = {
      cards = [
        { serial = 12345678; }
        {
          guid = "8c4b2c4e53a24e0a9d6f0c1f1f0d7a35";
          id = "safe";
          pin.credential = "/etc/credstore.encrypted/spare.pin";
          managementKey.protected = true;
        }
      ];
      threshold = 2;
      slot = "82";
      touchPolicy = "cached";
      pinPolicy = "always";
      mode = "overwrite";
      overwrite.fingerprint = "SHA256:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8";
      overwrite.abandonProfile = true;
      attestation.policy = "required";
      attestation.roots = [ "/etc/cryptkey/roots.pem" ];
      minTries = 3;
      enroll = "auto";
      profileId = "00112233445566778899aabbccddeeff";
      softFail = true;
      acceptSingleCard = true;
      acceptUnpinned = true;
      pin.credential = "/etc/credstore.encrypted/vault.pin";
      managementKey.file = "/etc/cryptkey/vault.management-key";
      cardTimeoutSec = 120;
      touchTimeoutSec = 10;
      ask = false;
      askTimeoutSec = 300;
      secrets = {
        restic = {
          use = "backups";
          format = "hex";
          length = 64;
          newline = true;
          owner = "restic";
          group = "restic";
          mode = "0440";
          path = "/var/lib/restic/password";
          requiredBy = [
            "restic-backups-home.service"
            "restic-backups-home.timer"
          ];
          before = [ "nginx.service" ];
          reloadUnits = [ "nginx.service" ];
        };
        wifi = {
          format = "base64";
          owner = 1000;
          group = 100;
          requiredBy = [
            "nginx.service"
            "restic-backups-home.service"
          ];
          restartUnits = [
            "nginx.service"
            "wifi@.service"
          ];
        };
      };
    };

    keys.desk = {
      cards = [ { serial = "87654321"; } ];
      pin.ask = true;
      managementKey.factoryDefault = true;
      enroll = "never";
      secrets = {
        disk = { };
        tls = {
          format = "pem";
          algorithm = "p256";
        };
        login = {
          format = "password";
          alphabet = "abcdefghjkmnpqrstuvwxyz23456789";
          classes = [ "digit" ];
          length = 20;
        };
      };
    };

    # Declared, and not on this machine.
    keys.later = {
      enable = false;
      pin.ask = true;
    };
  };

  fileSystems."/persist" = {
    device = "/dev/vda2";
    fsType = "ext4";
  };

  users.users.restic = {
    isSystemUser = true;
    group = "restic";
  };
  users.groups.restic = { };

  systemd.services.restic-backups-home.serviceConfig.ExecStart = "/bin/restic backup /home";
  systemd.timers.restic-backups-home = {
    wantedBy = [ "timers.target" ];
    timerConfig.OnCalendar = "daily";
  };
  systemd.services.nginx.serviceConfig.ExecStart = "/bin/nginx";
  systemd.services."wifi@".serviceConfig.ExecStart = "/bin/wifi %i";
}
