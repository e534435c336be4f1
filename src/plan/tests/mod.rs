//! The planner against a small world of cards, and the words of its refusals.

mod properties;
mod refusals;
mod states;
mod world;
