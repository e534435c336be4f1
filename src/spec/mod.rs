//! The spec: the JSON that says what the machine should have. `docs/spec.md` is its reference.
//!
//! [`read`] finds all faults of a text in one run; [`load`] reads the file for a command that
//! needs a good one; [`schema`] is the JSON Schema, made of the types themselves.

mod fault;
mod names;
mod owner;
mod parse;
mod read;
mod source;
#[cfg(test)]
mod tests;
mod tree;
mod types;
mod validate;

use std::{
    fs::File,
    io::{ErrorKind, Read as _},
    path::Path,
};

use serde_json::Value;

pub use self::{
    fault::Fault,
    names::{Name, ProfileId, SubjectName, UnitName},
    owner::{Account, FileMode},
    read::read,
    source::{ManagementKeySource, PinSource},
    types::{
        Attestation, AttestationPolicy, Card, Enroll, Key, Mode, Overwrite, Pcsc, Secret,
        SharedCard, Spec, Version,
    },
};
use crate::error::{Class, Error, Result};

/// Where the NixOS module puts the spec of all the machine's keys.
pub const MACHINE: &str = "/etc/cryptkey/spec.json";

/// No spec is longer than this.
const MOST_BYTES: u64 = 1 << 20;

/// The text of a spec file, for [`read`].
pub fn text(path: &Path) -> Result<String> {
    let tried = || format!("reading spec {}", path.display());
    let refuse = |class, found: String| {
        Error::new(class, tried(), found, "Name a readable spec file with --spec.")
    };
    let mut bytes = Vec::new();
    let file = File::open(path).and_then(|file| file.take(MOST_BYTES + 1).read_to_end(&mut bytes));
    match file.map_err(|error| (error.kind(), error)) {
        Ok(_) => {}
        Err((ErrorKind::NotFound, error)) if path == Path::new(MACHINE) => {
            let advice = "The NixOS module writes it: set security.cryptkey.enable = true and \
                          switch to that configuration. Or name another spec with --spec.";
            return Err(Error::new(Class::Spec, tried(), error.to_string(), advice));
        }
        Err((ErrorKind::PermissionDenied, error)) => {
            return Err(refuse(Class::Permission, error.to_string()));
        }
        Err((_, error)) => return Err(refuse(Class::Spec, error.to_string())),
    }
    if bytes.len() as u64 > MOST_BYTES {
        return Err(refuse(Class::Spec, format!("it is longer than {MOST_BYTES} bytes")));
    }
    String::from_utf8(bytes).map_err(|_| refuse(Class::Spec, "it is not UTF-8 text".into()))
}

/// Reads a spec file; its faults become one error, with one line for each.
pub fn load(path: &Path) -> Result<Spec> {
    read(&text(path)?).map_err(|faults| {
        let lines: Vec<_> = faults.iter().map(|fault| format!("\n  {fault}")).collect();
        let lines = lines.concat();
        let (count, them) = match faults.len() {
            1 => ("1 fault".into(), "it"),
            count => (format!("{count} faults"), "them"),
        };
        let tried = format!("reading spec {}", path.display());
        Error::new(
            Class::Spec,
            tried,
            count,
            format!("Correct {them} in the configuration:{lines}"),
        )
    })
}

/// The JSON Schema of the spec.
#[must_use]
pub fn schema() -> Value {
    let mut schema = schemars::schema_for!(Spec).to_value();
    unwrap_lines(&mut schema);
    // A required field has no default; that of its type would be shown.
    for field in ["version", "keys"] {
        if let Some(field) = schema["properties"][field].as_object_mut() {
            field.remove("default");
        }
    }
    schema
}

/// Joins the lines of the descriptions, which are as long as source lines.
fn unwrap_lines(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            for (name, value) in fields {
                match value {
                    Value::String(text) if name == "description" => {
                        *text = text.replace("\n\n", "\0").replace('\n', " ").replace('\0', "\n\n");
                    }
                    other => unwrap_lines(other),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(unwrap_lines),
        _ => {}
    }
}
