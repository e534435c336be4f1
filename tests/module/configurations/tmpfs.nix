# Secrets on a tmpfs with a size; pcscd and polkit are somebody else's, and nobody needs a rule. Nobody is
# asked for anything.
{
  security.cryptkey = {
    enable = true;
    pcsc.enable = false;
    runtimeFileSystem.type = "tmpfs";
    keys.vault = {
      acceptSingleCard = true;
      ask = false;
      pin.credential = "/etc/credstore.encrypted/vault.pin";
      secrets.restic = { };
    };
  };
}
