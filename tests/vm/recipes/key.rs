//! What all recipes begin with.

use super::{Configuration, type_in, with_a_card};
use crate::support::recipes::Recipe;

#[test]
fn the_key_and_its_pin() {
    let (machine, _card) = with_a_card(&[]);
    Configuration::new().switch(&machine, "key.nix");
    type_in(&machine, &Recipe::new("The first start").session());
}
