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

/// The names of the tests' own configurations: files without suffix.
pub fn names() -> Vec<String> {
    let entries = fs::read_dir(dir()).unwrap();
    let names = entries.map(|entry| entry.unwrap().path().with_extension(""));
    let mut names: Vec<_> =
        names.map(|path| path.file_name().unwrap().to_str().unwrap().to_owned()).collect();
    names.sort();
    names
}

/// These and the documented ones, as in `recipes/restic`.
pub fn all() -> impl Iterator<Item = String> {
    names().into_iter().chain(recipes::names().into_iter().map(|name| RECIPES.to_owned() + &name))
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
    /// The documented ones, and a profile, which one of them has beside it.
    static DOCUMENTED: LazyLock<TempDir> = LazyLock::new(|| {
        let documented = TempDir::new().unwrap();
        recipes::extract(documented.path());
        let profile = dir().join("../../vectors/profiles/piv-only.toml");
        fs::copy(profile, documented.path().join("vault.toml")).unwrap();
        documented
    });
    match name.strip_prefix(RECIPES) {
        Some(recipe) => DOCUMENTED.path().join(recipe),
        None => dir().join(name),
    }
    .with_extension("nix")
}

fn dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/module/configurations")
}
