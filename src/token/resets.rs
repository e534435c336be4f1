//! What is remembered of readers: whether their cards are reset when pcscd has them reset. The drivers of
//! some ignore it, and a verified PIN would outlive the session.

use std::{collections::BTreeMap, path::Path};

use crate::{
    error::Result,
    system::{
        durable,
        state_dir::{StateDir, WRITABLE, failed},
    },
};

/// Its name in the state directory.
const FILE: &str = "readers.json";
/// Its size, at most.
const MAX_SIZE: usize = 64 * 1024;
/// So many readers are remembered: pcscd names one for each port and driver.
const MOST: usize = 128;

/// By a reader's name, whether it resets its card.
type Readers = BTreeMap<String, bool>;

/// Whether a reader resets its card; none where that is to be found out.
pub(super) fn known(state: &StateDir, reader: &str) -> Option<bool> {
    read(state).get(reader).copied()
}

/// What makes no sense says nothing: it is found out again.
fn read(state: &StateDir) -> Readers {
    let text = state.read_file(FILE, MAX_SIZE).ok().flatten();
    text.and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default()
}

/// Remembers whether a reader resets its card.
///
/// # Errors
/// The state directory does not take it.
pub(super) fn remember(state: &Path, reader: &str, resets: bool) -> Result<()> {
    let tried = format!("remembering of reader {reader:?} whether it resets its card");
    let mut state = StateDir::open(state)?;
    let _lock = state.lock(&tried)?;
    let mut readers = read(&state);
    if readers.len() >= MOST {
        readers.clear();
    }
    readers.insert(reader.into(), resets);
    let text = serde_json::to_vec(&readers).unwrap_or_default();
    durable::replace(state.writable()?, FILE, &text).map_err(|error| failed(tried, error, WRITABLE))
}
