# A host that adds a secret of its own to the fleet's key.
{
  imports = [ ./common.nix ];
  security.cryptkey.keys.fleet.secrets.web-session = {
    owner = "nginx";
    group = "nginx";
    requiredBy = [ "nginx.service" ];
  };
  users.users.nginx = {
    isSystemUser = true;
    group = "nginx";
  };
  users.groups.nginx = { };
  systemd.services.nginx.serviceConfig.ExecStart = "/bin/nginx";
}
