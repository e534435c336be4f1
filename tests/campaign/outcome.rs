//! What a run that something happened to leaves, and what the next one makes of it.

use crate::{
    bench::{Bench, Published},
    flows::{Fate, Flow},
    support::{Output, TestCard},
};

/// How the machine is.
pub struct Outcome {
    pub published: Published,
    pub profile: Option<String>,
    /// How often the card made a key.
    pub generated: usize,
}

impl Outcome {
    pub fn of(bench: &Bench) -> Self {
        let log = bench.card.log();
        let generated = log.iter().filter(|apdu| apdu.generates() && apdu.status == "9000");
        Self {
            published: bench.published(),
            profile: bench.profile(),
            generated: generated.count(),
        }
    }
}

/// What must hold at the end of every run that was not disturbed. An undisturbed one leaves `shape`.
pub fn check_end(bench: &mut Bench, flow: &Flow, before: &Outcome, shape: &[String], case: &str) {
    let end = Outcome::of(bench);
    let expected = match flow.codes {
        _ if flow.args == ["scrub"] => Published::new(),
        [0, 0] => bench.expected(),
        _ => before.published.clone(),
    };
    assert_eq!(end.published, expected, "{case}");
    assert_eq!(bench.shape(), shape, "{case}");
    assert_eq!(bench.card.tries(), flow.tries, "{case}");
    assert!(bench.other.iter().all(|other| other.tries() == 3), "{case}");
    assert_eq!(end.generated - before.generated, flow.generates, "keys made: {case}");
    if flow.profile != Fate::Stays {
        // What was replaced is kept, once.
        assert_ne!(end.profile, before.profile, "{case}");
        assert_eq!(bench.kept(), Vec::from_iter(before.profile.clone()), "{case}");
    } else if before.profile.is_some() {
        assert_eq!(end.profile, before.profile, "{case}");
    }
    if flow.profile == Fate::Resealed && !before.published.is_empty() {
        assert_eq!(end.published, before.published, "{case}");
    }
}

/// Looks at what a run left, has the next one make it good once `repair` was done, and looks again;
/// that next one.
pub fn judge(
    bench: &mut Bench,
    flow: &Flow,
    before: &Outcome,
    shape: &[String],
    case: &str,
    repair: impl FnOnce(&Bench),
) -> Output {
    let between = Outcome::of(bench);
    let stood = before.profile.is_some();
    assert!(!stood || between.profile.is_some(), "lost: {case}");
    let stays = flow.profile == Fate::Stays;
    assert!(!stays || !stood || between.profile == before.profile, "{case}");
    assert!(between.published.is_empty() || between.profile.is_some(), "rule 2: {case}");
    assert!(between.generated - before.generated <= flow.generates, "keys made: {case}");

    repair(bench);
    let next = bench.machine.run(flow.args);
    assert!(flow.codes.map(Some).contains(&next.code), "{case}: {next}");
    check_end(bench, flow, before, shape, case);
    // Whoever read in between saw the old set or the new.
    let after = bench.published();
    let whole = between.published == before.published || between.published == after;
    assert!(whole, "a mixed set: {case}: {:?}", between.published.keys());
    let whole = [&None, &before.profile, &bench.profile()].contains(&&between.profile);
    assert!(whole, "another profile in between: {case}");
    next
}
