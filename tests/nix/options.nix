# The options of the module, for its reference: values are written as in a configuration.
{
  nixpkgs,
  library ? nixpkgs + "/lib",
}:
let
  lib = import library;
  inherit
    (import ./evaluate.nix {
      inherit library nixpkgs;
      configuration = { };
    })
    options
    ;

  written = value: value.text or (lib.generators.toPretty { multiline = false; } value);
  shown = option: option.visible && !option.internal;
in
map (option: {
  inherit (option)
    description
    name
    readOnly
    type
    ;
  default = if option ? default then written option.default else null;
  example = if option ? example then written option.example else null;
}) (builtins.filter shown (lib.optionAttrSetToDocList options.security.cryptkey))
