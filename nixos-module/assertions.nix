# What can be known to go wrong, or likely does, while the configuration is evaluated; each message
# says what to change. Pure, and needs no nixpkgs.
{
  cfg,
  # What the rest of the machine is like: its file systems by where they are mounted, its services by
  # name, and the names of its users and groups.
  fileSystems,
  services,
  users,
  groups,
}:
let
  inherit (import ./messages.nix { inherit cfg; })
    each
    eachSecret
    isAbove
    on
    option
    sourcesOf
    ;

  pinPolicyOf = key: card: if card.pinPolicy or null == null then key.pinPolicy else card.pinPolicy;
  count = flags: builtins.length (builtins.filter (flag: flag) flags);
  missing = at: path: ''
    ${at}: ${builtins.unsafeDiscardStringContext (toString path)} is not there. Correct the path; in a
    flake, a new file is seen once git knows it (`git add`).'';

  ## The state directory

  # The file system of the state directory: of those that are mounted above it, the lowest.
  stateFileSystem = builtins.foldl' (
    found: path:
    if
      isAbove path cfg.stateDir
      && (found == null || builtins.stringLength path > builtins.stringLength found)
    then
      path
    else
      found
  ) null (builtins.attrNames fileSystems);
  stateIsInRam =
    stateFileSystem != null
    && builtins.elem fileSystems.${stateFileSystem}.fsType [
      "tmpfs"
      "ramfs"
    ];

  # What the sandbox puts an empty directory over.
  isHidden =
    path:
    builtins.any (dir: isAbove dir path) [
      "/home"
      "/nix/var"
      "/root"
      "/run"
      "/tmp"
      "/var/tmp"
    ];

  ## Cards

  cardName = card: if card.serial != null then card.serial else card.guid;
  unique = builtins.foldl' (seen: x: if builtins.elem x seen then seen else seen ++ [ x ]) [ ];
  knownCards = unique (each (_: key: map cardName key.cards));

  ## Profiles

  profile =
    name: key:
    import ./profile.nix {
      path = key.profile;
      option = "${option name}.profile";
    };
  hasPassphrase = name: key: builtins.elem "passphrase" (providers name key);

  # How many providers open the key, and how many it has, as far as can be seen here.
  providers = name: key: (profile name key).providers;
  listed = key: if key.cards == [ ] then 1 else builtins.length key.cards;
  declared = key: if key.threshold == null then 1 else key.threshold;
  threshold =
    name: key:
    let
      seen = (profile name key).threshold;
    in
    if seen == null then declared key else seen;
  known =
    name: key: if providers name key == [ ] then listed key else builtins.length (providers name key);

  # What opens a key that has nothing to spare, and what to do about it.
  opener =
    name: key:
    if threshold name key == 1 then
      "one card alone, as far as the configuration shows: if it is lost or breaks"
    else
      "${toString (threshold name key)} providers together, and has no more, as far as the configuration "
      + "shows: if one is lost";
  remedy =
    name: key:
    if providers name key == [ ] then
      "List the enrolled card and another one in ${option name}.cards. Or make a recovery code, which does not show here "
      + "(`nixos-cryptkey provider add recovery --key ${name}`), and"
    else
      "Ship a profile that has another card or a recovery code (`nixos-cryptkey provider add`), or";

  # Whether it can't be enrolled, if it is not yet.
  cantEnroll =
    key:
    key.enroll == "auto" && key.profile == null && key.profileId == null && declared key > listed key;

  # The uses that secrets of different formats have.
  twiceUsed =
    key:
    let
      secrets = builtins.filter (secret: secret.file == null) (builtins.attrValues key.secrets);
      of = usage: builtins.filter (secret: secret.use == usage) secrets;
      kinds = usage: unique (map (secret: { inherit (secret) format algorithm; }) (of usage));
    in
    builtins.filter (usage: builtins.length (kinds usage) > 1) (
      unique (map (secret: secret.use) secrets)
    );

  # What a boot does that finds no profile, and what is worse about it than on other machines.
  isUnpinned =
    key: key.enroll == "auto" && key.profile == null && key.profileId == null && !key.acceptUnpinned;
  isMoved = cfg.stateDir != "/var/lib/cryptkey";
  hasConsumers =
    key:
    builtins.any (
      secret: secret.requiredBy ++ secret.before ++ secret.restartUnits ++ secret.reloadUnits != [ ]
    ) (builtins.attrValues key.secrets);

  ## Units

  # What publishes.
  ownUnits = [
    "cryptkey-reload@.service"
  ]
  ++ each (
    name: _: [
      "cryptkey-${name}.service"
      "cryptkey-reload@${name}.service"
    ]
  );

  early = [
    "basic.target"
    "cryptsetup.target"
    "dbus.service"
    "dbus.socket"
    "dbus-broker.service"
    "local-fs-pre.target"
    "local-fs.target"
    "paths.target"
    "pcscd.service"
    "pcscd.socket"
    "polkit.service"
    "remote-cryptsetup.target"
    "sockets.target"
    "swap.target"
    "sysinit.target"
    "systemd-journald.service"
    "systemd-resolved.service"
    "systemd-sysusers.service"
    "systemd-timesyncd.service"
    "systemd-tmpfiles-setup.service"
    "systemd-udevd.service"
    "timers.target"
  ];
  isEarly =
    unit:
    builtins.elem unit early
    || builtins.match "(systemd-cryptsetup@|initrd-).*" unit != null
    # All of them come before sockets.target or paths.target, and those before basic.target.
    || builtins.match ".*\\.(socket|path)" unit != null
    || builtins.elem ((service unit).unitConfig.DefaultDependencies or true) [
      false
      "0"
      "false"
      "no"
      "off"
    ];
  # A service without a command that nothing starts, of which a typo may be the reason. Of an instance,
  # the template may have the command.
  isUndefined =
    unit:
    let
      found = service unit;
      instance = builtins.match "([^@]+@)[^@]+\\.service" unit;
    in
    stem unit != null
    && (instance == null || isUndefined "${builtins.head instance}.service")
    && found.enable or true
    && found.wantedBy or [ ] == [ ]
    && !(found.serviceConfig or { } ? ExecStart)
    && found.overrideStrategy or "" != "asDropin";
  service = unit: if stem unit == null then { } else services.${stem unit} or { };
  stem =
    unit:
    let
      found = builtins.match "(.*)\\.service" unit;
    in
    if found == null then null else builtins.head found;

  undeclared =
    what: known: at: account:
    on (builtins.isString account && account != "root" && !builtins.elem account known) ''
      ${at} names the ${what} ${account}, whom this configuration does not declare. If the machine
      knows it from nowhere else, none of this key's secrets will be published: declare
      users.${what}s.${account}, or use the name of one that exists, or its number.'';
  undeclaredAccounts = eachSecret (
    at: secret:
    undeclared "user" users "${at}.owner" secret.owner
    ++ undeclared "group" groups "${at}.group" secret.group
  );
in
{
  # Messages of what can't work.
  assertions =
    on (isHidden cfg.stateDir) ''
      security.cryptkey.stateDir: the keys' units do not see ${cfg.stateDir}, as they see no homes,
      no temporary files of others and little of /run. Name another directory, as /var/lib/cryptkey.''
    ++ each (
      name: key:
      on (builtins.match "[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}" name == null) ''
        ${option name}: a name is 1 to 64 of the characters A-Z a-z 0-9 _ . -, the first one no dot and
        no dash. Rename the key.''
      ++ builtins.concatMap (
        found:
        on (
          count [
            (found.source.file != null)
            (found.source.credential != null)
            found.source.ask
          ] != 1
        ) "${found.at}: set exactly one of file, credential and ask."
      ) (sourcesOf "pin" name key)
      ++ builtins.concatMap (
        found:
        on (
          count [
            (found.source.file != null)
            found.source.protected
            found.source.factoryDefault
          ] != 1
        ) "${found.at}: set exactly one of file, protected and factoryDefault."
      ) (sourcesOf "managementKey" name key)
      ++ on (builtins.any (card: card.serial == null && card.guid == null)
        key.cards
      ) "${option name}.cards: a card needs a serial or a guid; `nixos-cryptkey cards` prints them."
      ++ on (key.enroll == "auto" && key.profile == null && stateIsInRam) ''
        ${option name} would be enrolled into ${cfg.stateDir}, which is on the ${
          fileSystems.${stateFileSystem}.fsType
        }
        ${stateFileSystem} and lost at each boot, and its secrets with it. Give security.cryptkey.stateDir
        a file system that persists (fileSystems."${cfg.stateDir}", or a bind mount from one), or ship
        the profile with ${option name}.profile.''
      ++ on ((profile name key).isSource && !(profile name key).isThere) (
        missing "${option name}.profile" key.profile
      )
      ++ on ((profile name key).fault != null) "${option name}.profile: ${(profile name key).fault}"
      ++ on (key.profile != null && !(profile name key).isSource && isHidden "${key.profile}") ''
        ${option name}.profile: the key's unit does not see ${key.profile}, as it sees no homes, no
        temporary files of others and little of /run. Let the configuration bring it (a path literal), or put it elsewhere.''
      ++ on (key.attestation.policy != "off" && key.attestation.roots == [ ]) ''
        ${option name}.attestation: with policy "${key.attestation.policy}" a card is enrolled on the word
        of its maker, and no maker is named. Set ${option name}.attestation.roots to files with the
        makers' root certificates (Yubico's: https://developers.yubico.com/PKI/).''
      ++ builtins.concatMap (
        file:
        # In a string, its name alone would end the evaluation, in Nix's words.
        if builtins.isPath file then
          on (!builtins.pathExists file) (missing "${option name}.attestation.roots" file)
        else
          on (isHidden "${file}") ''
            ${option name}.attestation.roots: the key's unit does not see ${file}, as it sees no homes, no
            temporary files of others and little of /run. Let the configuration bring it (a path literal), or put it elsewhere.''
      ) key.attestation.roots
      ++
        on
          (
            key.pin == null
            && builtins.any (card: card.pin or null == null && pinPolicyOf key card != "never") (
              key.cards ++ (if key.cards == [ ] then [ { } ] else [ ])
            )
          )
          ''
            ${option name}: no PIN for its card. Set ${option name}.pin.credential, .file or .ask; or, for a
            key of the card that wants none, ${option name}.pinPolicy = "never".''
    )
    ++ eachSecret (
      at: secret:
      builtins.concatMap (
        unit:
        on (isEarly unit) ''
          ${at}: ${unit} starts before pcscd can, so it can't wait for a secret from a card. Name a unit
          with ordinary dependencies (of a socket or a path, its service), or unlock what it needs in
          another way.''
      ) (unique (secret.requiredBy ++ secret.before))
      ++ builtins.concatMap (
        unit:
        on (builtins.elem unit ownUnits) ''
          ${at}: ${unit} publishes secrets and reads none, so it can't restart for one. Take it out of
          restartUnits and reloadUnits.''
      ) (unique (secret.restartUnits ++ secret.reloadUnits))
    );

  # Messages of what likely is not meant.
  warnings =
    each (
      name: key:
      on (key.cards == [ ] && key.profile == null && builtins.length knownCards > 1) ''
        ${option name} names no card, while this configuration knows ${builtins.concatStringsSep " and " knownCards}.
        If two are present, it will not be enrolled. Set ${option name}.cards.''
      ++
        on
          (
            builtins.any (found: found.source != "never") (sourcesOf "touchPolicy" name key)
            && !key.softFail
            && !builtins.any (found: found.source.ask) (sourcesOf "pin" name key)
          )
          ''
            ${option name} wants a touch at each boot. If nobody is there, it fails after ${toString key.touchTimeoutSec}
            seconds, and what needs its secrets does not start. Set touchPolicy = "never" for a machine that
            boots alone, or softFail = true.''
      ++
        on (!key.acceptSingleCard && known name key <= threshold name key && !cantEnroll key)
          "${option name} is opened by ${opener name key}, its secrets are gone. ${remedy name key} set ${option name}.acceptSingleCard = true."
      ++ map (usage: ''
        ${option name}: secrets of use "${usage}" have different formats. They are made of the same bytes: anyone
        who has one has the other. Give each a use of its own.'') (twiceUsed key)
      ++ on (isUnpinned key && (isMoved || hasConsumers key)) ''
        ${option name}: a boot that finds no profile of it in ${cfg.stateDir} makes a new key, and
        ${
          if hasConsumers key then
            "what needs its secrets gets other ones"
          else
            "every secret changes; a profile may have stayed in the default stateDir"
        }.
        Once it is enrolled, set ${option name}.profileId, which `nixos-cryptkey status` shows, or ship
        the profile (${option name}.profile). To do without, set ${option name}.acceptUnpinned = true.''
      ++ on (cantEnroll key) ''
        ${option name} can't be enrolled: threshold is ${toString key.threshold}, and a new key is sealed to so
        many cards, while ${option name}.cards lists ${toString (builtins.length key.cards)}. List more; or enroll
        without threshold, add recovery codes or passphrases (`nixos-cryptkey provider add`), and then raise it
        (`nixos-cryptkey reseal --key ${name} --threshold ${toString key.threshold}`). If the key is enrolled
        already, set ${option name}.profileId.''
      ++
        on (key.mode == "overwrite" && key.overwrite.abandonProfile && key.overwrite.fingerprint == null)
          ''
            ${option name}.overwrite.abandonProfile does nothing without overwrite.fingerprint, which names
            the key to destroy: `nixos-cryptkey cards` prints it.''
      ++
        on (key.mode != "overwrite" && (key.overwrite.abandonProfile || key.overwrite.fingerprint != null))
          ''
            ${option name}.overwrite does nothing while mode is "${key.mode}". Remove it, or set
            mode = "overwrite".''
      ++ on (key.profile != null && hasPassphrase name key) ''
        ${option name}.profile has a passphrase provider and will be in the Nix store, where everybody can
        read it and guess at the passphrase without limit. Put it in ${cfg.stateDir} instead, or ship a
        profile without it.''
      ++ on (key.profile != null && key.pinPolicy != "never" && stateIsInRam) ''
        ${option name}: ${cfg.stateDir} is in RAM, so that a PIN which the card rejects is forgotten at
        power-off: a wrong one costs a try at each boot. Give security.cryptkey.stateDir a file system
        that persists.''
      ++ on (key.profile != null && key.pinPolicy == "never") ''
        ${option name}: with pinPolicy "never" and a shipped profile, all that keeps a user from the
        secrets is who may reach the card: see security.cryptkey.pcsc.users.''
    )
    ++ eachSecret (
      at: secret:
      let
        undefined =
          field: units:
          builtins.concatMap (
            unit:
            on (isUndefined unit) ''
              ${at}.${field}: this configuration gives ${unit} nothing to run. If the name has a typo,
              correct it; if a package brings the unit, set systemd.services."${stem unit}".overrideStrategy = "asDropin".''
          ) units;
        # Who is told of the one list need not be told of the other.
        others = builtins.filter (unit: !builtins.elem unit secret.requiredBy);
      in
      undefined "requiredBy" secret.requiredBy
      ++ undefined "restartUnits" (others secret.restartUnits)
      ++ undefined "reloadUnits" (others secret.reloadUnits)
    )
    ++
      on (!cfg.pcsc.enable && cfg.pcsc.users ++ cfg.pcsc.groups != [ ])
        "security.cryptkey.pcsc.users and .groups do nothing while security.cryptkey.pcsc.enable is false."
    ++ undeclaredAccounts;
}
