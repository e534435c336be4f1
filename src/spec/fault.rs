//! What is wrong with a spec, and where.

use std::fmt;

use serde::Serialize;

/// One fault of a spec.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// Where: `keys.vault.slot`, or `line 3, column 7` if the text is not JSON.
    pub path: String,
    /// What was found there and what is allowed, without a full stop.
    pub message: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.message)
    }
}

/// One step of a path into the spec.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Step {
    /// To a field of an object.
    Field(String),
    /// To an item of a list.
    Item(usize),
}

/// A path into the spec.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Path(pub Vec<Step>);

impl Path {
    /// This path, one field further.
    pub fn field(&self, name: &str) -> Self {
        self.then(Step::Field(name.into()))
    }

    /// This path, one item further.
    pub fn item(&self, index: usize) -> Self {
        self.then(Step::Item(index))
    }

    fn then(&self, step: Step) -> Self {
        let mut longer = self.clone();
        longer.0.push(step);
        longer
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("(top level)");
        }
        for (depth, step) in self.0.iter().enumerate() {
            match step {
                Step::Item(index) => write!(f, "[{index}]")?,
                Step::Field(name) => {
                    if depth > 0 {
                        f.write_str(".")?;
                    }
                    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
                    if !name.is_empty() && name.len() <= 64 && name.chars().all(plain) {
                        f.write_str(name)?;
                    } else {
                        f.write_str(&quoted(name))?;
                    }
                }
            }
        }
        Ok(())
    }
}

/// The text in quotes, on one line and of bounded length, whatever is in it.
pub(super) fn quoted(text: &str) -> String {
    match text.char_indices().nth(80) {
        Some((end, _)) => format!("{:?}…", &text[..end]),
        None => format!("{text:?}"),
    }
}

/// The faults found so far.
#[derive(Debug, Default)]
pub(super) struct Faults {
    found: Vec<(Path, String)>,
    suspect: Vec<Path>,
}

impl Faults {
    /// Adds a fault. What is at its path is not judged again.
    pub fn add(&mut self, path: Path, message: impl Into<String>) {
        self.found.push((path, message.into()));
    }

    /// Notes that the value of `path` is probably meant to be another one, which was misspelt.
    pub fn suspect(&mut self, path: Path) {
        self.suspect.push(path);
    }

    /// Whether what is at `path` cannot be judged, because it, a part of it or what it is a part
    /// of has a fault.
    pub fn touch(&self, path: &Path) -> bool {
        let bad = self.found.iter().map(|(path, _)| path);
        bad.chain(&self.suspect).any(|bad| bad.0.starts_with(&path.0) || path.0.starts_with(&bad.0))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.found.len()
    }

    /// All of them, in the order of their paths.
    pub fn finish(mut self) -> Vec<Fault> {
        self.found.sort();
        self.found.dedup();
        let fault = |(path, message): (Path, String)| Fault { path: path.to_string(), message };
        self.found.into_iter().map(fault).collect()
    }
}
