# Two keys on one card: one without a PIN, in the slot for card authentication.
{
  security.cryptkey = {
    enable = true;
    keys.vault = {
      pin.credential = "/etc/credstore.encrypted/card.pin";
      acceptSingleCard = true;
      secrets.restic = { };
    };
    keys.door = {
      slot = "9e";
      pinPolicy = "never";
      acceptSingleCard = true;
      secrets.wifi = { };
    };
    # In one slot with vault, whose profile is thus no orphan.
    keys.attic = {
      pin.credential = "/etc/credstore.encrypted/card.pin";
      acceptSingleCard = true;
      secrets.photos = { };
    };
  };
}
