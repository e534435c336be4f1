# A polkit that reads nothing in /run.
{
  security.cryptkey = {
    enable = true;
    pcsc = {
      rule = "configuration";
      users = [
        "alice"
        "o'brien \"\\@GROUPS@"
      ];
      groups = [ "wheel" ];
    };
  };
}
