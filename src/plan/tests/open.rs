//! Opening chosen providers, for a command: those are waited for, and no others.

use super::{
    super::{Goal, Known, Next, Sealed, Step, Wanted, Way, next},
    world::params,
};
use crate::{
    spec::Key,
    token::{CardName, Serial},
};

/// A profile that two of its providers open: cards at 0 and 1, and at 2 and 3 what is typed.
fn known(goal: &[usize]) -> Known {
    let card = |serial| CardName { serial: Serial::new(serial), guid: None };
    let sealed = Sealed {
        id: String::new(),
        threshold: 2,
        piv: [(0, params(card(1), 0, true, None)), (1, params(card(2), 1, true, None))].into(),
        unlisted: Vec::new(),
        ids: Vec::new(),
        typed: vec![2, 3],
        others: Vec::new(),
        is_version_1: false,
    };
    let goal = Goal::Open(goal.iter().copied().collect());
    Known { profile: Some(sealed), goal, ..Known::default() }
}

fn wanted(known: &Known) -> Vec<usize> {
    match known.wanted(&Key::default()) {
        Wanted::Providers(providers) => providers.into_iter().map(|(place, _)| place).collect(),
        Wanted::Listed(_) | Wanted::Any => panic!("{known:?}"),
    }
}

#[test]
fn no_other_card_is_waited_for_where_the_chosen_ones_are_enough() {
    let key = Key::default();
    let mut known = known(&[1, 3]);
    assert_eq!((wanted(&known), next(&key, &known)), (vec![1], Next::Step(Step::FindCard)));
    known.share_opened(1);
    assert_eq!(next(&key, &known), Next::Step(Step::AskShare(3)));
    known.share_opened(3);
    assert_eq!(next(&key, &known), Next::Done);
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
    assert_eq!((wanted(&known), next(&key, &known)), (vec![1], Next::Step(Step::FindCard)));
    known.share_opened(1);
    assert_eq!(next(&key, &known), Next::Done);
}

#[test]
fn without_a_chosen_one_the_run_is_over() {
    for (place, goes_on) in [(0, true), (1, false)] {
        assert_eq!(known(&[1]).give_up(&Key::default(), Way::Providers(vec![place])), goes_on);
    }
}
