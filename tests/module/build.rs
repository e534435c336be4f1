//! A bad spec fails the build of the machine: the derivations of the specs, built for once.
