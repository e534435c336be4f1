# What the units of nixos-cryptkey may do, and nothing else. docs/hardening.md says what each line
# keeps out, and why others are missing.
{
  UMask = "0077";
  NoNewPrivileges = true;
  AmbientCapabilities = "";
  LockPersonality = true;
  MemoryDenyWriteExecute = true;
  SystemCallArchitectures = "native";
  SystemCallErrorNumber = "EPERM";
  # Secrets are given to their owners.
  SystemCallFilter = [
    "@system-service"
    "~@aio @keyring @privileged @resources @setuid"
    "fchown"
  ];
  KeyringMode = "private";
  RemoveIPC = true;
  RestrictNamespaces = true;
  RestrictRealtime = true;
  RestrictSUIDSGID = true;

  ProtectSystem = "strict";
  # With ProtectProc=, ProtectKernelTunables= or ProtectControlGroups=, systemd (257) leaves it out.
  ReadOnlyPaths = [ "/run" ];
  # The PINs of other keys, which root may connect to.
  InaccessiblePaths = "-/run/cryptkey-pin";
  ProtectHome = "tmpfs";
  PrivateTmp = true;
  PrivateMounts = true;
  PrivateDevices = true;
  DevicePolicy = "closed";
  ProtectProc = "invisible";
  ProcSubset = "pid";
  ProtectHostname = true;
  ProtectClock = true;
  ProtectKernelTunables = true;
  ProtectKernelModules = true;
  ProtectKernelLogs = true;
  ProtectControlGroups = true;

  PrivateNetwork = true;
  PrivateIPC = true;
  IPAddressDeny = "any";
  RestrictAddressFamilies = "AF_UNIX";
}
