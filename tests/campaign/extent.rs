//! How much of the campaign runs, and how its figures are told.

use std::{env, fs::OpenOptions, io::Write};

/// Whether all of it runs (`make campaign`), or the bounded part of `make test`.
pub fn is_whole() -> bool {
    env::var_os("CRYPTKEY_CAMPAIGN").is_some_and(|extent| extent == "whole")
}

/// One of two amounts: for `make test`, and for `make campaign`.
pub fn amount(bounded: usize, whole: usize) -> usize {
    if is_whole() { whole } else { bounded }
}

/// Tells a figure: printed, and added to the file that `CRYPTKEY_FIGURES` names.
pub fn tell(figure: &str) {
    println!("{figure}");
    if let Some(path) = env::var_os("CRYPTKEY_FIGURES") {
        let mut file = OpenOptions::new().create(true).append(true).open(path).unwrap();
        writeln!(file, "{figure}").unwrap();
    }
}
