//! Bad specs, and the exact words that are said about them.

use std::fmt::Write as _;

use expect_test::expect_file;
use serde_json::Value;

use super::{
    super::read,
    good::{FULL, key},
};

/// `faults.txt` holds bad specs with what is said about each; this writes the answers anew and
/// compares.
#[test]
fn the_exact_words() {
    let mut cases = include_str!("faults.txt").split("\n\n");
    let mut text = cases.next().unwrap().to_owned();
    for case in cases {
        let lines = case.trim_end().lines();
        let kept: Vec<_> = lines.filter(|line| !line.starts_with("=> ")).collect();
        let spec: Vec<_> = kept.iter().filter(|line| !line.starts_with('#')).copied().collect();
        let spec = spec.join("\n");
        let whole = spec.strip_prefix("vault ").map(key);
        write!(text, "\n\n{}", kept.join("\n")).unwrap();
        for fault in read(whole.as_ref().unwrap_or(&spec)).expect_err(&spec) {
            write!(text, "\n=> {fault}").unwrap();
        }
    }
    expect_file!["faults.txt"].assert_eq(&(text + "\n"));
}

#[test]
fn text_that_is_no_text() {
    let said = |text: &str| read(text).unwrap_err()[0].to_string();
    assert_eq!(said(""), "line 1, column 0: this is not JSON: the text ends too early");
    let deep = "[".repeat(1000);
    assert_eq!(said(&deep), "line 1, column 128: this is not JSON: recursion limit exceeded");
}

/// A PIN or a management key that somebody wrote into the spec is not repeated in a log.
#[test]
fn a_pin_in_the_wrong_place_is_not_repeated() {
    for bad in [
        r#""pin": "SECRET""#,
        r#""pin": 73628190"#,
        r#""pin": ["SECRET"]"#,
        r#""pin": {"file": "SECRET"}"#,
        r#""pin": {"file": 73628190}"#,
        r#""pin": {"credential": "SECRET!"}"#,
        r#""pin": {"ask": "SECRET"}"#,
        r#""managementKey": "SECRET""#,
        r#""managementKey": {"file": "SECRET"}"#,
        r#""managementKey": {"protected": "SECRET"}"#,
        r#""cards": [{"serial": "1", "pin": "SECRET", "managementKey": 73628190}]"#,
    ] {
        let text = format!(r#"{{"version": 1, "keys": {{"vault": {{{bad}}}}}}}"#);
        let said = format!("{:?}", read(&text).unwrap_err());
        assert!(!said.contains("SECRET") && !said.contains("73628190"), "{bad}: {said}");
    }
}

#[test]
fn names_are_safe_file_names() {
    for bad in ["", ".", "..", ".hidden", "-x", "a/b", "a b", "ä", "a\\u0000", &"x".repeat(65)] {
        for text in [
            format!(r#"{{"version": 1, "keys": {{"{bad}": {{}}}}}}"#),
            key(&format!(r#""secrets": {{"{bad}": {{}}}}"#)),
        ] {
            let faults = read(&text).unwrap_err();
            assert_eq!(faults.len(), 1, "{faults:?}");
            assert!(faults[0].message.starts_with("not a name; allowed"), "{faults:?}");
        }
    }
    for good in ["a", "_", "0", "A.b-c_d", &"x".repeat(64)] {
        assert!(good.parse::<crate::spec::Name>().is_ok(), "{good}");
    }
}

#[test]
fn uses_are_labels() {
    for bad in ["", " a", "a ", "a\\tb", &"x".repeat(257)] {
        let text = key(&format!(r#""secrets": {{"a": {{"use": "{bad}"}}}}"#));
        let faults = read(&text).unwrap_err();
        assert_eq!(faults[0].path, "keys.vault.secrets.a.use");
        assert!(faults[0].message.ends_with("no blank at either end"), "{faults:?}");
    }
    assert!(
        read(&key(&format!(r#""secrets": {{"a": {{"use": "{}"}}}}"#, "ä".repeat(256)))).is_ok()
    );
}

#[test]
fn a_file_of_another_kind_does_not_drown_us() {
    let cards = vec!["0"; 5000].join(",");
    let fields: Vec<_> = (0..5000).map(|n| format!(r#""x{n}": 0"#)).collect();
    for text in [key(&format!(r#""cards": [{cards}]"#)), key(&fields.join(","))] {
        let faults = read(&text).unwrap_err();
        assert_eq!(faults.len(), 1001);
        assert_eq!(
            faults[0].to_string(),
            "(top level): there are more faults than these; correct these first"
        );
    }
}

/// A wrong value in every single place of a full spec, one by one and all at once: each is found,
/// under its own path, and nothing else is.
#[test]
fn each_wrong_value_is_found_where_it_is() {
    /// Puts `wrong` in all places that hold a single value, or in the one of this number.
    fn spoil(
        value: &mut Value,
        path: &str,
        only: Option<usize>,
        spoilt: &mut Vec<String>,
        count: &mut usize,
    ) {
        let mut below = |child: &mut Value, path: String| spoil(child, &path, only, spoilt, count);
        match value {
            Value::Object(fields) => {
                for (name, child) in fields {
                    let dot = if path.is_empty() { "" } else { "." };
                    below(child, format!("{path}{dot}{name}"));
                }
            }
            Value::Array(items) => {
                for (index, child) in items.iter_mut().enumerate() {
                    below(child, format!("{path}[{index}]"));
                }
            }
            single => {
                if only.is_none_or(|only| only == *count) {
                    *single = serde_json::json!([true]);
                    spoilt.push(path.to_owned());
                }
                *count += 1;
            }
        }
    }
    let found = |tree: &Value| {
        let faults = read(&tree.to_string()).unwrap_err();
        faults.into_iter().map(|fault| fault.path).collect::<Vec<_>>()
    };
    let whole: Value = serde_json::from_str(FULL).unwrap();
    let (mut tree, mut spoilt, mut count) = (whole.clone(), Vec::new(), 0);
    spoil(&mut tree, "", None, &mut spoilt, &mut count);
    spoilt.sort();
    assert_eq!(found(&tree), spoilt, "all at once");
    assert!(count > 20);
    for only in 0..count {
        let (mut tree, mut spoilt) = (whole.clone(), Vec::new());
        spoil(&mut tree, "", Some(only), &mut spoilt, &mut 0);
        assert_eq!(found(&tree), spoilt);
    }
}
