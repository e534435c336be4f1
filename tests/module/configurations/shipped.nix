# A profile that comes with the configuration.
{
  security.cryptkey = {
    enable = true;
    keys.piv-only = {
      profile = ../../vectors/profiles/piv-only.toml;
      acceptSingleCard = true;
      pin.file = "/etc/cryptkey/pin";
      secrets.restic = { };
    };
  };
}
