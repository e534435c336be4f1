//! What the commands that change a profile say of it.

use std::{fmt, path::PathBuf};

use serde::Serialize;

use super::view::ProfileView;

/// What became of a profile.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Changed {
    pub key: String,
    /// What was done, as a sentence without its end.
    #[serde(skip)]
    pub done: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub added: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub removed: Vec<String>,
    pub profile: ProfileView,
    /// The new file, where the key's own was left as it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<PathBuf>,
    /// The profile before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kept: Option<PathBuf>,
    /// What to know about it, and to do next: lines.
    #[serde(skip)]
    pub notes: String,
}

impl fmt::Display for Changed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, done, output, kept, notes, .. } = self;
        writeln!(f, "{key}: {done}")?;
        if let Some(kept) = kept {
            writeln!(f, "  The profile before is kept as {}.", kept.display())?;
        }
        if let Some(output) = output {
            writeln!(f, "  It is in {}; the key's own profile is as it was.", output.display())?;
        }
        f.write_str(notes)
    }
}
