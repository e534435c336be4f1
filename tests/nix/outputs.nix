# What the flake gives, with this directory's packages in the place of nixpkgs'.
{ nixpkgs }:
let
  lib = import (nixpkgs + "/lib");
  systems = [
    "aarch64-linux"
    "x86_64-linux"
  ];
  pkgs = import ./pkgs.nix {
    inherit lib;
    program = null;
  };

  outputs = (import ../../flake.nix).outputs {
    self = outputs;
    nixpkgs = {
      inherit lib;
      legacyPackages = lib.genAttrs systems (_: pkgs);
    };
  };
  package = outputs.packages.x86_64-linux.default;
in
{
  # What there is, and for which systems.
  names = builtins.mapAttrs (_: builtins.attrNames) outputs;
  package = {
    inherit (package) pname version;
    inherit (package.meta) mainProgram;
    src = "${package.src}";
    lock = builtins.readFile package.cargoLock.lockFile;
  };
  # The same package comes from the overlay and without flakes.
  overlay = (outputs.overlays.default pkgs pkgs).nixos-cryptkey.outPath == package.outPath;
  withoutFlakes = (import ../../default.nix { inherit pkgs; }).package.outPath == package.outPath;
  modules = map toString [
    outputs.nixosModules.default
    (import ../../default.nix { inherit pkgs; }).module
  ];
}
