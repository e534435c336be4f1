//! The schema and `docs/spec.md` say what the types say.

use std::collections::BTreeSet;

use expect_test::expect_file;
use serde_json::Value;

use super::super::{read, schema};

const REFERENCE: &str = include_str!("../../../docs/spec.md");

#[test]
fn the_published_schema_is_that_of_the_types() {
    let text = format!("{}\n", serde_json::to_string_pretty(&schema()).unwrap());
    expect_file!["../../../docs/spec.schema.json"].assert_eq(&text);
}

#[test]
fn every_example_of_the_reference_is_accepted() {
    let examples: Vec<_> = REFERENCE
        .split("```json\n")
        .skip(1)
        .map(|rest| rest.split("```").next().unwrap())
        .collect();
    assert!(examples.len() >= 3, "the reference has examples");
    for example in examples {
        assert!(read(example).is_ok(), "{example}: {:#?}", read(example).unwrap_err());
    }
}

/// Every field of the schema, with its section and its default.
fn fields() -> Vec<(String, String, Option<Value>)> {
    let schema = schema();
    let objects = schema["$defs"].as_object().unwrap();
    let all = objects.iter().map(|(name, object)| (name.as_str(), object));
    let fields = all.chain([("Spec", &schema)]).flat_map(|(name, object)| {
        let fields = object["properties"].as_object().into_iter().flatten();
        fields.map(move |(field, of)| (name.to_owned(), field.clone(), of.get("default").cloned()))
    });
    fields.collect()
}

/// In the reference each object of the schema has a section, with a row for each field that has
/// its name and its default.
#[test]
fn every_field_is_in_the_reference() {
    let mut wanted = BTreeSet::new();
    for (object, field, default) in fields() {
        let default = match default {
            None => "—".to_owned(),
            Some(default) => format!("`{default}`"),
        };
        wanted.insert((object, format!("`{field}`"), default));
    }
    let mut found = BTreeSet::new();
    let mut section = "";
    for line in REFERENCE.lines() {
        if let Some(title) = line.strip_prefix("## ") {
            section = title.rsplit_once('(').map_or("", |(_, name)| name.trim_end_matches(')'));
        } else if let Some(row) = line.strip_prefix("| `").filter(|_| !section.is_empty()) {
            let cells: Vec<_> = row.split('|').map(str::trim).collect();
            found.insert((section.to_owned(), format!("`{}", cells[0]), cells[2].to_owned()));
        }
    }
    assert_eq!(found, wanted);
}

#[test]
fn every_part_of_the_schema_explains_itself() {
    fn undescribed(at: &str, schema: &Value, missing: &mut Vec<String>) {
        let fields = schema["properties"].as_object().into_iter().flatten();
        for (name, field) in fields {
            if field["description"].as_str().is_none_or(str::is_empty) {
                missing.push(format!("{at}.{name}"));
            }
        }
        for (name, of) in schema["$defs"].as_object().into_iter().flatten() {
            if of["description"].as_str().is_none_or(str::is_empty) {
                missing.push(name.clone());
            }
            undescribed(name, of, missing);
        }
    }
    let mut missing = Vec::new();
    undescribed("Spec", &schema(), &mut missing);
    assert_eq!(missing, Vec::<String>::new());
}
