# Options -> spec: the JSON that nixos-cryptkey reads. Pure, and needs no nixpkgs.
let
  given = builtins.filter (name: name != null);
  # Fields that are not set are left out: to the program, null is a value like others.
  set =
    fields:
    removeAttrs fields (builtins.filter (name: fields.${name} == null) (builtins.attrNames fields));

  # A list, or no field.
  some = list: if list == [ ] then null else list;

  # The word true, or no field.
  flag = value: if value then true else null;

  # The name of the credential that holds a PIN: the key's, or one card's own.
  credential = card: builtins.concatStringsSep "-" ([ "pin" ] ++ given [ (cardName card) ]);
  cardName = card: if card.serial or null != null then card.serial else card.guid or null;

  pin =
    card: source:
    if source == null then
      null
    else
      set {
        credential = if source.file != null || source.credential != null then credential card else null;
        ask = flag source.ask;
      };

  managementKey =
    source:
    if source == null then
      null
    else
      set {
        inherit (source) file;
        protected = flag source.protected;
        factoryDefault = flag source.factoryDefault;
      };

  card =
    card:
    set {
      inherit (card)
        serial
        guid
        id
        slot
        touchPolicy
        pinPolicy
        ;
      pin = pin card card.pin;
      managementKey = managementKey card.managementKey;
    };

  # The slots that a key uses, of whatever card.
  slots = key: [ key.slot ] ++ given (map (card: card.slot) key.cards);

  # A path literal becomes a file of the Nix store.
  profile = key: if key.profile == null then null else "${key.profile}";

  key =
    key:
    set {
      inherit (key)
        threshold
        slot
        touchPolicy
        pinPolicy
        mode
        enroll
        profileId
        softFail
        cardTimeoutSec
        touchTimeoutSec
        ask
        askTimeoutSec
        minTries
        ;
      cards = map card key.cards;
      overwrite = if key.overwrite.fingerprint == null then null else key.overwrite;
      attestation = {
        inherit (key.attestation) policy;
        roots = map (file: "${file}") key.attestation.roots;
      };
      profile = profile key;
      pin = pin { } key.pin;
      managementKey = managementKey key.managementKey;
      secrets = builtins.mapAttrs (_: secret) key.secrets;
    };

  secret =
    secret:
    set {
      inherit (secret)
        use
        format
        algorithm
        alphabet
        length
        newline
        owner
        group
        mode
        ;
      # A path literal becomes a file of the Nix store.
      file = if secret.file == null then null else "${secret.file}";
      classes = some secret.classes;
      restartUnits = some secret.restartUnits;
      reloadUnits = some secret.reloadUnits;
    };

  # What a run that publishes needs to know of a key: not who reads its secrets.
  published =
    key:
    key
    // {
      secrets = builtins.mapAttrs (
        _: secret:
        secret
        // {
          restartUnits = [ ];
          reloadUnits = [ ];
        }
      ) key.secrets;
    };

  spec = cfg: keys: {
    version = 1;
    inherit (cfg) stateDir runtimeDir sharedCard;
    keys = builtins.mapAttrs (_: key) keys;
  };

  pcsc = cfg: { pcsc = { inherit (cfg.pcsc) users groups; }; };
in
rec {
  # The keys that the machine has.
  keys =
    cfg:
    removeAttrs cfg.keys (
      builtins.filter (name: !cfg.keys.${name}.enable) (builtins.attrNames cfg.keys)
    );

  # The spec of the whole machine, for people.
  machine = cfg: spec cfg (keys cfg) // pcsc cfg;

  # The spec of one key, for its unit. It names the other keys in the same slots: what is sealed to it
  # for them is no orphan. Where it may destroy a key, it names the profiles that are shipped for the
  # others, too. It names no more, as a unit whose spec changed is reloaded: so it does not have the
  # units that restart, which are in the machine's.
  one =
    cfg: name:
    let
      own = cfg.keys.${name};
      others = removeAttrs (keys cfg) [ name ];
      isSibling = other: builtins.any (slot: builtins.elem slot (slots own)) (slots others.${other});
      shipped = if own.mode == "overwrite" then builtins.attrValues others else [ ];
    in
    spec cfg { ${name} = published own; }
    // {
      otherKeys = builtins.filter isSibling (builtins.attrNames others);
      otherProfiles = given (map (other: profile other) shipped);
    };

  # The spec of the polkit unit: it changes with the users and groups alone.
  polkit = cfg: spec cfg { } // pcsc cfg;

  # The PINs that systemd has to hand to a key's unit, each with the name of its credential and the
  # file that it comes from.
  credentials =
    key:
    let
      from = name: pin: {
        inherit name;
        inherit (pin) file credential;
      };
      sources =
        map (card: {
          name = credential card;
          inherit (card) pin;
        }) key.cards
        ++ [
          {
            name = credential { };
            inherit (key) pin;
          }
        ];
    in
    map (source: from source.name source.pin) (
      builtins.filter (
        source: source.pin != null && (source.pin.file != null || source.pin.credential != null)
      ) sources
    );
}
