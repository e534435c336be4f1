# Options of NixOS that the copy of nixpkgs lacks (it has no nixos/modules/system, .../services/system
# and .../tasks): no more of each than the modules and the configurations of the tests use. The types
# of systemd's units are real, and so is what makes their text.
{
  config,
  lib,
  pkgs,
  utils,
  ...
}:
let
  inherit (lib) mkOption types;
  systemd = utils.systemdUtils;
  cfg = config.systemd;

  option = type: default: mkOption { inherit type default; };
  many = type: option (types.attrsOf type) { };
  list = type: option (types.listOf type) [ ];
  anything = many types.anything;
  units = type: option type { };

  file =
    {
      name,
      config,
      options,
      ...
    }:
    {
      options = {
        enable = option types.bool true;
        target = option types.str name;
        text = option (types.nullOr types.lines) null;
        source = mkOption { type = types.path; };
        mode = option types.str "symlink";
        user = option types.str "+0";
        group = option types.str "+0";
      };
      config.source = lib.mkIf (config.text != null) (
        lib.mkDerivedConfig options.text (pkgs.writeText (baseNameOf name))
      );
    };

  fileSystem =
    { name, ... }:
    {
      options = {
        mountPoint = option types.str name;
        device = option (types.nullOr types.str) null;
        fsType = option types.str "auto";
        options = option (types.listOf types.str) [ "defaults" ];
        neededForBoot = option types.bool false;
      };
    };

  # As in nixos/modules/system/boot/systemd.nix.
  named =
    kind: toUnit: found:
    lib.mapAttrs' (name: unit: lib.nameValuePair "${name}.${kind}" (toUnit name unit)) found;
  placed =
    kind: toUnit: found:
    lib.listToAttrs (
      map (
        unit:
        let
          name = utils.escapeSystemdPath unit.where;
        in
        lib.nameValuePair "${name}.${kind}" (toUnit name unit)
      ) found
    );
in
{
  options = {
    environment = {
      etc = many (types.submodule file);
      systemPackages = list types.package;
      pathsToLink = list types.str;
      profiles = list types.str;
      extraOutputsToInstall = list types.str;
    };
    fileSystems = many (types.submodule fileSystem);
    swapDevices = list types.anything;
    boot = anything;
    containers = anything;
    networking = anything;
    nix = anything;
    system = {
      activationScripts = anything;
      etc = anything;
      extraDependencies = list types.package;
      path = option types.package (pkgs.buildEnv { name = "system-path"; });
      stateVersion = option types.str "22.11";
    };
    nixpkgs = anything;
    security = {
      wrappers = anything;
      pam.services = anything;
      googleOsLogin.enable = option types.bool false;
    };
    services.dbus.packages = list types.package;
    services.userborn = anything;
    virtualisation = anything;

    systemd = {
      package = option types.package pkgs.systemd;
      packages = list types.package;
      globalEnvironment = many types.str;
      tmpfiles.rules = list types.str;
      network = anything;
      sysusers = anything;

      units = units systemd.types.units;
      automounts = option systemd.types.automounts [ ];
      mounts = option systemd.types.mounts [ ];
      paths = units systemd.types.paths;
      services = units systemd.types.services;
      slices = units systemd.types.slices;
      sockets = units systemd.types.sockets;
      targets = units systemd.types.targets;
      timers = units systemd.types.timers;
    };
  };

  config.systemd.units =
    named "path" systemd.lib.pathToUnit cfg.paths
    // named "service" systemd.lib.serviceToUnit cfg.services
    // named "slice" systemd.lib.sliceToUnit cfg.slices
    // named "socket" systemd.lib.socketToUnit cfg.sockets
    // named "target" systemd.lib.targetToUnit cfg.targets
    // named "timer" systemd.lib.timerToUnit cfg.timers
    // placed "automount" systemd.lib.automountToUnit cfg.automounts
    // placed "mount" systemd.lib.mountToUnit cfg.mounts;
}
