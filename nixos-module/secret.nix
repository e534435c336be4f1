# The options of a secret, a submodule of security.cryptkey.keys.<name>.secrets.
{ directory, lib }:
{ config, name, ... }:
let
  inherit (lib) mkOption types;
  isService = lib.hasSuffix ".service";
  inherit (import ./types.nix { inherit lib; })
    account
    plainPath
    shippedFile
    unitName
    ;
in
{
  options = {
    file = mkOption {
      type = types.nullOr shippedFile;
      default = null;
      example = lib.literalExpression "./db.age";
      description = ''
        An age file that holds the secret, for one that you choose. Encrypt it to the key's recipient, which
        `nixos-cryptkey public` prints (`age -r RECIPIENT`), or with `nixos-cryptkey encrypt`. It is published
        as it is, so `use`, `format`, `length` and `newline` stay at their defaults. Null: the secret is derived
        from the key.
      '';
    };

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
        "age"
        "ed25519"
        "wireguard"
        "pem"
        "password"
      ];
      default = "raw";
      description = ''
        How the secret is written. `raw`, `hex` (lower case) and `base64` (padded) are random bytes. `age` is
        an age identity, `ed25519` a key as OpenSSH keeps it, `wireguard` a private key of WireGuard, `pem` a
        private key in PKCS#8. These four have a public half: it is published beside the secret
        (`SECRET.pub`), and `nixos-cryptkey public` prints it without the card. `password` is drawn from
        `alphabet`.
      '';
    };

    algorithm = mkOption {

      example = "p256";
      type = types.nullOr (
        types.enum [
          "ed25519"
          "x25519"
          "p256"
        ]
      );
      default = null;
      description = "With format `pem`, the kind of key. Null is `ed25519`.";
    };

    alphabet = mkOption {

      example = "abcdefghjkmnpqrstuvwxyz23456789";
      type = types.nullOr (types.strMatching "[!-~]{2,94}");
      default = null;
      description = "With format `password`, its characters, each once. Null is letters and digits.";
    };

    classes = mkOption {

      example = [
        "upper"
        "digit"
      ];
      type = types.listOf (
        types.enum [
          "upper"
          "lower"
          "digit"
          "symbol"
        ]
      );
      default = [ ];
      description = "With format `password`, the classes of which it has at least one character each.";
    };

    length = mkOption {

      example = 64;
      type = types.ints.between 1 1024;
      default = 32;
      description = ''
        The number of bytes, before `format` is applied; of a password, of characters (at most 256). Keys have
        a length of their own: leave it at 32.
      '';
    };

    newline = mkOption {

      example = true;
      type = types.bool;
      default = false;
      description = "Whether a newline follows. `ed25519` and `pem` always end with one.";
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
