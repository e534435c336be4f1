//! systemd accepts the units.
