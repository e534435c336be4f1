{
  lib,
  openssl,
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

  # What the build does not read does not rebuild it: another package reloads every key.
  src = lib.cleanSourceWith {
    src = ./.;
    filter =
      path: _:
      let
        part = lib.removePrefix "${toString ./.}/" path;
      in
      lib.any (wanted: lib.hasPrefix "${wanted}/" "${part}/" || lib.hasPrefix "${part}/" wanted) [
        "Cargo.lock"
        "Cargo.toml"
        "docs/spec.md"
        "docs/spec.schema.json"
        "polkit"
        "src"
        "tests/support/chance.rs"
        "tests/vectors/age"
        "virtual-card"
      ];
  };
  cargoLock.lockFile = ./Cargo.lock;

  nativeBuildInputs = [ pkg-config ];
  # Makes the certificates that the tests look at.
  nativeCheckInputs = [ openssl ];
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
