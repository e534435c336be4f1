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
    # What changes other processes of root's that have no more rights than this one.
    "~pidfd_getfd process_madvise process_vm_readv process_vm_writev"
    "fchown"
  ];
  KeyringMode = "private";
  RemoveIPC = true;
  RestrictNamespaces = true;
  RestrictRealtime = true;
  RestrictSUIDSGID = true;

  ProtectSystem = "strict";
  # Whoever is root may have whatever listens in /run (systemd, D-Bus, udev, containers, the PINs of
  # other keys) do nearly anything. So there is nothing but what a unit names (BindPaths=).
  TemporaryFileSystem = "/run:ro,mode=755";
  # The same elsewhere; terminals and shared memory, which PrivateDevices= leaves there; and systemd, which
  # is there for commands with "+" alone (toSystemd): they get the former line, but not this one.
  InaccessiblePaths = [
    "-/run/systemd/private"
    "-/nix/var"
    "-/var/lib/incus"
    "-/var/lib/lxd"
    "-/dev/hugepages"
    "-/dev/pts"
    "-/dev/shm"
  ];
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
