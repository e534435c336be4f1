# A key on either of two cards, one on a third that asks for touch and PIN, and one that takes two of
# three cards, whose PINs people know.
{
  security.cryptkey = {
    enable = true;
    keys.vault = {
      cards = [
        {
          serial = "12345678";
          id = "machine";
        }
        {
          serial = "23456789";
          id = "safe";
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
    keys.board = {
      cards = map (serial: { inherit serial; }) [
        "45678901"
        "56789012"
        "67890123"
      ];
      threshold = 2;
      pin.ask = true;
      askTimeoutSec = 120;
      secrets.archive.requiredBy = [ "restic.service" ];
    };
  };
  systemd.services.restic.serviceConfig.ExecStart = "/bin/restic";
}
