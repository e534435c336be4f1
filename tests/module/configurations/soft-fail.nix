# A laptop that also boots without its card; what needs the secret is then skipped.
{
  security.cryptkey = {
    enable = true;
    pcsc.users = [ "alice" ];
    keys.vault = {
      softFail = true;
      cardTimeoutSec = 0;
      touchPolicy = "always";
      acceptSingleCard = true;
      pin.ask = true;
      secrets.mail.requiredBy = [ "mail.service" ];
    };
  };
  systemd.services.mail.serviceConfig.ExecStart = "/bin/mail";
}
