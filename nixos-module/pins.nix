# How systemd hands PINs to a key's units. A file is loaded as it is. What is encrypted is decrypted by
# a service of its own, at a socket that the key's unit loads it from: where that fails, the key's unit
# gets an empty PIN, and not the end that systemd has for it (243/CREDENTIALS). So the program runs, and
# goes on with what else opens the key. Pure, and needs no nixpkgs.
{
  cfg,
  # The package of systemd.
  systemd,
}:
let
  spec = import ./spec.nix;
  hardening = import ./hardening.nix;
  keys = spec.keys cfg;

  # Longer than a TPM takes that works.
  decryptSec = 60;

  encrypted = name: builtins.filter (pin: pin.credential != null) (spec.credentials keys.${name});
  unit = name: pin: "cryptkey-${name}-${pin.name}";
  # Of whatever length the names are: those of sockets end at 107.
  socket =
    name: pin:
    "/run/cryptkey-pin/${builtins.substring 0 32 (builtins.hashString "sha256" (unit name pin))}";

  each =
    suffix: f:
    builtins.listToAttrs (
      builtins.concatMap (
        name:
        map (pin: {
          name = unit name pin + suffix;
          value = f name pin;
        }) (encrypted name)
      ) (builtins.attrNames keys)
    );
in
{
  # What the units of a key need.
  units = name: map (pin: "${unit name pin}.socket") (encrypted name);
  # How long they may wait for it.
  sec = name: decryptSec * builtins.length (encrypted name);
  settings = name: {
    LoadCredential = map (
      pin: "${pin.name}:${if pin.credential == null then pin.file else socket name pin}"
    ) (spec.credentials keys.${name});
    # Where the file is missing: so the program can say what systemd does not, which one it is.
    SetCredential = map (pin: "${pin.name}:\\n") (spec.credentials keys.${name});
  };

  # Root alone can connect.
  sockets = each "" (
    name: pin: {
      description = "Decrypted PIN of key ${name}";
      # While the key's unit is down, nobody is to be given a PIN.
      partOf = [ "cryptkey-${name}.service" ];
      socketConfig = {
        ListenStream = socket name pin;
        Accept = true;
        SocketMode = "0600";
        DirectoryMode = "0700";
        RemoveOnStop = true;
      };
    }
  );

  # Runs once for each start of a key's unit, and gives it the PIN of the moment.
  services = each "@" (
    name: pin: {
      description = "PIN of key ${name}, decrypted from ${pin.credential}";
      # The key's unit tells what becomes of it.
      unitConfig.CollectMode = "inactive-or-failed";
      serviceConfig = hardening // {
        Type = "oneshot";
        # Not LoadCredentialEncrypted=: what systemd says of that is not always found under the unit's
        # name.
        ExecStart = "${systemd}/bin/systemd-creds decrypt --name=${pin.name} ${pin.credential}";
        StandardInput = "null";
        StandardOutput = "socket";
        StandardError = "journal";
        TimeoutStartSec = decryptSec;
        TimeoutStartFailureMode = "kill";
        # The TPM is another user's, mostly of the name tss.
        CapabilityBoundingSet = "CAP_DAC_OVERRIDE";
        RestrictAddressFamilies = "none";
        MemorySwapMax = 0;
        BindReadOnlyPaths = [
          # Wherever it is.
          "-${pin.credential}"
          # What a PIN that is bound to signed states of the TPM takes.
          "-/run/systemd/tpm2-pcr-public-key.pem"
          "-/run/systemd/tpm2-pcr-signature.json"
        ];
        # The TPM, where there is one.
        DeviceAllow = "/dev/tpmrm0 rw";
        BindPaths = "-/dev/tpmrm0";
        # Of a start that goes well there is nothing to say, and what it says itself is no such thing.
        LogLevelMax = "notice";
        SyslogLevel = "err";
      };
    }
  );
}
