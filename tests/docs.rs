//! What the docs say of exit codes is what the program does.

use std::{collections::BTreeSet, fs, path::Path};

use cryptkey::error::Class;

const EXIT_CODES: &str = include_str!("../docs/exit-codes.md");

/// Each class has one row, in the order of the codes, with its code, name and softness.
#[test]
fn the_table_of_exit_codes_has_every_class() {
    let wanted: Vec<_> = Class::ALL
        .iter()
        .map(|class| {
            let soft = if class.is_soft() { "yes" } else { "no" };
            [class.exit_code().to_string(), format!("`{}`", class.name()), soft.to_owned()]
        })
        .collect();
    let rows = EXIT_CODES.lines().filter_map(|line| {
        let cells: Vec<_> = line.split('|').map(str::trim).collect();
        match cells[..] {
            ["", code, name, meaning, next, soft, ""] if code.parse::<u8>().is_ok() => {
                assert!(!meaning.is_empty() && !next.is_empty(), "{line}");
                Some([code.to_owned(), name.to_owned(), soft.to_owned()])
            }
            _ => None,
        }
    });
    assert_eq!(rows.collect::<Vec<_>>(), wanted);
}

#[test]
fn every_code_is_different() {
    let codes: BTreeSet<_> = Class::ALL.iter().map(|class| class.exit_code()).collect();
    assert_eq!(codes.len(), Class::ALL.len());
    // 0 is success, and 2 is clap's.
    assert!(!codes.contains(&0) && !codes.contains(&2));
}

/// Each line of the sandbox is explained.
#[test]
fn the_table_of_the_sandbox_is_whole() {
    let sandbox = include_str!("../nixos-module/hardening.nix");
    let table = include_str!("../docs/hardening.md");
    let settings: Vec<_> = sandbox
        .lines()
        .filter_map(|line| line.strip_prefix("  ")?.split_once(" = "))
        .filter(|(name, _)| name.starts_with(|c: char| c.is_ascii_uppercase()))
        .map(|(name, _)| name)
        .collect();
    assert!(settings.len() > 20, "{settings:?}");
    for setting in settings.into_iter().filter(|name| *name != "SystemCallErrorNumber") {
        assert!(table.contains(&format!("`{setting}=")), "docs/hardening.md lacks {setting}=");
    }
}

/// Links between the documents lead somewhere.
#[test]
fn links_lead_to_files() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut documents = vec![root.join("README.md")];
    let docs = fs::read_dir(root.join("docs")).unwrap();
    documents.extend(docs.map(|entry| entry.unwrap().path()));
    documents.retain(|path| path.extension().is_some_and(|kind| kind == "md"));
    let mut links = 0;
    for document in documents {
        let text = fs::read_to_string(&document).unwrap();
        for rest in text.split("](").skip(1) {
            let target = rest.split([')', '#']).next().unwrap();
            if target.is_empty() || target.contains("://") {
                continue;
            }
            let path = document.parent().unwrap().join(target);
            assert!(path.exists(), "{} links to {target}", document.display());
            links += 1;
        }
    }
    assert!(links >= 5, "there are links");
}

/// What a source file uses of the crate: the rooms after `crate::`.
fn rooms_of(source: &str) -> BTreeSet<String> {
    let word = |text: &str| text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    let mut rooms = BTreeSet::new();
    for (at, found) in source.match_indices("crate::") {
        let rest = &source[at + found.len()..];
        let Some(list) = rest.strip_prefix('{') else {
            rooms.insert(word(rest));
            continue;
        };
        let (mut depth, mut is_first) = (1, true);
        for (at, c) in list.char_indices() {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                ',' if depth == 1 => is_first = true,
                _ if depth == 1 && is_first && c.is_alphabetic() => {
                    rooms.insert(word(&list[at..]));
                    is_first = false;
                }
                _ => {}
            }
            if depth == 0 {
                break;
            }
        }
    }
    rooms
}

/// The sources of a room, without its tests.
fn sources(path: &Path) -> Vec<String> {
    if path.is_file() {
        let text = fs::read_to_string(path).unwrap_or_default();
        let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        return vec![code.into()];
    }
    let entries = fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path());
    let is_code = |path: &std::path::PathBuf| path.file_stem().is_some_and(|stem| stem != "tests");
    entries.filter(is_code).flat_map(|path| sources(&path)).collect()
}

/// The arrows of the architecture are those of the code, no more and no less.
#[test]
fn each_room_knows_of_what_the_architecture_says() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let table = include_str!("../docs/architecture.md");
    let mut told = BTreeSet::new();
    for line in table.lines().filter(|line| line.starts_with("| `src/")) {
        let cells: Vec<_> = line.split('|').map(str::trim).collect();
        let name = cells[1].trim_matches('`');
        let may: BTreeSet<_> = cells[3].split('`').skip(1).step_by(2).map(str::to_owned).collect();
        let own = name.trim_start_matches("src/").trim_end_matches(['/']).trim_end_matches(".rs");
        let mut does: BTreeSet<_> =
            sources(&root.join(name)).iter().flat_map(|source| rooms_of(source)).collect();
        does.remove(own);
        // Only tests know of chance.
        does.remove("chance");
        assert_eq!(does, may, "{name}");
        told.insert(own.to_owned());
    }
    let library = include_str!("../src/lib.rs");
    let rooms = library.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';'));
    assert_eq!(told, rooms.map(str::to_owned).collect());
}
