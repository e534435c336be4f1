# A derivation that holds the texts of all units and the files in /etc, and thus builds what they name.
{ ... }@arguments:
let
  inherit (import ./evaluate.nix arguments) config;
  units = map (unit: unit.text) (builtins.attrValues config.systemd.units);
  etc = map (file: "${file.source}") (builtins.attrValues config.environment.etc);
in
builtins.derivation {
  name = "units";
  system = builtins.currentSystem;
  builder = "/bin/sh";
  args = [
    "-ec"
    # Not at last: see pkgs.nix.
    "/bin/cp $textPath $out; exit"
  ];
  passAsFile = [ "text" ];
  text = builtins.concatStringsSep "\n" (units ++ etc);
}
