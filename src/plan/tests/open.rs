//! Opening chosen providers, for a command: those are waited for, and no others.

use super::{
    super::{Goal, Known, Next, Sealed, Step, Way, next},
    fixtures::sealed,
};
use crate::{spec::Key, token::Wanted};

/// A profile that two of its providers open: cards at 0 and 1, and at 2 and 3 what is typed.
fn known(goal: &[usize]) -> Known {
    let sealed = Sealed { typed: vec![2, 3], ..sealed(2, &[1, 2]) };
    let goal = Goal::Open(goal.iter().copied().collect());
    Known { profile: Some(sealed), goal, ..Known::default() }
}

fn wanted(known: &Known) -> Vec<usize> {
    match known.wanted(&Key::default()) {
        Wanted::Enrolled(enrolled) => enrolled.iter().map(|enrolled| enrolled.provider).collect(),
        Wanted::Named(_) | Wanted::Any(_) => panic!("{known:?}"),
    }
}

#[test]
fn no_other_card_is_waited_for_where_the_chosen_ones_are_enough() {
    let key = Key::default();
    let mut known = known(&[1, 3]);
    assert_eq!((wanted(&known), next(&key, &known, None)), (vec![1], Next::Step(Step::FindCard)));
    known.share_opened(1);
    assert_eq!(next(&key, &known, None), Next::Step(Step::AskShare(3)));
    known.share_opened(3);
    assert_eq!(next(&key, &known, None), Next::Done);
}

#[test]
fn the_others_help_where_the_chosen_ones_are_too_few() {
    let key = Key::default();
    let mut known = known(&[1]);
    assert_eq!(wanted(&known), [0, 1]);
    // The other one is there first: then the key is open, and the chosen one is still wanted.
    known.share_opened(0);
    known.share_opened(2);
    assert!(known.open);
    assert_eq!((wanted(&known), next(&key, &known, None)), (vec![1], Next::Step(Step::FindCard)));
    known.share_opened(1);
    assert_eq!(next(&key, &known, None), Next::Done);
}

#[test]
fn without_a_chosen_one_the_run_is_over() {
    for (place, goes_on) in [(0, true), (1, false)] {
        assert_eq!(known(&[1]).give_up(&Key::default(), Way::Providers(vec![place])), goes_on);
    }
}
