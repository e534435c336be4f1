# The packages, built by Nix in its sandbox: the source is what package.nix lets through, and there is
# no network, no home, no root, no terminal, and no program but those of stdenv and of the inputs that
# package.nix names. What buildRustPackage runs is run with the Rust, the C compiler and the libraries
# of this machine; packages.sh says what of it is in the sandbox, and where.
{
  # The directory of nixpkgs.
  nixpkgs,
  # What the sandbox has: what is built with something else is built anew.
  machine,
}:
let
  lib = import (nixpkgs + "/lib");

  # A derivation that bash builds.
  runCommand =
    name: environment: command:
    builtins.derivation (
      {
        inherit name;
        system = builtins.currentSystem;
        builder = "/bin/bash";
        args = [
          "-euc"
          # Nix kills a builder whose output has ended: bash, which has it to its end, is the last.
          "PATH=/rust/bin:/usr/bin:/bin TERM=dumb\n${command}\nexit"
        ];
      }
      // environment
    );

  buildRustPackage =
    attributes:
    runCommand "${attributes.pname}-${attributes.version}"
      {
        inherit machine;
        inherit (attributes) src;
        inputs = map (input: input.name) (
          attributes.nativeBuildInputs ++ attributes.nativeCheckInputs or [ ]
        );
        buildFlags = attributes.cargoBuildFlags;
        testFlags = attributes.cargoTestFlags;
        doCheck = attributes.doCheck or true;
        target = "${pkgs.stdenv.hostPlatform.parsed.cpu.name}-unknown-linux-gnu";
        # What is compiled stays for the next build.
        CARGO_TARGET_DIR = "/target";
      }
      ''
        for input in $inputs; do PATH=$PATH:/inputs/$input; done
        # Not with the times of the store, all of them 1970: what was compiled would seem newer.
        cp -r $src source
        chmod -R u+w source
        mkdir .cargo
        cp ${./cargo.toml} .cargo/config.toml
        cd source
        flags="-j $NIX_BUILD_CORES --target $target --offline --locked --profile release"
        built="find /target/$target/release -maxdepth 1 -type f -executable"
        mkdir -p /target/$target/release $out/bin
        set -x
        $built -delete
        cargo build $flags $buildFlags
        $built -exec cp -t $out/bin {} +
        if [[ $doCheck ]]; then
          cargo test $flags $testFlags -- --test-threads=$NIX_BUILD_CORES
        fi
      ''
    // {
      inherit (attributes) meta;
      overrideAttrs = change: buildRustPackage (attributes // change attributes);
    };

  pkgs =
    import ./pkgs.nix {
      inherit buildRustPackage lib;
      program = null;
    }
    // {
      inherit runCommand;
      testers.runNixOSTest = test: test;
    };

  # Each test as it comes to runNixOSTest.
  tests = import ../../nixos-tests { inherit pkgs; };
  script =
    test:
    let
      module = import (builtins.head test.imports);
    in
    (if builtins.isFunction module then module { inherit lib pkgs; } else module).testScript;

  # What the test driver's build does with a script (nixos/lib/testing/driver.nix): the types of the
  # names that it has are written before it, for mypy; pyflakes knows the names alone. /python has both.
  check =
    name: test:
    let
      python = {
        cryptography = "/usr";
        python.sitePackages = "site-packages";
        toPythonModule = module: module;
      };
      packages = map (package: "${package}/site-packages") (test.extraPythonPackages python);
    in
    runCommand "checked-${name}"
      {
        testScript = script test;
        passAsFile = [ "testScript" ];
        PYTHONPATH = lib.concatStringsSep ":" ([ ./driver ] ++ packages);
      }
      ''
        cat ${./driver/names.py} > typed
        echo "machine: QemuMachine" >> typed
        export PYFLAKES_BUILTINS=$(sed --silent 's/^\([a-z_]*\): .*/\1,/p' typed | tr --delete '\n')
        cat $testScriptPath >> typed
        /python/bin/python -m mypy --no-implicit-optional --pretty --no-color-output typed
        /python/bin/python -m pyflakes $testScriptPath
        cp typed $out
      '';
in
{
  scripts = builtins.attrValues (builtins.mapAttrs check tests);
  program = pkgs.callPackage ../../package.nix { };
  virtual-card = pkgs.callPackage ../../nixos-tests/virtual-card.nix { };
}
