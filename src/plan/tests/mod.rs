//! The planner against what may be known, and the words of its refusals. What comes of its steps in the
//! world is in `apply/tests/`.

mod destroying;
mod fixtures;
mod generate;
mod hazards;
mod open;
mod refusals;
mod singly;
mod skip;
mod states;
mod trust;
mod ways;
