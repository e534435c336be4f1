//! Any change to a good spec gives a spec, or faults that say where.

use proptest::prelude::*;
use serde_json::Value;

use super::{super::read, good::FULL};
use crate::chance::cases;

/// What a mutation puts in place of something.
fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
        prop::sample::select(vec!["9a", "9c", "never", "once", "/x", "0400", "raw", "true", "1"])
            .prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((field(), inner), 0..4)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

fn field() -> impl Strategy<Value = String> {
    let known = "version keys slot pin file ask cards serial id threshold secrets";
    let known: Vec<_> = known.split(' ').collect();
    prop_oneof![prop::sample::select(known).prop_map(String::from), "[a-zA-Z./\u{0}-\u{20}]{0,8}",]
}

/// Every place of the tree, by a path of steps.
fn places(value: &Value) -> Vec<Vec<usize>> {
    let children: Vec<&Value> = match value {
        Value::Array(items) => items.iter().collect(),
        Value::Object(fields) => fields.values().collect(),
        _ => Vec::new(),
    };
    let below = children.iter().enumerate().flat_map(|(index, child)| {
        places(child).into_iter().map(move |mut rest| {
            rest.insert(0, index);
            rest
        })
    });
    std::iter::once(Vec::new()).chain(below).collect()
}

fn at<'a>(value: &'a mut Value, place: &[usize]) -> &'a mut Value {
    place.iter().fold(value, |value, index| match value {
        Value::Array(items) => &mut items[*index],
        Value::Object(fields) => fields.values_mut().nth(*index).unwrap(),
        _ => unreachable!("places lead through containers"),
    })
}

fn check(text: &str) -> Result<(), TestCaseError> {
    match read(text) {
        Ok(spec) => {
            let again = serde_json::to_string(&spec).unwrap();
            prop_assert_eq!(read(&again), Ok(spec), "a spec that is written is read again");
        }
        Err(faults) => {
            prop_assert!(!faults.is_empty());
            for fault in faults {
                prop_assert!(!fault.path.is_empty() && !fault.message.is_empty());
                prop_assert!(!fault.to_string().contains(char::is_control), "{:?}", fault);
            }
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(cases!(2000))]

    #[test]
    fn a_changed_tree(
        changes in prop::collection::vec((any::<prop::sample::Index>(), field(), any_value(), 0..3), 1..6)
    ) {
        let mut tree: Value = serde_json::from_str(FULL).unwrap();
        for (index, name, value, kind) in changes {
            let places = places(&tree);
            let target = at(&mut tree, &places[index.index(places.len())]);
            match (kind, target) {
                (0, Value::Object(fields)) => { fields.insert(name, value); }
                (1, Value::Object(fields)) => {
                    let first = fields.keys().next().cloned();
                    first.map(|name| fields.remove(&name));
                }
                (_, target) => *target = value,
            }
        }
        check(&tree.to_string())?;
    }

    #[test]
    fn changed_text(
        changes in prop::collection::vec((any::<prop::sample::Index>(), "[\"{}\\[\\],:a-z0-9./ \\\\\u{0}]?"), 1..5)
    ) {
        let mut text = FULL.to_owned();
        for (index, with) in changes {
            let at = index.index(text.len());
            text.replace_range(at..=at, &with);
        }
        check(&text)?;
    }
}
