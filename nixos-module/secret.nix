# The options of a secret, a submodule of security.cryptkey.keys.<name>.secrets.
{ directory, lib }:
{ config, name, ... }:
let
  inherit (lib) mkOption types;
  isService = lib.hasSuffix ".service";
  inherit (import ./types.nix { inherit lib; }) account plainPath unitName;
in
{
  options = {
    use = mkOption {
      example = "backups";
      type = types.strMatching "[^[:cntrl:]]{1,256}";
      default = name;
      defaultText = lib.literalExpression "name";
      description = ''
        What the secret is for. Secrets of one use are the same bytes, of another use others: changing it changes the secret. With
        the use written out, the secret can be renamed and stays the same.
      '';
    };

    format = mkOption {

      example = "hex";
      type = types.enum [
        "raw"
        "hex"
        "base64"
      ];
      default = "raw";
      description = "How the bytes are written: as they are, as lower-case hex, as base64 with padding.";
    };

    length = mkOption {

      example = 64;
      type = types.ints.between 1 1024;
      default = 32;
      description = "The number of bytes, before `format` is applied.";
    };

    newline = mkOption {

      example = true;
      type = types.bool;
      default = false;
      description = "Whether a newline follows.";
    };

    owner = mkOption {
      type = account;
      default = "root";
      example = "restic";
      description = ''
        The user who owns the file, by name or number. Who owns it can change it, and make it grow until
        the file system has no room for any key's secrets. So where its reader takes that, leave it to
        root, and name the reader's `group`, with `mode = "0440"`.
      '';
    };

    group = mkOption {

      example = "backup";
      type = account;
      default = "root";
      description = "The group of the file, by name or number.";
    };

    mode = mkOption {

      example = "0440";
      type = types.strMatching "0?[0-7]{3}";
      default = "0400";
      description = "The permissions of the file, in octal.";
    };

    path = mkOption {
      type = plainPath;
      default = "${directory}/${name}";
      defaultText = lib.literalExpression ''"''${config.security.cryptkey.runtimeDir}/KEY/SECRET"'';
      example = "/var/lib/app/session.key";
      description = ''
        Where the secret is. With another path than the default, systemd-tmpfiles makes a symbolic
        link there; what is there already is left as it is. Other modules read this option.
      '';
    };

    requiredBy = mkOption {
      type = types.listOf unitName;
      default = [ ];
      example = [ "restic-backups-home.service" ];
      description = ''
        Units that need the secret. They start after the key's unit; they do not start if it failed,
        and are skipped if it failed softly (`softFail`) and the secret is not there. Of what a socket
        or a path starts, name the service.
      '';
    };

    restartUnits = mkOption {
      type = types.listOf unitName;
      default = lib.subtractLists config.reloadUnits (builtins.filter isService config.requiredBy);
      defaultText = lib.literalExpression ''
        lib.subtractLists reloadUnits (lib.filter (lib.hasSuffix ".service") requiredBy)
      '';
      example = [ "grafana.service" ];
      description = ''
        Units that read the secret, and restart when its bytes have changed: after a reload of the key's
        unit, be it by a switch or later, or after `nixos-cryptkey apply`. Never at a boot, never where
        only the owner or the mode changed, and only those that are active then, or starting. What you
        list here takes the place of the default, the services of `requiredBy`: list them, too, or `[ ]` for
        none. `NAME@.service` means all instances of a template.
      '';
    };

    reloadUnits = mkOption {
      type = types.listOf unitName;
      default = [ ];
      example = [ "nginx.service" ];
      description = ''
        The same for units that read the secret again when they reload. A unit that can't reload
        restarts.
      '';
    };

    before = mkOption {
      type = types.listOf unitName;
      default = [ ];
      example = [ "nginx.service" ];
      description = "Units that start after the key's unit, whatever became of it.";
    };
  };
}
