{
  description = "Secrets for NixOS services that only a smart card in the machine can unlock";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-unstable";

  outputs =
    { self, nixpkgs }:
    let
      forEachSystem =
        f:
        nixpkgs.lib.genAttrs [
          "x86_64-linux"
          "aarch64-linux"
        ] (system: f nixpkgs.legacyPackages.${system});
    in
    {
      packages = forEachSystem (pkgs: {
        default = pkgs.callPackage ./package.nix { };
      });

      overlays.default = final: _: {
        nixos-cryptkey = final.callPackage ./package.nix { };
      };

      nixosModules.default = ./nixos-module;

      checks = forEachSystem (
        pkgs:
        {
          package = self.packages.${pkgs.stdenv.hostPlatform.system}.default;
        }
        // import ./nixos-tests { inherit pkgs; }
      );

      devShells = forEachSystem (pkgs: {
        default = pkgs.mkShell {
          inputsFrom = [ (pkgs.callPackage ./package.nix { }) ];
          packages = with pkgs; [
            clippy
            deadnix
            nixfmt
            rustfmt
          ];
        };
      });

      formatter = forEachSystem (pkgs: pkgs.nixfmt-tree);
    };
}
