# The types of options that nixpkgs' lib lacks: they refuse what can't be meant, in words that help.
{ lib }:
let
  inherit (lib) mkOptionType types;

  # A path that needs no quotes, neither in a unit nor in tmpfiles.d(5).
  plainPath = types.strMatching "(/[A-Za-z0-9_.@+-]+)+";
in
{
  inherit plainPath;

  # A name of the spec.
  name = types.strMatching "[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}";

  # The name of a user or a group, or its number.
  account = types.either (types.strMatching "[^[:cntrl:]:/]+") types.ints.unsigned;

  # A path on the machine of what nobody else may read. A path literal would be copied into the Nix
  # store, where everybody may read it.
  secretPath = mkOptionType {
    name = "secretPath";
    description =
      "absolute path in quotes, outside of the Nix store (path literals are copied into the store, "
      + "which everybody may read)";
    check =
      path:
      builtins.isString path
      && plainPath.check path
      && !builtins.hasContext path
      && !lib.hasPrefix builtins.storeDir path;
    merge = lib.mergeEqualOption;
  };

  # A file that comes with the configuration: `check` reads it while the system is built.
  shippedFile = mkOptionType {
    name = "shippedFile";
    description = "path of a file of the configuration, without quotes (./NAME)";
    check = path: builtins.isPath path || lib.hasPrefix "${builtins.storeDir}/" "${path}";
    merge = lib.mergeEqualOption;
  };

  # The name of a user or a group in the polkit rule: ASCII, which every script engine reads alike.
  subjectName = types.strMatching "[ -~]{1,256}";

  # The name of a unit that may be meant to wait for a secret, or to read it again; assertions.nix
  # tells which one can wait.
  unitName =
    types.addCheck
      (types.strMatching "[A-Za-z0-9:_.\\-][A-Za-z0-9:_.@\\-]*\\.(service|socket|target|timer|path)")
      (name: builtins.stringLength name <= 255);
}
