# What a machine with a configuration boots with, as values that are JSON. Every file of the Nix store
# that they name, packages aside, is afterwards in DIR/nix/store:
#
#   nix-instantiate --eval --strict --json --read-write-mode --store DIR machine.nix \
#     --arg nixpkgs /PATH --arg configuration /PATH
{ ... }@arguments:
let
  inherit (import ./evaluate.nix arguments) config;
  inherit (builtins)
    attrValues
    filter
    listToAttrs
    map
    mapAttrs
    ;
in
{
  # The text of each unit as NixOS writes it, and what links to it.
  units = mapAttrs (_: unit: {
    inherit (unit)
      aliases
      enable
      overrideStrategy
      requiredBy
      text
      wantedBy
      ;
  }) config.systemd.units;

  # What is linked into /etc: a file of the store for each name.
  etc = listToAttrs (
    map (file: {
      name = file.target;
      value = "${file.source}";
    }) (filter (file: file.enable) (attrValues config.environment.etc))
  );

  # The lines of tmpfiles.d.
  tmpfiles = config.systemd.tmpfiles.rules;

  # What the configuration says of itself: the messages of assertions that failed, and warnings.
  assertions = map (found: found.message) (filter (found: !found.assertion) config.assertions);
  inherit (config) warnings;

  # What other modules read.
  keys = mapAttrs (_: key: {
    inherit (key) unit;
    secrets = mapAttrs (_: secret: secret.path) key.secrets;
  }) config.security.cryptkey.keys;
}
