# What else of the machine does not go with secrets that are published late: as assertions.nix, of
# which it is the part that looks at other modules. Pure, and needs no nixpkgs.
{
  cfg,
  # The file systems, by where they are mounted.
  fileSystems,
  # What is in /etc, if nothing else can be put there; otherwise null.
  readOnlyEtc,
  # The file that each user's password is in, or null.
  passwordFiles,
  # The containers, by name.
  containers,
  # Where the machine resumes from and what it swaps to, if it can hibernate; otherwise none.
  hibernatesTo,
  # The options of NixOS that this module sets and that are not there.
  missing,
}:
let
  inherit (import ./messages.nix { inherit cfg; })
    each
    eachSecret
    isAbove
    keys
    on
    sourcesOf
    ;
  of = attributes: f: builtins.concatMap f (builtins.attrNames attributes);

  # What can't come into a read-only /etc: it is not of the configuration, nor below what is, nor on a
  # file system of its own.
  cantBeInEtc =
    path:
    readOnlyEtc != null
    && isAbove "/etc" path
    && !builtins.any (name: isAbove "/etc/${name}" path) readOnlyEtc
    && !builtins.any (mount: isAbove "/etc" mount && isAbove mount path) (
      builtins.attrNames fileSystems
    );
  # The files of the PINs and management keys.
  files = each (
    name: key:
    builtins.concatMap (
      found:
      builtins.filter (file: file.path != null) (
        map
          (field: {
            at = "${found.at}.${field}";
            path = found.source.${field} or null;
          })
          [
            "file"
            "credential"
          ]
      )
    ) (sourcesOf "pin" name key ++ sourcesOf "managementKey" name key)
  );

  paths = eachSecret (_: secret: [ secret.path ]);
  isPublished = path: path != null && (isAbove cfg.runtimeDir path || builtins.elem path paths);

  # What a container gets of a key by the link to its secrets.
  byLink =
    container:
    let
      mounts = containers.${container}.bindMounts or { };
      outside =
        inside:
        let
          path = mounts.${inside}.hostPath or null;
        in
        if path == null then inside else path;
    in
    builtins.filter (
      path: builtins.any (key: isAbove "${cfg.runtimeDir}/${key}" path) (builtins.attrNames keys)
    ) (map outside (builtins.attrNames mounts));
in
{
  # Messages of what can't work.
  assertions =
    eachSecret (
      at: secret:
      on (cantBeInEtc secret.path) ''
        ${at}.path: nothing can be put at ${secret.path}, as /etc is read-only
        (system.etc.overlay.mutable). Leave path out, and let environment.etc make the link; or name a
        path elsewhere.''
    )
    ++ of passwordFiles (
      user:
      on (isPublished passwordFiles.${user}) ''
        users.users.${user}: the password would come from ${passwordFiles.${user}}, which is published
        after users are made. Take it from elsewhere.''
    )
    ++ on (cfg.pcsc.enable && missing != [ ]) ''
      security.cryptkey.pcsc.enable sets ${builtins.concatStringsSep " and " missing}, which this
      configuration does not have (disabledModules). Set it to false, and bring pcscd and polkit yourself.'';

  # Messages of what likely is not meant.
  warnings =
    builtins.concatMap (
      file:
      on (cantBeInEtc file.path) ''
        ${file.at}: ${file.path} will not be there, as /etc is read-only (system.etc.overlay.mutable), and
        this configuration does not put it there. Name a file elsewhere, as in /var/lib.''
    ) files
    ++ on (keys != { } && hibernatesTo != [ ]) ''
      Hibernation writes all of RAM to ${builtins.concatStringsSep " and " hibernatesTo}, with the published
      secrets in it. Add "nohibernate" to boot.kernelParams; or, where that disk is encrypted, set
      security.cryptkey.warnOfHibernation to false.''
    ++ of containers (
      container:
      builtins.concatMap (
        path:
        on true ''
          containers.${container}.bindMounts: ${path} leads through a link that each change of the secrets
          turns to a new directory, and the container is left with the old one, which is empty then.
          Bind ${cfg.runtimeDir}, and read the secrets below it.''
      ) (byLink container)
    );
}
