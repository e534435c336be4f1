# The NixOS module security.cryptkey: joins the pure parts with NixOS.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  cfg = config.security.cryptkey;
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

  inherit
    (import ./assertions.nix {
      inherit cfg;
      inherit (config.systemd) services;
      # By where they are mounted.
      fileSystems =
        lib.listToAttrs (
          map (mount: lib.nameValuePair mount.where { fsType = mount.type; }) config.systemd.mounts
        )
        // lib.mapAttrs' (_: found: lib.nameValuePair found.mountPoint found) config.fileSystems;
      users = lib.mapAttrsToList (_: user: user.name) config.users.users;
      groups = lib.mapAttrsToList (_: group: group.name) config.users.groups;
    })
    assertions
    warnings
    ;

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
        }) assertions;
        inherit warnings;

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
      (lib.mkIf cfg.pcsc.enable {
        services.pcscd.enable = true;
        security.polkit.enable = true;
      })
      (lib.mkIf (cfg.pcsc.enable && cfg.pcsc.rule == "configuration") {
        environment.etc."polkit-1/rules.d/05-nixos-cryptkey.rules".text = rule;
        systemd.services.polkit.restartTriggers = [ (builtins.hashString "sha256" rule) ];
      })
    ]
  );
}
