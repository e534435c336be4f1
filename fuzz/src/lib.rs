//! What the fuzz targets share: cards that answer whatever the fuzzer wants.

pub mod script;
pub mod steps;
