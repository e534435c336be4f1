# Options and specs -> units. Pure, and needs no nixpkgs.
{
  cfg,
  # The files of the specs: { keys.<name>, machine, polkit }.
  specs,
  # The package of systemd.
  systemd,
}:
let
  spec = import ./spec.nix;
  hardening = import ./hardening.nix;
  pins = import ./pins.nix { inherit cfg systemd; };
  program = "${cfg.package}/bin/nixos-cryptkey";
  # What commands with "+" need to have systemd do something. In the sandbox it is not there.
  toSystemd = [
    "/run/systemd/private"
    "/run/systemd/system"
  ];
  verbosely = builtins.elemAt [ "" " -v" " -vv" ] cfg.verbosity;

  keys = spec.keys cfg;
  names = builtins.attrNames keys;
  unique = builtins.foldl' (seen: x: if builtins.elem x seen then seen else seen ++ [ x ]) [ ];
  namedAfter =
    name: f:
    builtins.listToAttrs (
      map (key: {
        name = name key;
        value = f key;
      }) names
    );

  # What the key and each of its cards say of a field: "pin", "managementKey" or "touchPolicy".
  sources =
    field: key:
    builtins.filter (source: source != null) (map (owner: owner.${field}) ([ key ] ++ key.cards));
  touches = key: builtins.any (policy: policy != "never") (sources "touchPolicy" key);
  asksForPin = key: builtins.any (source: source.ask) (sources "pin" key);

  # How long a run for a key may take: each card is waited for, and enrolling it takes three touches
  # and a PIN; a passphrase or a recovery code is asked for three times; and a minute for all else.
  # A run that has more to ask puts its end off.
  runSec =
    name: key:
    let
      cards = builtins.foldl' (most: n: if n > most then n else most) 1 [
        (builtins.length key.cards)
        (if key.threshold == null then 1 else key.threshold)
      ];
    in
    cards
    * (
      key.cardTimeoutSec
      + (if touches key then 3 * key.touchTimeoutSec else 0)
      + (if asksForPin key then key.askTimeoutSec else 0)
    )
    + (if key.ask then 3 * key.askTimeoutSec else 0)
    + pins.sec name
    + 60;

  # How long the end of a run may take.
  stopSec = key: 90 + (if touches key then key.touchTimeoutSec else 0);

  # What a run for a key needs, in both of its units. Whom it concerns that a secret has changed is
  # told `when`; the run itself may not tell systemd anything.
  run =
    name: when:
    let
      key = keys.${name};
    in
    {
      wants = [
        "pcscd.socket"
        "state-cryptkey.service"
      ]
      ++ pins.units name;
      after = [
        "pcscd.socket"
        "dbus.service"
        "state-cryptkey.service"
        # Owners may be users of a directory service.
        "nss-user-lookup.target"
      ]
      ++ pins.units name;
      unitConfig.RequiresMountsFor = [
        cfg.stateDir
        cfg.runtimeDir
      ];
      serviceConfig =
        hardening
        // pins.settings name
        // {
          Type = "oneshot";
          NotifyAccess = "main";
          ExecStart = "${program}${verbosely} apply --restart ${when} --spec ${specs.keys.${name}}";
          # A run that waits for its turn at the card puts it off.
          TimeoutStartSec = runSec name key;
          # A run that is stopped does not leave a card that is at work: it waits for the answer, 60 s
          # longer than for a touch at most. Then the card is reset.
          TimeoutStopSec = stopSec key;
          # Secrets of other owners are compared with what stands, and given away.
          CapabilityBoundingSet = "CAP_CHOWN CAP_DAC_READ_SEARCH";
          LimitMEMLOCK = "infinity";
          BindPaths = [
            cfg.stateDir
            cfg.runtimeDir
          ]
          # systemd's own tmpfiles make it. Where it is missing, nobody can be asked, and all else works.
          ++ (if asksForPin key || key.ask then [ "-/run/systemd/ask-password" ] else [ ]);
          BindReadOnlyPaths = [
            "-/run/pcscd"
            # Who an owner is.
            "-/run/nscd"
            "-/run/systemd/notify"
          ]
          ++ toSystemd
          # Wherever it is, and only while it is there: it is needed once.
          ++ unique (
            map (source: "-${source.file}") (
              builtins.filter (source: source.file != null) (sources "managementKey" key)
            )
          );
        };
    };

  # The key's unit: it is up while its secrets are published.
  service =
    name:
    let
      base = run name "boot";
      # At a boot, a question has the console or Plymouth to itself: no login prompt takes what is
      # typed, Plymouth does not quit under it, and systemd does not take it from there to those who
      # are logged in, who are none yet.
      console =
        if asksForPin keys.${name} || keys.${name}.ask then
          [
            "display-manager.service"
            "getty-pre.target"
            "plymouth-quit.service"
            "systemd-ask-password-wall.service"
          ]
        else
          [ ];
    in
    base
    // {
      description = "Secrets of key ${name}, from its smart card";
      requiredBy = [ "cryptkey.target" ];
      wants =
        base.wants
        # At a boot it finds the reader while others start, and it ends by itself when it is idle. Not
        # after it: it is up before it has found anything.
        ++ [ "pcscd.service" ]
        ++ builtins.filter (unit: unit == "getty-pre.target") console;
      before = [
        "cryptkey.target"
      ]
      ++ console
      ++ unique (builtins.concatMap (secret: secret.before) (builtins.attrValues keys.${name}.secrets));
      # A change is applied in place, and nothing is scrubbed: who uses the secrets stays up, also
      # while the card is away.
      reloadIfChanged = true;
      serviceConfig = base.serviceConfig // {
        RemainAfterExit = true;
        # A start asks the card, whatever stands. A reload does not, where nothing would change.
        ExecStart = "${base.serviceConfig.ExecStart} --always";
        # A reload can't put off its end, as a run can: it gets what a turn at the card may take.
        TimeoutStartSec = base.serviceConfig.TimeoutStartSec + 600;
        # systemd gives no credentials to ExecReload=: another unit has its own.
        # And outside of the sandbox, in which nobody may have systemd do anything.
        ExecReload = "+${systemd}/bin/systemctl start cryptkey-reload@${name}.service";
        # Not ExecStop=, which systemd leaves out where a stop ends a reload.
        ExecStopPost = "${program} scrub --spec ${specs.keys.${name}}";
      };
    };

  reload =
    name:
    let
      base = run name "later";
    in
    base
    // {
      description = "Reload of the secrets of key ${name}";
      # Only the key's unit starts it, for people, whom a limit would only puzzle. It must not publish
      # what a stop of that one has scrubbed.
      partOf = [ "cryptkey-${name}.service" ];
      restartIfChanged = false;
      unitConfig = base.unitConfig // {
        StartLimitIntervalSec = 0;
      };
      serviceConfig = base.serviceConfig // {
        # Outside of the sandbox, too. However the run ended: what an earlier one has published may still have to be told. And
        # before the reload is over, so that a switch starts nothing just to see it restarted.
        ExecStopPost = "+${program} restart --spec ${specs.machine} --key ${name}";
        # It waits for the key's lock (120 s) and for systemd (four times 60 s). The key's unit gives a
        # reload 600 s more than the run.
        TimeoutStopSec = 400 + stopSec keys.${name};
      };
    };

  # The state directory: a file system that is new, or that was mounted when the boot's tmpfiles were
  # made already, has none, and without it systemd can't shut the keys' units in.
  state = {
    description = "Directory of sealed keys";
    unitConfig.RequiresMountsFor = cfg.stateDir;
    serviceConfig = {
      Type = "oneshot";
      RemainAfterExit = true;
      ExecStart = "${systemd}/bin/systemd-tmpfiles --create --prefix=${cfg.stateDir}";
    };
  };

  # The polkit rule, which hangs on no card.
  polkit =
    let
      install = "${program} polkit --spec ${specs.polkit}";
      # A polkitd that was started before the directory was there notices nothing in it. And when this
      # is done, polkitd has the rule. Outside of the sandbox.
      tell = "-+${systemd}/bin/systemctl try-reload-or-restart polkit.service";
    in
    {
      description = "polkit rule of those who may reach smart cards";
      wantedBy = [ "multi-user.target" ];
      reloadIfChanged = true;
      serviceConfig = hardening // {
        Type = "oneshot";
        RemainAfterExit = true;
        ExecStart = install;
        ExecStartPost = tell;
        ExecReload = [
          install
          tell
        ];
        ExecStopPost = [
          "${program} polkit --remove"
          tell
        ];
        CapabilityBoundingSet = "";
        BindPaths = [ "/run/polkit-1/rules.d" ];
        BindReadOnlyPaths = [ "-/run/nscd" ] ++ toSystemd;
      };
    };

  # Every secret, with its key and the file that it is published as.
  secrets = builtins.concatMap (
    key:
    map (name: {
      inherit key;
      inherit (keys.${key}.secrets.${name}) path requiredBy;
      file = "${cfg.runtimeDir}/${key}/${name}";
    }) (builtins.attrNames keys.${key}.secrets)
  ) names;

  # What the units of one kind that need secrets get: { restic-backups-home = { requires = …; }; }.
  consumers =
    kind:
    let
      stem = unit: builtins.match "(.*)\\.${kind}" unit;
      units = builtins.filter (unit: stem unit != null) (
        unique (builtins.concatMap (secret: secret.requiredBy) secrets)
      );
      consumer =
        unit:
        let
          needed = builtins.filter (secret: builtins.elem unit secret.requiredBy) secrets;
          producers = unique (map (secret: "cryptkey-${secret.key}.service") needed);
        in
        {
          requires = producers;
          after = producers;
          # After a soft failure the key's unit is up, and the secret is not there.
          unitConfig.ConditionPathExists = map (secret: secret.file) needed;
        };
    in
    builtins.listToAttrs (
      map (unit: {
        name = builtins.head (stem unit);
        value = consumer unit;
      }) units
    );
in
{
  # Each is a list of what NixOS merges into the option of that name.
  services = [
    (namedAfter (name: "cryptkey-${name}") service)
    (namedAfter (name: "cryptkey-reload@${name}") reload)
    { state-cryptkey = state; }
    pins.services
    (if cfg.pcsc.enable && cfg.pcsc.rule == "runtime" then { polkit-cryptkey = polkit; } else { })
    (consumers "service")
  ];
  targets = [
    {
      cryptkey = {
        description = "Secrets from smart cards";
        wantedBy = [ "multi-user.target" ];
      };
    }
    (consumers "target")
  ];
  timers = [ (consumers "timer") ];
  inherit (pins) sockets;

  mounts = [
    {
      description = "RAM file system of secrets from smart cards";
      what = cfg.runtimeFileSystem.type;
      inherit (cfg.runtimeFileSystem) type;
      where = cfg.runtimeDir;
      options = builtins.concatStringsSep "," (
        [
          "mode=0751"
          "nosuid"
          "nodev"
          "noexec"
        ]
        ++ (
          if cfg.runtimeFileSystem.type == "tmpfs" then
            [
              "noswap"
              "size=${cfg.runtimeFileSystem.size}"
            ]
          else
            [ ]
        )
      );
    }
  ];

  # Lines of tmpfiles.d(5).
  tmpfiles = [
    "d ${cfg.stateDir} 0700 root root -"
  ]
  # polkitd notices what comes into the directory only if it was there at its start.
  ++ (
    if cfg.pcsc.enable && cfg.pcsc.rule == "runtime" then
      [
        "d /run/polkit-1 0755 root root -"
        "d /run/polkit-1/rules.d 0755 root root -"
      ]
    else
      [ ]
  )
  # Never L+, which would remove what stands at a path that was not meant.
  ++ map (secret: "L ${secret.path} - - - - ${secret.file}") (
    builtins.filter (secret: secret.path != secret.file) secrets
  );
}
