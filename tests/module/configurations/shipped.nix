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
    # It names that profile: the key that it is sealed to is not to be destroyed.
    keys.new = {
      mode = "overwrite";
      overwrite.fingerprint = "SHA256:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8";
      slot = "82";
      acceptSingleCard = true;
      pin.file = "/etc/cryptkey/pin";
      secrets.borg = { };
    };
  };
}
