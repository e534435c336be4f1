//! `schema`: the JSON Schema of the spec.

use std::fmt;

use serde::Serialize;

use super::{Ended, print};
use crate::{error::Result, spec};

#[derive(Serialize)]
#[serde(transparent)]
struct Schema(serde_json::Value);

impl fmt::Display for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:#}", self.0)
    }
}

pub(super) fn run() -> Result<Ended> {
    print(true, &Schema(spec::schema())).map(|()| None)
}
