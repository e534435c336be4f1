//! The planner against a small world of cards, and the words of its refusals.

mod destroying;
mod generate;
mod open;
mod overwriting;
mod properties;
mod refusals;
mod refusals_more;
mod run;
mod seals;
mod singly;
mod skip;
mod states;
mod tells;
mod trust;
mod ways;
mod world;
