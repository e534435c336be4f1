# A key on either of two cards, and one on a third that asks for touch and PIN.
{
  security.cryptkey = {
    enable = true;
    keys.vault = {
      cards = [
        { serial = "12345678"; }
        {
          serial = "23456789";
          pin.file = "/etc/cryptkey/spare.pin";
        }
      ];
      pin.file = "/etc/cryptkey/vault.pin";
      secrets.restic.requiredBy = [ "restic.service" ];
    };
    keys.desk = {
      cards = [ { serial = "34567890"; } ];
      touchPolicy = "always";
      acceptSingleCard = true;
      pin.ask = true;
      secrets.disk.requiredBy = [ "restic.service" ];
    };
  };
  systemd.services.restic.serviceConfig.ExecStart = "/bin/restic";
}
