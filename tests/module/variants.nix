# minimal.nix on machines of other kinds: the names of those on which the module yields something else.
# The options are stand-ins, so this shows that the module asks for nothing that such a machine lacks.
{ nixpkgs }:
let
  lib = import (nixpkgs + "/lib");
  minimal = ./configurations/minimal.nix;
  evaluated = import ../nix/evaluate.nix {
    inherit nixpkgs;
    configuration = minimal;
  };

  # What the module yields.
  yield =
    { config, ... }:
    let
      isOurs = name: unit: lib.hasInfix "cryptkey" (name + unit.text);
    in
    {
      inherit (config) warnings;
      assertions = builtins.filter (found: !found.assertion) config.assertions;
      units = map (unit: removeAttrs unit [ "unit" ]) (
        builtins.attrValues (lib.filterAttrs isOurs config.systemd.units)
      );
      tmpfiles = builtins.filter (lib.hasInfix "cryptkey") config.systemd.tmpfiles.rules;
      etc = removeAttrs config.environment.etc [ "cryptkey/vault.pin" ];
    };
  written = found: builtins.toJSON (yield found);

  variants = {
    userborn.services.userborn.enable = true;
    sysusers.systemd.sysusers.enable = true;
    etc-overlay.system.etc.overlay.enable = true;
    etc-overlay-that-is-read-only = {
      system.etc.overlay = {
        enable = true;
        mutable = false;
      };
      # minimal.nix has its PIN there.
      environment.etc."cryptkey/vault.pin".source = "/persist/vault.pin";
    };
    initrd.boot.initrd.systemd.enable = true;
    without-nix.nix.enable = false;
    networkd = {
      networking.useNetworkd = true;
      systemd.network.enable = true;
    };
    containers.containers.web.bindMounts."/secrets".hostPath = "/run/cryptkey";
    # As its module binds what persists.
    impermanence.fileSystems = {
      "/".fsType = "tmpfs";
      "/persist".fsType = "ext4";
      "/var/lib/cryptkey" = {
        device = "/persist/var/lib/cryptkey";
        fsType = "none";
        options = [ "bind" ];
      };
    };
    # Hibernation would write secrets to the disk; these can't.
    swaps.swapDevices = [ { device = "/dev/sda2"; } ];
    resumes.boot.resumeDevice = "/dev/sda2";
    swaps-with-a-random-key.swapDevices = [
      {
        device = "/dev/sda2";
        randomEncryption.enable = true;
      }
    ];
    does-not-hibernate = {
      swapDevices = [ { device = "/dev/sda2"; } ];
      boot.kernelParams = [ "nohibernate" ];
    };
    # As virtualisation.vmVariant and specialisation make another machine of this one.
    vm = {
      fileSystems = lib.mkOverride 10 { "/".fsType = "ext4"; };
      virtualisation.diskSize = 1024;
    };
  };
  extended = module: evaluated.extendModules { modules = [ module ]; };
  secret.security.cryptkey.keys.vault.secrets.more = { };
in
{
  changed = builtins.attrNames (
    lib.filterAttrs (_: module: written (extended module) != written evaluated) variants
  );
  # And a change is noticed.
  specialisation = written (extended secret) != written evaluated;
  # It is gone for whoever disables it.
  disabled =
    !(import ../nix/evaluate.nix {
      inherit nixpkgs;
      configuration.disabledModules = [ ../../nixos-module ];
    }).options.security
      ? cryptkey;
}
