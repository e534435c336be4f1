# The least: one key in the one card that is present, and one secret.
{
  security.cryptkey = {
    enable = true;
    keys.vault = {
      pin.file = "/etc/cryptkey/vault.pin";
      secrets.restic = { };
    };
  };
}
