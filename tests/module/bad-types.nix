# Configurations of which an option says that a value is not of its type: each is added to minimal.nix.
let
  cryptkey = options: { security.cryptkey = options; };
  vault = options: cryptkey { keys.vault = options; };
  secret = options: vault { secrets.restic = options; };
in
builtins.mapAttrs
  (_: case: {
    imports = [
      ./configurations/minimal.nix
      case
    ];
  })
  {
    unknown-option = vault { softfail = true; };
    signing-slot = vault { slot = "9c"; };
    touch-policy = vault { touchPolicy = "sometimes"; };
    pin-in-the-store = vault { pin.credential = "${builtins.storeDir}/pin"; };
    pin-as-a-path-literal = vault { pin.credential = ./bad-types.nix; };
    pin-interpolated = vault { pin.credential = "${./bad-types.nix}"; };
    pin-relative = vault { pin.credential = "vault.pin"; };
    pin-with-a-specifier = vault { pin.credential = "/etc/%H.pin"; };
    pin-itself = vault { pin = "123456"; };
    management-key-in-the-store = vault { managementKey.file = "${builtins.storeDir}/key"; };
    serial = vault { cards = [ { serial = "0123"; } ]; };
    guid = vault { cards = [ { guid = "8c4b"; } ]; };
    fingerprint = vault { overwrite.fingerprint = "MD5:00"; };
    profile-id = vault { profileId = "vault"; };
    card-timeout = vault { cardTimeoutSec = 3601; };
    touch-timeout = vault { touchTimeoutSec = 0; };
    ask-timeout = vault { askTimeoutSec = 0; };
    threshold = vault { threshold = 0; };
    card-id = vault {
      cards = [
        {
          serial = "12345678";
          id = "in/the/safe";
        }
      ];
    };
    state-dir-with-a-blank = cryptkey { stateDir = "/var/lib/my keys"; };
    runtime-dir-relative = cryptkey { runtimeDir = "run/cryptkey"; };
    tmpfs-size = cryptkey {
      runtimeFileSystem = {
        type = "tmpfs";
        size = "1,mode=0777";
      };
    };
    use-with-a-line-end = secret { use = "a\nb"; };
    length = secret { length = 0; };
    mode = secret { mode = "4755"; };
    owner = secret { owner = "root:root"; };
    path-with-a-specifier = secret { path = "/var/lib/%m"; };
    unit-without-a-kind = secret { requiredBy = [ "restic" ]; };
    unit-of-another-kind = secret { requiredBy = [ "home.mount" ]; };
    unit-to-restart-of-another-kind = secret { restartUnits = [ "home.mount" ]; };
    unit-to-restart-with-an-option = secret { restartUnits = [ "--force x.service" ]; };
    unit-to-reload-without-a-stem = secret { reloadUnits = [ "@home.service" ]; };
    unit-to-reload-of-many-letters = secret {
      reloadUnits = [ (builtins.concatStringsSep "" (builtins.genList (_: "x") 248) + ".service") ];
    };
    unit-is-read-only = vault { unit = "other.service"; };
  }
