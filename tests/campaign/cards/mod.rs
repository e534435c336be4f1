//! What a card, its reader and pcscd can do to a run, at every APDU of every flow.

mod answers;
mod bench;
mod faults;
mod flow;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Mutex,
    thread,
};

pub use answers::{CLASSES, STATUS_WORDS};
use bench::Bench;
pub use bench::protect;
use flow::{FLOWS, Flow};

/// Runs at once. They mostly wait for pcscd.
const WORKERS: usize = 6;

/// Cases on one machine. Nothing that it published may be printed by a later run, not even in
/// fragments, of which some would come up by chance if there were too many.
const FRESH: usize = 64;

/// What goes wrong, and at which APDU of the flow, from 1.
#[derive(Clone, Debug)]
struct Case<F> {
    nth: usize,
    fault: F,
}

/// Does `carry_out` with every case that `cases` names for a flow, each flow on benches of its own
/// and several at once. Every case is tried; what failed is told at the end with what repeats it.
/// How many there were.
fn all<F: Clone + std::fmt::Debug + Send>(
    timeout: u32,
    cases: impl Fn(&Bench) -> Vec<Case<F>> + Sync,
    carry_out: impl Fn(&mut Bench, &Case<F>) + Sync,
) -> usize {
    let flows = Mutex::new(FLOWS.iter());
    let (failures, count) = (Mutex::new(Vec::new()), Mutex::new(0));
    thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                loop {
                    let next = flows.lock().unwrap().next();
                    let Some(flow) = next else { return };
                    let (tried, failed) = one(flow, timeout, &cases, &carry_out);
                    *count.lock().unwrap() += tried;
                    failures.lock().unwrap().extend(failed);
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap();
    assert!(failures.is_empty(), "{} failed:\n{}", failures.len(), failures.join("\n\n"));
    count.into_inner().unwrap()
}

fn one<F: Clone + std::fmt::Debug>(
    flow: &'static Flow,
    timeout: u32,
    cases: impl Fn(&Bench) -> Vec<Case<F>>,
    carry_out: impl Fn(&mut Bench, &Case<F>),
) -> (usize, Vec<String>) {
    let mut bench = Bench::new(flow, timeout);
    let cases = cases(&bench);
    let mut failures = Vec::new();
    for (index, case) in cases.iter().enumerate() {
        if index % FRESH == FRESH - 1 {
            bench = Bench::new(flow, timeout);
        }
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            bench.restore();
            carry_out(&mut bench, case);
        }));
        if let Err(panic) = outcome {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).into()));
            failures.push(format!("flow {}, {case:?}: {}", flow.name, text.unwrap_or_default()));
            // Whatever it left behind is not the next one's.
            bench = Bench::new(flow, timeout);
        }
    }
    (cases.len(), failures)
}
