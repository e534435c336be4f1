# NixOS' own module for restic asks the key where its password is.
{ config, ... }:
{
  security.cryptkey = {
    enable = true;
    keys.vault = {
      acceptSingleCard = true;
      pin.credential = "/etc/credstore.encrypted/vault.pin";
      secrets.restic = {
        format = "hex";
        requiredBy = [ "restic-backups-home.service" ];
      };
    };
  };
  services.restic.backups.home = {
    initialize = true;
    paths = [ "/home" ];
    repository = "/backup";
    passwordFile = config.security.cryptkey.keys.vault.secrets.restic.path;
  };
}
