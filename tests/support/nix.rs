//! What a NixOS configuration yields with the module: evaluated by `tests/nix/machine.nix`, with the
//! library and the unit types of nixpkgs, which cargo brings. It needs `nix-instantiate`; no daemon,
//! no `/nix`, and no network once cargo has fetched.

// Each test uses a part.
#![allow(dead_code)]

use std::{
    collections::{BTreeMap, BTreeSet},
    env,
    fs::{self, Permissions},
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    process::Command,
    sync::LazyLock,
};

use serde::Deserialize;
use tempfile::TempDir;

/// What a machine boots with.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Machine {
    /// The units, by name with suffix.
    pub units: BTreeMap<String, Unit>,
    /// The files of the Nix store that the rest names, by path.
    #[serde(skip)]
    pub files: BTreeMap<String, String>,
    /// Which file each path in `/etc` is.
    pub etc: BTreeMap<String, String>,
    /// The lines of tmpfiles.d(5).
    pub tmpfiles: Vec<String>,
    /// The messages of assertions that failed: such a machine is not built.
    pub assertions: Vec<String>,
    pub warnings: Vec<String>,
    /// The keys' outputs for other modules.
    pub keys: BTreeMap<String, Key>,
}

/// A unit as NixOS writes it.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Unit {
    pub text: String,
    /// If not, the unit is masked.
    pub enable: bool,
    pub aliases: Vec<String>,
    pub wanted_by: Vec<String>,
    pub required_by: Vec<String>,
    /// "asDropinIfExists": where a package brings the unit, this is a drop-in for it.
    pub override_strategy: String,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Key {
    pub unit: String,
    /// The path of each secret.
    pub secrets: BTreeMap<String, String>,
}

/// The directory of nixpkgs: the test inputs of a crate.
pub fn nixpkgs() -> &'static Path {
    static FOUND: LazyLock<PathBuf> = LazyLock::new(|| {
        let manifest = nix_dir().join("nixpkgs/Cargo.toml");
        let mut cargo = Command::new(env::var_os("CARGO").unwrap_or("cargo".into()));
        let output = cargo
            .args(["metadata", "--locked", "--format-version=1", "--manifest-path"])
            .arg(manifest)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let mut packages = metadata["packages"].as_array().unwrap().iter();
        let nixel = packages.find(|package| package["name"] == "nixel").unwrap();
        let manifest = Path::new(nixel["manifest_path"].as_str().unwrap());
        manifest.with_file_name("tests/inputs/nixpkgs")
    });
    &FOUND
}

/// Where the expressions of the tests are.
pub fn nix_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/nix")
}

/// A program of Nix that knows nothing of this machine's configuration, and asks no other machine.
pub fn nix(program: &str) -> Command {
    let mut command = Command::new(program);
    command.env_remove("NIX_PATH").env("NIX_CONF_DIR", nix_dir()).env(
        "NIX_CONFIG",
        "build-users-group =\nsubstituters =\nsandbox = false\nfilter-syscalls = false",
    );
    command
}

/// The value of an expression in `tests/nix`, a function of nixpkgs and these arguments, each of them
/// an expression, too. `store` gets the files that it makes. Err is what Nix says.
pub fn value<T: for<'a> Deserialize<'a>>(
    expression: &str,
    arguments: &[(&str, &str)],
    store: &Path,
) -> Result<T, String> {
    let mut command = nix("nix-instantiate");
    command.args(["--eval", "--strict", "--json", "--read-write-mode", "--store"]).arg(store);
    command.arg(nix_dir().join(expression)).args(["--arg", "nixpkgs"]).arg(nixpkgs());
    for (name, argument) in arguments {
        command.args(["--arg", name, argument]);
    }
    let output = command.output().expect("nix-instantiate is needed: apt install nix-bin");
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    Ok(serde_json::from_slice(&output.stdout).unwrap())
}

/// Evaluates a configuration, which is a file with a module. Err is what Nix says.
pub fn evaluate(configuration: &Path) -> Result<Machine, String> {
    evaluate_expression(configuration.to_str().unwrap())
}

/// As [`evaluate`], of an expression that is a module.
pub fn evaluate_expression(configuration: &str) -> Result<Machine, String> {
    let store = TempDir::new().unwrap();
    let mut machine: Machine =
        value("machine.nix", &[("configuration", configuration)], store.path())?;
    machine.files = machine.closure(store.path());
    Ok(machine)
}

impl Machine {
    /// The path of a package: of its name, after the hash.
    pub fn package(&self, name: &str) -> String {
        let mut packages = self.packages().into_iter();
        let found = packages.find(|path| name_of(path) == name);
        found.unwrap_or_else(|| panic!("no unit names the package {name}"))
    }

    /// The paths of the store that are no files: packages, which the machine has to be given.
    pub fn packages(&self) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        for text in self.texts().chain(self.files.values().map(String::as_str)) {
            found.extend(store_paths(text).filter(|path| !self.files.contains_key(*path)));
        }
        found.into_iter().map(str::to_owned).collect()
    }

    /// The file that a path in `/etc` is.
    pub fn etc(&self, path: &str) -> &str {
        &self.files[&self.etc[path]]
    }

    /// Puts what NixOS would have put there below `root`: units (those that are wanted, with their
    /// links), files of the store, `/etc`, tmpfiles.d. A unit that a package of the root brings
    /// gets a drop-in. The packages are the caller's to fill.
    pub fn install(&self, root: &Path, wanted: impl Fn(&str) -> bool) {
        let units = root.join("etc/systemd/system");
        for (name, unit) in self.units.iter().filter(|(name, _)| wanted(name)) {
            let packaged = ["usr/lib/systemd/system", "lib/systemd/system"]
                .iter()
                .any(|dir| root.join(dir).join(name).exists());
            if !unit.enable {
                link("/dev/null", &units.join(name));
            } else if unit.override_strategy == "asDropin" || packaged {
                write(&units.join(format!("{name}.d/overrides.conf")), &unit.text);
            } else {
                write(&units.join(name), &unit.text);
            }
            for alias in &unit.aliases {
                link(name, &units.join(alias));
            }
            for (others, kind) in [(&unit.wanted_by, "wants"), (&unit.required_by, "requires")] {
                for other in others {
                    link(&format!("../{name}"), &units.join(format!("{other}.{kind}/{name}")));
                }
            }
        }
        for (path, text) in &self.files {
            let mut file = root.join(&path[1..]);
            if let Some(script) = name_of(path).strip_prefix("script-bin-") {
                file = file.join("bin").join(script);
            } else if let Some(text) = name_of(path).strip_prefix("text-dir-") {
                file = file.join(text);
            }
            write(&file, text);
            if text.starts_with("#!") {
                fs::set_permissions(&file, Permissions::from_mode(0o755)).unwrap();
            }
        }
        for (path, file) in &self.etc {
            link(file, &root.join("etc").join(path));
        }
        write(&root.join("etc/tmpfiles.d/00-nixos.conf"), &(self.tmpfiles.join("\n") + "\n"));
    }

    /// Everything that may name a path of the store, but for files.
    fn texts(&self) -> impl Iterator<Item = &str> {
        let units = self.units.values().map(|unit| &unit.text);
        units.chain(self.etc.values()).chain(&self.tmpfiles).map(String::as_str)
    }

    /// The files of the store that are named, also by each other.
    fn closure(&self, store: &Path) -> BTreeMap<String, String> {
        let mut found = BTreeMap::new();
        let mut left: Vec<String> = self.texts().flat_map(store_paths).map(str::to_owned).collect();
        while let Some(path) = left.pop() {
            let file = store.join(&path[1..]);
            if found.contains_key(&path) || !file.is_file() {
                continue;
            }
            let text = fs::read_to_string(&file).unwrap();
            left.extend(store_paths(&text).map(str::to_owned));
            found.insert(path, text);
        }
        found
    }
}

/// What follows the hash in a path of the store.
pub fn name_of(path: &str) -> &str {
    path.split_once('-').map_or(path, |(_, name)| name)
}

/// The paths of the store in a text, each without what lies below it.
pub fn store_paths(text: &str) -> impl Iterator<Item = &str> {
    text.match_indices("/nix/store/").filter_map(|(start, prefix)| {
        let name = &text[start + prefix.len()..];
        let end = name.find(|c: char| !(c.is_ascii_alphanumeric() || "+-._?=".contains(c)));
        let name = &name[..end.unwrap_or(name.len())];
        let hash = name.split('-').next().unwrap_or_default();
        (hash.len() == 32 && name.len() > 33).then(|| &text[start..][..prefix.len() + name.len()])
    })
}

fn write(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn link(target: &str, path: &Path) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    symlink(target, path).unwrap();
}
