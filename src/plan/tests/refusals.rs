//! The refusals, word for word.
