# The NixOS module security.cryptkey: joins the pure parts with NixOS.
{
  config,
  lib,
  options,
  pkgs,
  ...
}:
let
  cfg = config.security.cryptkey;
  etc = config.system.etc.overlay or { };
  # Somebody's disabledModules may have taken them out, and who defines what is not there gets an error.
  hasPcscd = options ? services.pcscd;
  hasPolkit = options ? security.polkit;
  spec = import ./spec.nix;

  # The program of the machine that builds, which may be another one than this.
  checker =
    if pkgs.stdenv.buildPlatform.canExecute pkgs.stdenv.hostPlatform then
      cfg.package
    else
      pkgs.buildPackages.callPackage ../package.nix { };

  # A spec as a file; a bad one fails the build, and not the boot.
  checked =
    name: value:
    pkgs.runCommand "${name}.json"
      {
        nativeBuildInputs = [ checker ];
        passAsFile = [ "spec" ];
        spec = builtins.toJSON value;
      }
      ''
        cp "$specPath" ${name}.json
        nixos-cryptkey check --spec ${name}.json
        mv ${name}.json "$out"
      '';

  specs = {
    keys = lib.mapAttrs (name: _: checked "cryptkey-${name}" (spec.one cfg name)) (spec.keys cfg);
    polkit = checked "cryptkey-polkit" (spec.polkit cfg);
    machine = checked "cryptkey" (spec.machine cfg);
  };

  units = import ./units.nix {
    inherit cfg specs;
    systemd = config.systemd.package;
  };

  # By where they are mounted.
  fileSystems =
    lib.listToAttrs (
      map (mount: lib.nameValuePair mount.where { fsType = mount.type; }) config.systemd.mounts
    )
    // lib.mapAttrs' (_: found: lib.nameValuePair found.mountPoint found) config.fileSystems;

  found = import ./assertions.nix {
    inherit cfg fileSystems;
    inherit (config.systemd) services;
    users = lib.mapAttrsToList (_: user: user.name) config.users.users;
    groups = lib.mapAttrsToList (_: group: group.name) config.users.groups;
  };
  foundAround = import ./surroundings.nix {
    inherit cfg fileSystems;
    readOnlyEtc =
      if etc.enable or false && !(etc.mutable or true) then
        lib.mapAttrsToList (_: file: file.target) config.environment.etc
      else
        null;
    passwordFiles = lib.mapAttrs (
      _: user: user.hashedPasswordFile or user.passwordFile or null
    ) config.users.users;
    containers = config.containers or { };
    # With a key that is drawn at each boot, nothing could be read again.
    hibernatesTo =
      lib.optionals
        (
          cfg.warnOfHibernation
          && !(config.security.protectKernelImage or false)
          && !(builtins.elem "nohibernate" (config.boot.kernelParams or [ ]))
        )
        (
          lib.unique (
            lib.optional ((config.boot.resumeDevice or "") != "") config.boot.resumeDevice
            ++ map (swap: swap.device or "swap") (
              builtins.filter (swap: !(swap.randomEncryption.enable or false)) (config.swapDevices or [ ])
            )
          )
        );
    missing =
      lib.optional (!hasPcscd) "services.pcscd.enable"
      ++ lib.optional (!hasPolkit) "security.polkit.enable";
  };

  rule = builtins.replaceStrings [ "@USERS@" "@GROUPS@" ] (map builtins.toJSON [
    cfg.pcsc.users
    cfg.pcsc.groups
  ]) (builtins.readFile ../polkit/nixos-cryptkey.rules);
in
{
  imports = [ ./options.nix ];

  config = lib.mkIf cfg.enable (
    lib.mkMerge [
      {
        assertions = map (message: {
          assertion = false;
          inherit message;
        }) (found.assertions ++ foundAround.assertions);
        warnings = found.warnings ++ foundAround.warnings;

        environment.systemPackages = [ cfg.package ];
        environment.etc."cryptkey/spec.json".source = specs.machine;

        systemd = {
          services = lib.mkMerge units.services;
          targets = lib.mkMerge units.targets;
          timers = lib.mkMerge units.timers;
          inherit (units) mounts sockets;
          tmpfiles.rules = units.tmpfiles;
        };
      }
      (lib.mkIf cfg.pcsc.enable (
        lib.optionalAttrs hasPcscd { services.pcscd.enable = true; }
        // lib.optionalAttrs hasPolkit { security.polkit.enable = true; }
      ))
      (lib.mkIf (cfg.pcsc.enable && cfg.pcsc.rule == "configuration") {
        environment.etc."polkit-1/rules.d/05-nixos-cryptkey.rules".text = rule;
        systemd.services.polkit.restartTriggers = [ (builtins.hashString "sha256" rule) ];
      })
    ]
  );
}
