# What all hosts of a fleet have in common: one profile, which the card of each host opens.
{
  security.cryptkey = {
    enable = true;
    keys.fleet = {
      profile = ../../../vectors/profiles/piv-piv-recovery-any.toml;
      pin.credential = "/etc/credstore.encrypted/fleet.pin";
      secrets.backups = {
        use = "fleet backups";
        requiredBy = [ "backup.service" ];
      };
    };
  };
  systemd.services.backup.serviceConfig.ExecStart = "/bin/backup";
}
