# The virtual card of the tests: built from the same source, lock file and toolchain as the program,
# and never part of it.
{ callPackage }:
(callPackage ../package.nix { }).overrideAttrs (previous: {
  pname = "virtual-card";
  cargoBuildFlags = [ "--package=virtual-card" ];
  # `cargo test` runs its tests, which want a pcscd.
  doCheck = false;
  meta = previous.meta // {
    description = "A software PIV card, for tests";
    mainProgram = "virtual-card";
  };
})
