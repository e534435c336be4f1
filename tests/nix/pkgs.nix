# The little of nixpkgs' packages that the modules name. Nothing is built: a package is a path of the
# store that a machine can fill, and a text or the file of a spec is written by the evaluation.
# With a program, the derivation of a spec is a real one, to be built.
{
  lib,
  program,
  # Whether the machine that builds is of another kind: it can't run what is built, and has its own.
  cross ? false,
  buildRustPackage ? null,
}:
let
  # The same name has the same path in each evaluation. (The store's base 32 has no e.)
  path =
    name:
    let
      hash = builtins.substring 0 32 (builtins.hashString "sha256" name);
    in
    "${builtins.storeDir}/${builtins.replaceStrings [ "e" ] [ "z" ] hash}-${name}";

  package =
    name: attributes:
    let
      result = {
        inherit name;
        type = "derivation";
        outPath = path name;
        drvPath = "${path name}.drv";
        outputName = "out";
        bin = result;
        out = result;
        override = _: result;
        overrideAttrs = _: result;
      }
      // attributes;
    in
    result;

  # A file whose content is known.
  file = name: text: package name { outPath = builtins.toFile name text; };
  script = name: text: file name "#!/bin/bash\n${text}";

  derive =
    name: attributes: command:
    builtins.derivation (
      {
        inherit name;
        system = builtins.currentSystem;
        builder = "/bin/sh";
        args = [
          "-ec"
          ''
            PATH=/usr/bin:/bin
            for input in $nativeBuildInputs; do PATH=$input/bin:$PATH; done
            ${command}
            # Nix kills a builder whose output has ended, as it has when the last command ends.
            exit
          ''
        ];
      }
      // attributes
    );

  # What the package is made of is looked at by outputs.nix.
  build =
    attributes:
    if program == null then
      package "nixos-cryptkey" attributes
    else
      derive "nixos-cryptkey" { program = if cross then "/bin/false" else program; } ''
        mkdir -p $out/bin
        cp $program $out/bin/nixos-cryptkey
      '';

  pkgs =
    lib.genAttrs [
      "bash"
      "bashInteractive"
      "ccid"
      "coreutils"
      "findutils"
      "gnugrep"
      "gnused"
      "openssh"
      "openssl"
      "pcsclite"
      "pcscliteWithPolkit"
      "restic"
      "shadow"
      "systemd"
    ] (name: package name { })
    // {
      inherit lib;
      polkit = package "polkit" { version = "126"; };
      # The one that NixOS 22.11 chooses; Debian's, where a machine has it.
      postgresql_14 = package "postgresql" {
        version = "17";
        psqlSchema = "17";
      };

      stdenv = rec {
        hostPlatform = lib.systems.elaborate "x86_64-linux" // {
          canExecute = _: true;
        };
        buildPlatform = hostPlatform // {
          canExecute = _: !cross;
        };
      };
      buildPackages = if cross then import ./pkgs.nix { inherit lib program; } else pkgs;

      callPackage =
        path: overrides:
        let
          function = import path;
        in
        function (builtins.intersectAttrs (builtins.functionArgs function) pkgs // overrides);
      rustPlatform.buildRustPackage = if buildRustPackage == null then build else buildRustPackage;
      pkg-config = package "pkg-config" { };

      writeText = file;
      writeTextFile =
        {
          name,
          text,
          ...
        }:
        file name text;

      writeScript = file;
      writeShellScript = script;
      # A directory with bin/NAME, or with NAME, is what a machine makes of a file of this name.
      writeShellScriptBin = name: script "script-bin-${name}";
      writeTextDir = name: file "text-dir-${name}";

      buildEnv = { name, ... }: package name { };
      formats.json = _: {
        type = lib.types.anything;
        generate = name: value: file name (builtins.toJSON value);
      };

      # A derivation that checks a spec and lets it through.
      runCommand =
        name: attributes: command:
        if program == null then
          file name (attributes.spec or (throw "${name}: what it makes is not known"))
        else
          derive name attributes command;
      runCommandLocal = pkgs.runCommand;
    };
in
pkgs
