# Evaluates a NixOS configuration with the module of this repository, as far as a machine without
# nixpkgs can: the library, the types of systemd's units and what makes their text, pcscd, polkit and
# the users are nixpkgs' own (22.11, see nixpkgs/Cargo.toml); stand-ins.nix declares what that copy
# lacks, and pkgs.nix takes the place of the packages.
{
  # The directory of nixpkgs.
  nixpkgs,
  # The configuration: a module.
  configuration,
  # The program, to build derivations with. Without it they are only paths.
  program ? null,
  # Whether another kind of machine builds it.
  cross ? false,
  # Where nixpkgs' library is; one of another version can be tried by hand.
  library ? nixpkgs + "/lib",
}:
let
  lib = import library;
  pkgs = import ./pkgs.nix { inherit cross lib program; };
in
lib.evalModules {
  specialArgs.modulesPath = nixpkgs + "/nixos/modules";
  modules = [
    configuration
    ../../nixos-module
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
    "misc/meta"
    "security/polkit"
    "services/backup/restic"
    "services/databases/postgresql"
    "services/hardware/pcscd"
  ];
}
