# The options of a key, a submodule of security.cryptkey.keys.
{ cfg, lib }:
{ name, ... }:
let
  inherit (lib) literalExpression mkOption types;
  sources = import ./sources.nix { inherit lib; };
  names = import ./types.nix { inherit lib; };

  slot = types.enum (
    [
      "9a"
      "9d"
      "9e"
    ]
    ++ map (n: "8" + n) (lib.stringToCharacters "23456789abcdef")
    ++ map (n: "9" + n) (lib.stringToCharacters "012345")
  );
  touchPolicy = types.enum [
    "never"
    "always"
    "cached"
  ];
  pinPolicy = types.enum [
    "never"
    "once"
    "always"
  ];

  card = {
    options = {
      serial = mkOption {
        type = types.nullOr (
          types.coercedTo types.ints.positive toString (types.strMatching "[1-9][0-9]*")
        );
        default = null;
        example = "12345678";
        description = "The serial in decimal, as `nixos-cryptkey cards` prints it.";
      };
      guid = mkOption {
        type = types.nullOr (types.strMatching "[0-9A-Fa-f-]{32,36}");
        default = null;
        example = "8c4b2c4e53a24e0a9d6f0c1f1f0d7a35";
        description = "The GUID, for cards without a serial and for makers who give all cards one serial.";
      };
      id = mkOption {
        type = types.nullOr names.name;
        default = null;
        example = "safe";
        description = ''
          The id that its provider in the profile gets when the card is enrolled, as
          `nixos-cryptkey provider list` shows it. By default `card-1`, or the next number.
        '';
      };
      slot = mkOption {
        type = types.nullOr slot;
        default = null;
        example = "82";
        description = ''
          The slot of this card's key, if not `slot` of the key: cards of two makers can share a key.
        '';
      };
      touchPolicy = mkOption {
        type = types.nullOr touchPolicy;
        default = null;
        example = "never";
        description = "When this card wants a touch, if not as `touchPolicy` of the key says.";
      };
      pinPolicy = mkOption {
        type = types.nullOr pinPolicy;
        default = null;
        example = "never";
        description = "When this card wants the PIN, if not as `pinPolicy` of the key says.";
      };
      pin = sources.pin "this card, if not that of the key,";
      managementKey = sources.managementKey "this card, if not that of the key,";
    };
  };
in
{
  options = {
    enable = mkOption {
      example = false;
      type = types.bool;
      default = true;
      description = "Whether the machine has this key. Its profile stays where it is either way.";
    };

    cards = mkOption {
      type = types.listOf (types.submodule card);
      default = [ ];
      example = literalExpression ''
        [
          { serial = "12345678"; }
          {
            serial = "23456789";
            id = "safe";
          }
        ]
      '';
      description = ''
        The cards that may open the key. Empty: the only card present, whichever it is. A card that is
        not listed sees no PIN. A listed card that is not enrolled yet is enrolled by the next run in
        which it is there and the key is opened; no secret changes, and nobody waits for it. One that
        is no longer listed is reported, and stays enrolled until `nixos-cryptkey provider remove`.
      '';
    };

    threshold = mkOption {

      example = 2;
      type = types.nullOr (types.ints.between 1 255);
      default = null;
      description = ''
        How many of the key's providers (cards, recovery codes, passphrases) have to come together to
        open it. A new key is sealed to so many of `cards`, which all have to be there; by default to
        one. Where the profile has another number, that is reported, and
        `nixos-cryptkey reseal --threshold` changes it.
      '';
    };

    slot = mkOption {

      example = "9a";
      type = slot;
      default = "9d";
      description = "The slot of the card's key. 9c is not among them: its keys only sign.";
    };

    touchPolicy = mkOption {

      example = "cached";
      type = touchPolicy;
      default = "never";
      description = ''
        When the card wants a touch; `cached` lets one touch hold for 15 seconds. It is part of the
        card's key: one that is there must have it, one that is generated gets it.
      '';
    };

    pinPolicy = mkOption {

      example = "never";
      type = pinPolicy;
      default = "once";
      description = ''
        When the card wants the PIN, as for `touchPolicy`. With `never`, whoever reaches the card can
        use its key.
      '';
    };

    mode = mkOption {

      example = "overwrite";
      type = types.enum [
        "use-existing"
        "overwrite"
      ];
      default = "use-existing";
      description = ''
        What enrollment does with a key that is in the slot already: it uses it, or, with `overwrite`,
        destroys it and makes a new one, if it is the very key that `overwrite.fingerprint` names. Any
        other key is left alone, and the refusal prints the line that names it. An empty slot gets a
        new key either way.
      '';
    };

    overwrite.fingerprint = mkOption {

      example = "SHA256:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8";
      type = types.nullOr (types.strMatching "SHA256:[A-Za-z0-9+/]{43}");
      default = null;
      description = ''
        With `mode = "overwrite"`: the key to destroy, as `nixos-cryptkey cards` prints it. It acts once:
        afterwards another key is in the slot, and this may stay as it is. Other cards that open the
        key's profile have to be there, and the secrets stay the same. docs/spec.md says what else has
        to hold.
      '';
    };

    overwrite.abandonProfile = mkOption {

      example = true;
      type = types.bool;
      default = false;
      description = ''
        Whether a profile of this key that only the destroyed key opens may be given up. It is kept
        under a dated name, and a new master key is made: every secret of the key changes.
      '';
    };

    attestation.policy = mkOption {

      example = "required";
      type = types.enum [
        "off"
        "if-available"
        "required"
      ];
      default = "off";
      description = ''
        Whether the card has to attest, at enrollment, that it made its key itself, so that no copy of
        the key is elsewhere. `if-available`: a card that can't attest, or a key that was imported, is
        enrolled all the same; a bad attestation is refused. `required`: nothing is enrolled, or
        generated, without a good one. Cards that are enrolled already are not asked.
      '';
    };

    attestation.roots = mkOption {

      example = literalExpression "[ ./yubico-piv-roots.pem ]";
      type = types.listOf types.path;
      default = [ ];
      description = ''
        Files with the certificates, in PEM, of the makers' roots, and of whatever is between them and
        the cards. Self-signed ones are trusted, the others only where one of those vouches for them.
        Yubico's are at <https://developers.yubico.com/PKI/>: the root `yubico-ca-1.pem` with
        `yubico-intermediate.pem` for firmware 5.7.4 and later, `yubico-piv-ca-1.pem` for older cards.
      '';
    };

    enroll = mkOption {

      example = "never";
      type = types.enum [
        "auto"
        "never"
      ];
      default = "auto";
      description = ''
        `auto`: where there is no profile yet, a new key is made and sealed to the card. `never`: that
        is an error.
      '';
    };

    profileId = mkOption {
      type = types.nullOr (types.strMatching "[0-9a-f]{32}");
      default = null;
      example = "00112233445566778899aabbccddeeff";
      description = ''
        The id of the key: a hash of its public part. It stays when cards are added, and changes with
        `rotate`. Enrollment prints it. Set it then: from there on a lost profile is an error, and never
        leads to a new key, whose secrets would all be other ones; and no other key can take its place.
      '';
    };

    profile = mkOption {
      type = types.nullOr types.path;
      default = null;
      example = literalExpression "./vault.toml";
      description = ''
        A sealed profile that comes with the configuration, in place of the one in `stateDir`.
        Nothing is enrolled beside it, or added to it. It may be in the Nix store: only its cards and
        recovery codes open it. docs/fleet.md shows it on several hosts.
      '';
    };

    softFail = mkOption {

      example = true;
      type = types.bool;
      default = false;
      description = ''
        Whether an absent card or reader, or a touch or an answer that did not come, is no failure:
        the unit is started all the same, and units in `requiredBy` are skipped. A wrong PIN, a
        changed key and a damaged or lost profile are never forgiven.
      '';
    };

    acceptSingleCard = mkOption {

      example = true;
      type = types.bool;
      default = false;
      description = ''
        Silences the warning that the key is lost with one card. Set it once the key has a recovery code
        or a passphrase, which the configuration can't see (`nixos-cryptkey provider add recovery`),
        or if what the secrets protect can be had in another way.
      '';
    };

    acceptUnpinned = mkOption {

      example = true;
      type = types.bool;
      default = false;
      description = ''
        Silences the warning that a lost profile leads to a new key at the next boot, whose secrets are
        all other ones. Better than that is to set `profileId`, or to ship the profile (`profile`). Set
        this where nothing is lost with the secrets, or where one configuration serves several machines
        that have profiles of their own.
      '';
    };

    pin = sources.pin "the cards";
    managementKey = sources.managementKey "the cards";

    minTries = mkOption {

      example = 3;
      type = types.ints.between 2 15;
      default = 2;
      description = ''
        With fewer tries left than this, no PIN is presented: the last one is never spent.
      '';
    };

    cardTimeoutSec = mkOption {

      example = 120;
      type = types.ints.between 0 3600;
      default = 30;
      description = ''
        How long to wait for the card, in seconds. 0: it is there or it is not. Waiting for another
        key's turn on the same card does not count.
      '';
    };

    touchTimeoutSec = mkOption {

      example = 60;
      type = types.ints.between 1 600;
      default = 20;
      description = "How long to wait for a touch, in seconds. Many cards give up after 15.";
    };

    ask = mkOption {

      example = false;
      type = types.bool;
      default = true;
      description = ''
        Whether a person is asked, on the console or in Plymouth, for a passphrase or a recovery code
        where the cards that are there do not open the key. Nobody is asked where the key has neither.
        After a question that nobody answered, no other is asked. At a boot, logins on the console and
        the display manager come after it.
      '';
    };

    askTimeoutSec = mkOption {

      example = 300;
      type = types.ints.between 1 600;
      default = 90;
      description = ''
        How long a question waits for an answer, in seconds: for a PIN (`pin.ask`), a passphrase or a
        recovery code.
      '';
    };

    secrets = mkOption {

      example = literalExpression ''{ restic = { format = "hex"; owner = "restic"; }; }'';
      type = types.attrsOf (
        types.submodule (
          import ./secret.nix {
            inherit lib;
            directory = "${cfg.runtimeDir}/${name}";
          }
        )
      );
      default = { };
      description = "The published secrets, by name. The name is the name of the file.";
    };

    unit = mkOption {
      type = types.str;
      readOnly = true;
      default = "cryptkey-${name}.service";
      defaultText = literalExpression ''"cryptkey-''${name}.service"'';
      description = "The key's unit, for other modules: its secrets are there once it is started.";
    };
  };
}
