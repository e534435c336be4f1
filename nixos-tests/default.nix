# Tests that boot NixOS machines; `flake.nix` has them among its checks. A machine with Nix runs one
# with `nix build .#checks.x86_64-linux.boot`.
{ pkgs }:
let
  # What the test scripts import: the helpers, and the program that computes what a card must yield.
  # A package, since only a package can say that it has types, and the driver's build checks them.
  helpers =
    python:
    python.toPythonModule (
      pkgs.runCommand "cryptkey-test-helpers" { } ''
        package="$out/${python.python.sitePackages}/helpers"
        install -D -m 0444 ${./helpers.py} "$package/__init__.py"
        install -D -m 0444 ${../tests/expected.py} "$package/expected.py"
        touch "$package/py.typed"
      ''
    );

  run =
    test:
    pkgs.testers.runNixOSTest {
      imports = [ test ];
      defaults = ./common.nix;
      extraPythonPackages = python: [
        python.cryptography
        (helpers python)
      ];
    };
in
{
  boot = run ./boot.nix;
  bad-morning = run ./bad-morning.nix;
  polkit = run ./polkit.nix;
  reload = run ./reload.nix;
}
