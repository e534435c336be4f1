//! The package and the flake, as far as they can be evaluated without nixpkgs' packages.
