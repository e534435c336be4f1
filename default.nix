# For people without flakes: `(import ./. { }).package`, and `imports = [ (import ./. { }).module ];`.
{
  pkgs ? import <nixpkgs> { },
}:
{
  package = pkgs.callPackage ./package.nix { };
  module = ./nixos-module;
}
