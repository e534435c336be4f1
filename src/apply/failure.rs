//! What a step comes to that fails, and what becomes of the run then.

use std::fmt::Write as _;

use super::Work;
use crate::{
    error::{Class, Error},
    plan::Step,
    token::Fault,
};

/// What a step comes to.
pub(super) type Attempt<T = ()> = std::result::Result<T, Failure>;

/// Why a step failed.
pub(super) enum Failure {
    /// The card did not do what was tried.
    Card(Fault, String),
    /// Anything that is final.
    Final(Error),
}

impl Failure {
    pub(super) fn error(self) -> Error {
        match self {
            Self::Card(fault, tried) => fault.error(tried),
            Self::Final(error) => error,
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Final(error)
    }
}

impl Work<'_> {
    /// The error of a run that took more steps than any run needs.
    pub(super) fn endless(&self, next: Step) -> Error {
        Error::new(
            Class::Card,
            format!("key {}: carrying out the plan", self.name),
            format!(
                "what is asked of the cards is answered differently each time, and there is no end to it (next: \
                 {next})"
            ),
            "Take the card out, insert it again and start over. If it stays so, do not trust this card, and \
             please report it with the output of -vv.",
        )
    }

    /// Notes what failed, where other providers may still open the key.
    pub(super) fn go_on_without(&mut self, failure: Error) {
        if !self.known.open {
            tracing::warn!("{failure} Going on with what else opens the key.");
            self.failures.push(failure);
        } else if failure.class == Class::NoCard {
            // Nobody waits for a card that the open key could be sealed to.
            tracing::debug!("{failure}");
        } else {
            tracing::warn!(
                "{failure} The secrets are published; the key is not sealed to that card yet."
            );
        }
    }

    /// The error of a run that can't go on: what a person has to see to comes before what may have
    /// mended itself by the next time.
    pub(super) fn failed(&mut self, last: Error) -> Error {
        let mut failures = std::mem::take(&mut self.failures);
        failures.push(last);
        let worst = failures.iter().position(|failure| !failure.class.is_soft()).unwrap_or(0);
        let mut error = failures.remove(worst);
        for other in failures {
            // Writing to a string never fails.
            let _ = write!(error.found, "; and {}: {}", other.tried, other.found);
        }
        error
    }
}

/// A step came before what it rests on: a fault of the planner.
pub(super) fn out_of_order(name: &str) -> Failure {
    Failure::Final(Error::new(
        Class::Internal,
        format!("key {name}: carrying out the plan"),
        "a step came before what it rests on",
        "This is a fault of the program: report it.",
    ))
}
