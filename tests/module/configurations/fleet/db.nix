# A host whose card has the key in another slot, and that boots without it, too.
{
  imports = [ ./common.nix ];
  security.cryptkey.keys.fleet = {
    softFail = true;
    cards = [ { serial = "10000002"; } ];
  };
}
