# A host of a documented flake, as a module: nixpkgs is the tests' own, and so is this repository.
{
  # The directory of the flake.
  flake,
  # The name of the host.
  name,
}:
{ lib, ... }:
let
  outputs = (import (flake + "/flake.nix")).outputs {
    nixpkgs.lib = lib // {
      nixosSystem = system: { imports = system.modules; };
    };
    nixos-cryptkey.nixosModules.default = ../../nixos-module;
  };
  hosts = outputs.nixosConfigurations;
  files = builtins.attrNames (builtins.readDir (flake + "/hosts"));
in
# Each file is used, and each host has one.
assert files == map (host: "${host}.nix") (builtins.attrNames hosts);
hosts.${name}
