//! Tests of the spec: good specs, bad specs and their messages, the schema and the reference.

mod faults;
mod good;
mod mutations;
mod reference;
