//! The configurations, each evaluated once.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::{Arc, LazyLock, Mutex, OnceLock},
};

use crate::nix::{self, Machine};

/// The names of all configurations: files without suffix, as in `fleet/web`.
pub fn names() -> Vec<String> {
    let dir = dir();
    let mut names = Vec::new();
    for place in [dir.clone(), dir.join("fleet")] {
        for entry in fs::read_dir(place).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|suffix| suffix == "nix") {
                let name = path.strip_prefix(&dir).unwrap().with_extension("");
                names.push(name.to_str().unwrap().to_owned());
            }
        }
    }
    names.sort();
    names
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
    dir().join(format!("{name}.nix"))
}

fn dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/module/configurations")
}
