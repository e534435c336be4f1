# Where a PIN and a management key come from: options that a key and each of its cards have.
{ lib }:
let
  inherit (lib) mkOption types;
  inherit (import ./types.nix { inherit lib; }) secretPath;

  nullable =
    type: options:
    mkOption (
      {
        type = types.nullOr type;
        default = null;
      }
      // options
    );
  source = options: fields: nullable (types.submodule { options = fields; }) options;
in
{
  pin =
    whose:
    source
      {
        description = ''
          Where the PIN of ${whose} comes from: exactly one of `file`, `credential` and `ask`. The
          PIN itself never goes into the configuration.
        '';
        example = lib.literalExpression ''{ credential = "/etc/credstore.encrypted/vault.pin"; }'';
      }
      {
        file = nullable secretPath {
          description = ''
            A file of root that holds the PIN. systemd hands it to the unit (`LoadCredential=`). Where it
            is missing the unit fails (exit 14), and no PIN try is spent.
          '';
          example = "/etc/cryptkey/vault.pin";
        };
        credential = nullable secretPath {
          description = ''
            An encrypted credential that holds the PIN, made on the machine with
            `systemd-creds encrypt --name=NAME - FILE`. `NAME` is `pin`, or `pin-SERIAL` (`pin-GUID`)
            for a card's own PIN. Where it is missing or can't be decrypted, no PIN try is spent: what
            else opens the key does, or the unit fails (exit 14).
          '';
          example = "/etc/credstore.encrypted/vault.pin";
        };
        ask = mkOption {
          example = true;
          type = types.bool;
          default = false;
          description = "Somebody is asked at the console, or by Plymouth, at each boot.";
        };
      };

  managementKey =
    whose:
    source
      {
        description = ''
          Where the management key of ${whose} comes from: exactly one of `file`, `protected` and
          `factoryDefault`. Only generating a key on the card needs it.
        '';
        example = lib.literalExpression "{ protected = true; }";
      }
      {
        file = nullable secretPath {
          description = ''
            A file of root that holds the management key in hex. It is read only when a key is
            generated, and may be removed afterwards.
          '';
          example = "/etc/cryptkey/vault.management-key";
        };
        protected = mkOption {
          example = true;
          type = types.bool;
          default = false;
          description = ''
            The card keeps it behind the PIN, as `ykman piv access change-management-key --protect`
            arranges.
          '';
        };
        factoryDefault = mkOption {
          example = true;
          type = types.bool;
          default = false;
          description = ''
            It is the one of a new card, which everybody knows: whoever reaches the card can put
            another key in its place.
          '';
        };
      };
}
