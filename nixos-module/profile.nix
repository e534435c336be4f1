# What can be seen of a shipped profile while the configuration is evaluated. Nothing catches it when
# builtins.fromTOML finds a fault, so the few facts are looked for in the text, and what is written in
# another way is not seen. Whether the profile is good says `nixos-cryptkey check`, when the spec is
# built. Pure, and needs no nixpkgs.
{
  # The option's value, and its name.
  path,
  option,
}:
let
  isPath = builtins.isPath path;
  # What is elsewhere on the machine can't be read here, and what has yet to be built should not be.
  isSource = path != null && (isPath || ofSources (builtins.getContext "${path}"));
  isThere = isSource && builtins.pathExists path;
  ofSources =
    context: context != { } && builtins.all (found: found.path or false) (builtins.attrValues context);

  name = builtins.unsafeDiscardStringContext (toString path);
  type =
    if builtins ? readFileType then
      builtins.readFileType path
    else if isPath then
      (builtins.readDir (dirOf path)).${baseNameOf name}
    else
      null;

  text = builtins.addErrorContext "while reading ${option}, which is to name a profile (`nixos-cryptkey export` writes one)" (
    builtins.readFile path
  );
  # What is before the first table, and each provider, which is one.
  parts = builtins.filter builtins.isString (
    builtins.split "\n[ \t]*\\[\\[[ \t]*providers[ \t]*]]" "\n${text}"
  );
  providers = builtins.tail parts;
  field =
    name: part:
    let
      found = builtins.split "\n[ \t]*${name}[ \t]*=[ \t]*[\"']?([A-Za-z0-9_-]+)" part;
    in
    if builtins.length found == 1 then null else builtins.head (builtins.elemAt found 1);
  threshold = field "threshold" (builtins.head parts);
  isReadable = isThere && fault == null && providers != [ ];

  another = "Name a file that `nixos-cryptkey export` wrote.";
  fault =
    if !isThere then
      null
    else if type == "directory" then
      "${name} is a directory. Name the file in it."
    else if text == "" then
      "${name} is empty. ${another}"
    else if builtins.length (builtins.split "providers" text) == 1 then
      "${name} is no profile. ${another}"
    else
      null;
in
{
  inherit isSource isThere;
  # Why what is there can't be a profile, in words; or null.
  inherit fault;

  # How many providers open the key, or null; and the types of all. As far as they are seen.
  threshold =
    if isReadable && threshold != null && builtins.match "[1-9][0-9]{0,2}" threshold != null then
      builtins.fromJSON threshold
    else
      null;
  providers = if isReadable then map (field "type") providers else [ ];
}
