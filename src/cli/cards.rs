//! `cards`: every reader, its card, and the keys in its slots.

use std::fmt;

use serde::Serialize;

use super::{Ended, print};
use crate::{
    error::Result,
    token::{ReaderView, Slot, scan},
};

#[derive(Serialize)]
struct Cards {
    readers: Vec<ReaderView>,
}

pub(super) fn run(json: bool) -> Result<Ended> {
    let slots: Vec<_> = Slot::all().collect();
    print(json, &Cards { readers: scan(&slots)? }).map(|()| None)
}

impl fmt::Display for Cards {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.readers.is_empty() {
            writeln!(f, "There is no reader.")?;
        }
        self.readers.iter().try_for_each(|reader| write!(f, "{reader}"))
    }
}
