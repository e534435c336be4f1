# A derivation that holds the texts of all units, and thus builds all that they name.
{ ... }@arguments:
let
  inherit (import ./evaluate.nix arguments) config;
  units = builtins.attrValues config.systemd.units;
in
builtins.derivation {
  name = "units";
  system = builtins.currentSystem;
  builder = "/bin/sh";
  args = [
    "-ec"
    "/bin/cp $textPath $out"
  ];
  passAsFile = [ "text" ];
  text = builtins.concatStringsSep "\n" (map (unit: unit.text) units);
}
