//! The configurations, each evaluated once.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::{Arc, LazyLock, Mutex, OnceLock},
};

use tempfile::TempDir;

use crate::{
    nix::{self, Machine},
    recipes,
};

const RECIPES: &str = "recipes/";
const FLEET: &str = "fleet/";

/// The names of the tests' own configurations: files without suffix.
pub fn names() -> Vec<String> {
    let entries = fs::read_dir(dir()).unwrap();
    let names = entries.map(|entry| entry.unwrap().path().with_extension(""));
    let mut names: Vec<_> =
        names.map(|path| path.file_name().unwrap().to_str().unwrap().to_owned()).collect();
    names.sort();
    names
}

/// These and the documented ones, as in `recipes/restic` and `fleet/web`.
pub fn all() -> impl Iterator<Item = String> {
    let recipes = recipes::names().into_iter().map(|name| RECIPES.to_owned() + &name);
    let hosts = recipes::hosts().into_iter().map(|name| FLEET.to_owned() + &name);
    names().into_iter().chain(recipes).chain(hosts)
}

/// What a configuration yields.
pub fn machine(name: &str) -> Arc<Machine> {
    type Cell = Arc<OnceLock<Arc<Machine>>>;
    static EVALUATED: LazyLock<Mutex<BTreeMap<String, Cell>>> = LazyLock::new(Mutex::default);
    let cell = EVALUATED.lock().unwrap().entry(name.to_owned()).or_default().clone();
    let evaluate =
        || Arc::new(nix::evaluate(&path(name)).unwrap_or_else(|error| panic!("{error}")));
    cell.get_or_init(evaluate).clone()
}

/// The file of a configuration.
pub fn path(name: &str) -> PathBuf {
    /// Of a page, what `extract` puts into a directory, and the files that are beside it.
    fn documented(extract: fn(&Path), profile: &str) -> TempDir {
        let documented = TempDir::new().unwrap();
        extract(documented.path());
        let profile = dir().join("../../vectors/profiles").join(profile);
        fs::copy(profile, documented.path().join("vault.toml")).unwrap();
        // An age file for somebody; for whom, only the card tells.
        let vector = include_str!("../vectors/age/armor_x25519");
        let (_, file) = vector.split_once("\n\n").unwrap();
        fs::write(documented.path().join("mail.age"), file).unwrap();
        documented
    }
    static OF_RECIPES: LazyLock<TempDir> =
        LazyLock::new(|| documented(recipes::extract, "piv-only.toml"));
    static OF_FLEET: LazyLock<TempDir> = LazyLock::new(|| {
        let fleet = documented(recipes::extract_fleet, "piv-piv-recovery-any.toml");
        let host = nix::nix_dir().join("host.nix");
        for name in recipes::hosts() {
            let module = format!("import {} {{ flake = ./.; name = \"{name}\"; }}", host.display());
            fs::write(fleet.path().join(name).with_extension("nix"), module).unwrap();
        }
        fleet
    });
    if let Some(recipe) = name.strip_prefix(RECIPES) {
        OF_RECIPES.path().join(recipe)
    } else if let Some(host) = name.strip_prefix(FLEET) {
        OF_FLEET.path().join(host)
    } else {
        dir().join(name)
    }
    .with_extension("nix")
}

fn dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/module/configurations")
}
