# The options of security.cryptkey.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (lib) literalExpression mkOption types;
  inherit (import ./types.nix { inherit lib; }) plainPath subjectName;
  cfg = config.security.cryptkey;
  # In KiB, twice for the time when a new set takes the place of the old one: a chosen secret has up to
  # 1 MiB, another one a page or two, and a page for its public half.
  room =
    let
      of = secret: if secret.file == null then 64 else 2 * 1024 + 64;
      secrets = lib.concatMap (key: lib.attrValues key.secrets) (lib.attrValues cfg.keys);
    in
    lib.foldl' (sum: secret: sum + of secret) 0 secrets;
in
{
  options.security.cryptkey = {
    enable = lib.mkEnableOption "secrets for services that only a smart card in the machine can unlock";

    package = mkOption {

      example = literalExpression "pkgs.nixos-cryptkey";
      type = types.package;
      default = pkgs.callPackage ../package.nix { };
      defaultText = literalExpression "pkgs.callPackage ./package.nix { }";
      description = "The package of nixos-cryptkey.";
    };

    keys = mkOption {
      type = types.attrsOf (types.submodule (import ./key.nix { inherit cfg lib; }));
      default = { };
      description = ''
        The keys, by name. A key is 32 random bytes that exist only sealed, to one card or several; all
        its secrets are made of them. Its unit is `cryptkey-NAME.service`. A name is 1 to 64 of the characters
        `A-Z a-z 0-9 _ . -`, the first one no dot and no dash.
      '';
      example = literalExpression ''
        {
          vault = {
            pin.credential = "/etc/credstore.encrypted/vault.pin";
            secrets.restic.requiredBy = [ "restic-backups-home.service" ];
          };
        }
      '';
    };

    stateDir = mkOption {

      example = "/persist/cryptkey";
      type = plainPath;
      default = "/var/lib/cryptkey";
      description = ''
        The directory of the sealed keys (`KEY.toml`). It must keep its contents across boots: with a
        lost profile, its secrets are lost. Nothing starts before its file system is mounted.
      '';
    };

    runtimeDir = mkOption {

      example = "/run/card-secrets";
      type = plainPath;
      default = "/run/cryptkey";
      description = "Where the published secrets are (`KEY/SECRET`): a RAM file system of its own.";
    };

    verbosity = mkOption {
      example = 2;
      type = types.ints.between 0 2;
      default = 0;
      description = ''
        How much the keys' units write to the journal: 0 what was done and what went wrong, 1 each
        step, 2 each APDU's header and status, too. Never a secret.
      '';
    };

    warnOfHibernation = mkOption {
      example = false;
      type = types.bool;
      default = true;
      description = ''
        Whether to warn of a machine that can hibernate (`boot.resumeDevice`, or swap on a disk): that
        writes all of RAM to the disk, published secrets too, be they on a `ramfs` or not.
      '';
    };

    runtimeFileSystem = {
      type = mkOption {
        example = "tmpfs";
        type = types.enum [
          "ramfs"
          "tmpfs"
        ];
        default = "ramfs";
        description = ''
          A `ramfs` is never swapped to a disk. Nor is the `tmpfs`, which is mounted with `noswap`
          (Linux 6.4 or later) and has a size. A switch that changes this restarts every key's unit and
          all that needs its secrets, though `dry-activate` shows the mount alone; if a card is away
          then, they stay down. Better: `nixos-rebuild boot`, and a reboot.
        '';
      };
      size = mkOption {
        example = "1m";
        type = types.strMatching "[1-9][0-9]*[kmg]?";
        default = "${toString (8192 + room)}k";
        defaultText = lib.literalExpression "8 MiB, and for each secret 64 KiB, and 2 MiB more if it is a file";
        description = ''
          The size of the `tmpfs`. A `ramfs` has none. A secret takes a page or two, twice while a new set
          takes the place of the old one. The owner of a secret can make it grow until there is no room.
        '';
      };
    };

    sharedCard = mkOption {
      example = "refuse";
      type = types.enum [
        "warn"
        "refuse"
      ];
      default = "warn";
      description = ''
        What a run does where another program still uses the card, after 2 s, that is about to get a PIN
        or a management key. `warn`: it goes on beside that program, which may use the card's keys while
        the PIN is verified, and names it. `refuse`: it presents nothing, and fails (exit 12). Where
        nobody else uses the card the run has it for itself, and nobody finds the PIN verified.
      '';
    };

    pcsc = {
      enable = mkOption {
        example = false;
        type = types.bool;
        default = true;
        description = "Whether to turn on pcscd and polkit, which decides who may reach the card.";
      };

      users = mkOption {
        type = types.listOf subjectName;
        default = [ ];
        example = [ "alice" ];
        description = ''
          Users who may reach cards and readers also without a local session, over SSH for instance.
          Who reaches the card can use keys that want no PIN, and can spend PIN tries. Root and the
          units of this module need not be listed.
        '';
      };

      groups = mkOption {
        type = types.listOf subjectName;
        default = [ ];
        example = [ "wheel" ];
        description = "Groups whose members may reach cards and readers, as for `users`.";
      };

      rule = mkOption {

        example = "configuration";
        type = types.enum [
          "runtime"
          "configuration"
        ];
        default =
          if
            lib.versionAtLeast (config.security.polkit.package.version or pkgs.polkit.version or "0") "126"
          then
            "runtime"
          else
            "configuration";
        defaultText = literalExpression ''
          if lib.versionAtLeast config.security.polkit.package.version "126" then "runtime" else "configuration"
        '';
        description = ''
          Where the polkit rule for `users` and `groups` goes. `runtime`: a unit installs it in
          `/run/polkit-1/rules.d`, and polkitd notices changes at once. `configuration`: into
          `/etc/polkit-1/rules.d`, for versions of polkit that read nothing in `/run`; a change
          restarts polkitd, and pcscd with it.
        '';
      };
    };
  };
}
