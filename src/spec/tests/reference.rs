//! The schema and `docs/spec.md` say what the types say.
