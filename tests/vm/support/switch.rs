//! `nixos-rebuild switch`: what NixOS does with the units of a machine that is on, when its
//! configuration has changed.

use std::{collections::BTreeSet, fs};

use super::{
    Container,
    cryptkey::{self, Node},
    nix,
};

/// What was done with which units, and which are failed after it. NixOS's exit code tells of the
/// latter.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Switched {
    pub stopped: BTreeSet<String>,
    pub reloaded: BTreeSet<String>,
    pub restarted: BTreeSet<String>,
    pub failed: BTreeSet<String>,
}

impl Switched {
    /// The units in one of its sets.
    pub fn of(set: &BTreeSet<String>) -> Vec<&str> {
        set.iter().map(String::as_str).collect()
    }
}

/// Switches from one configuration to another, in the order and by the rules of NixOS's
/// switch-to-configuration-ng.
pub fn switch(container: &Container, current: &mut nix::Machine, new: nix::Machine) -> Switched {
    let active = list(container, "active,activating");
    let mut done = Switched::default();
    // All that are active, whether they changed or not: so what they want in addition is started.
    let mut targets = vec!["multi-user.target".to_owned()];
    for (name, old) in current.units.iter().filter(|(name, _)| active.contains(*name)) {
        let text = |unit: &nix::Unit, but: &str| -> String {
            let ignored = |line: &&str| !line.starts_with("Description=") && !line.starts_with(but);
            unit.text.lines().filter(ignored).collect()
        };
        let same = |new: &nix::Unit, but: &str| text(old, but) == text(new, but);
        let (_, kind) = name.rsplit_once('.').unwrap();
        let set = match (kind, new.units.get(name).filter(|unit| unit.enable)) {
            (_, None) => &mut done.stopped,
            ("target", _) => {
                targets.push(name.clone());
                continue;
            }
            ("socket" | "path" | "slice", _) => continue,
            (_, Some(new)) if same(new, "#") => continue,
            ("mount", Some(new)) if same(new, "Options=") => &mut done.reloaded,
            (_, Some(new)) if new.text.contains("\nX-ReloadIfChanged=true") => &mut done.reloaded,
            (_, Some(new)) if new.text.contains("\nX-RestartIfChanged=false") => continue,
            _ => &mut done.restarted,
        };
        set.insert(name.clone());
    }

    // What changed is stopped before the files change, and started after; but for some units.
    let is_kept = |name: &&String| new.units[*name].text.contains("X-StopIfChanged=false");
    let (at_once, apart): (Vec<_>, Vec<_>) = done.restarted.iter().partition(is_kept);
    tell(container, "stop", done.stopped.iter().chain(apart));
    exchange(container, current, &new);
    container.systemctl(&["reset-failed"]).exits(0);
    container.systemctl(&["daemon-reload"]).exits(0);
    let tmpfiles = "/etc/tmpfiles.d/00-nixos.conf";
    container.run(&["systemd-tmpfiles", "--create", "--remove", tmpfiles]).exits(0);

    // What a stop has taken along is started, not reloaded.
    let active = list(container, "active,activating");
    tell(container, "reload", done.reloaded.iter().filter(|name| active.contains(*name)));
    tell(container, "restart", at_once.into_iter());
    let changed = done.restarted.iter().chain(&done.reloaded);
    tell(container, "start", targets.iter().chain(changed));

    done.failed = list(container, "failed");
    *current = new;
    done
}

fn list(container: &Container, states: &str) -> BTreeSet<String> {
    let state = format!("--state={states}");
    let list = ["list-units", "--all", "--plain", "--no-legend", "--full", &state];
    let units = container.systemctl(&list).exits(0).stdout;
    units.lines().filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect()
}

/// Whatever comes of it is seen afterwards.
fn tell<'a>(container: &Container, what: &str, units: impl Iterator<Item = &'a String>) {
    let units: Vec<_> = units.map(String::as_str).collect();
    if !units.is_empty() {
        container.systemctl(&[&[what], &units[..]].concat());
    }
}

/// The files of the new configuration in place of the old one's. What is in the store stays there.
fn exchange(container: &Container, old: &nix::Machine, new: &nix::Machine) {
    let (old, new) = (cryptkey::files(old), cryptkey::files(new));
    for path in old.keys().filter(|path| !path.starts_with("/nix/") && !new.contains_key(*path)) {
        fs::remove_file(container.path(path)).unwrap();
    }
    for (path, node) in &new {
        if old.get(path) == Some(node) {
            continue;
        }
        if let Node::Link(_) = node
            && old.contains_key(path)
        {
            fs::remove_file(container.path(path)).unwrap();
        }
        node.put(container, path);
    }
}
