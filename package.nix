{
  lib,
  pcsclite,
  pkg-config,
  rustPlatform,
}:
let
  manifest = (lib.importTOML ./Cargo.toml).package;
in
rustPlatform.buildRustPackage {
  pname = manifest.name;
  inherit (manifest) version;

  src = lib.cleanSourceWith {
    src = lib.cleanSource ./.;
    # What the build does not read does not rebuild it.
    filter =
      path: _:
      !lib.hasSuffix ".nix" path
      && !builtins.elem (baseNameOf path) [
        "nixos-tests"
        "target"
      ];
  };
  cargoLock.lockFile = ./Cargo.lock;

  nativeBuildInputs = [ pkg-config ];
  buildInputs = [ pcsclite ];

  cargoBuildFlags = [ "--package=${manifest.name}" ];
  # The other tests want a pcscd, or to boot machines; the flake's checks boot machines, too.
  cargoTestFlags = [
    "--package=${manifest.name}"
    "--lib"
  ];

  meta = {
    inherit (manifest) description;
    license = with lib.licenses; [
      mit
      asl20
    ];
    mainProgram = manifest.name;
    platforms = lib.platforms.linux;
  };
}
