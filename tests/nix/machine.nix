# Evaluates a NixOS configuration with the module of this repository, as far as a machine without
# nixpkgs can: the library, the types of systemd's units and what makes their text, pcscd, polkit and
# the users are nixpkgs' own (22.11, see nixpkgs/Cargo.toml); stand-ins.nix declares what that copy
# lacks. Yields what a machine boots with, as values that are JSON:
#
#   nix-instantiate --eval --strict --json --read-write-mode --store DIR machine.nix \
#     --arg nixpkgs /PATH --arg configuration /PATH
#
# Every file of the Nix store that it names is then below DIR/nix/store, but for packages.
{
  # The directory of nixpkgs.
  nixpkgs,
  # The configuration: a module.
  configuration,
  # Where nixpkgs' library is; that of another version may be tried by hand.
  lib ? import (nixpkgs + "/lib"),
  # The module under test.
  module ? ../../nixos-module,
  # The program, to build derivations with; without it, files are written by the evaluation.
  program ? null,
}:
let
  pkgs = import ./pkgs.nix { inherit lib program; };

  evaluated = lib.evalModules {
    specialArgs.modulesPath = nixpkgs + "/nixos/modules";
    modules = [
      configuration
      module
      ./stand-ins.nix
      (
        { config, ... }:
        {
          _module.args = {
            inherit pkgs;
            utils = import (nixpkgs + "/nixos/lib/utils.nix") { inherit config lib pkgs; };
          };
        }
      )
    ]
    ++ map (name: nixpkgs + "/nixos/modules/${name}.nix") [
      "config/users-groups"
      "misc/assertions"
      "misc/ids"
      "security/polkit"
      "services/hardware/pcscd"
    ];
  };
  inherit (evaluated) config options;
in
{
  # The text of each unit as NixOS writes it, and what links to it.
  units = lib.mapAttrs (_: unit: {
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
  etc = lib.mapAttrs' (_: file: lib.nameValuePair file.target "${file.source}") (
    lib.filterAttrs (_: file: file.enable) config.environment.etc
  );

  # The lines of tmpfiles.d.
  tmpfiles = config.systemd.tmpfiles.rules;

  # What the configuration says of itself: the messages of assertions that failed, and warnings.
  assertions = map (found: found.message) (lib.filter (found: !found.assertion) config.assertions);
  inherit (config) warnings;

  # What other modules read.
  keys = lib.mapAttrs (_: key: {
    inherit (key) unit;
    secrets = lib.mapAttrs (_: secret: secret.path) key.secrets;
  }) config.security.cryptkey.keys;
}
// lib.optionalAttrs (program != null) {
  inherit config options;
}
