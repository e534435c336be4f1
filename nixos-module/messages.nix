# What the messages of assertions.nix and surroundings.nix are made with. Pure, and needs no nixpkgs.
{ cfg }:
rec {
  keys = (import ./spec.nix).keys cfg;
  names = builtins.attrNames keys;
  option = name: "security.cryptkey.keys.${name}";

  each = f: builtins.concatMap (name: f name keys.${name}) names;
  # The message, in one line, where the condition holds.
  on =
    condition: message:
    if condition then [ (builtins.replaceStrings [ "\n" ] [ " " ] message) ] else [ ];

  sourcesOf =
    field: name: key:
    builtins.filter (found: found.source != null) (
      [
        {
          source = key.${field};
          at = "${option name}.${field}";
        }
      ]
      ++ map (card: {
        source = card.${field};
        at = "${option name}.cards.*.${field}";
      }) key.cards
    );

  isAbove =
    path: dir:
    path == "/"
    || dir == path
    || builtins.substring 0 (builtins.stringLength path + 1) dir == "${path}/";

  eachSecret =
    f:
    each (
      name: key:
      builtins.concatMap (secret: f "${option name}.secrets.${secret}" key.secrets.${secret}) (
        builtins.attrNames key.secrets
      )
    );
}
