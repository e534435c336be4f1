//! `docs/recipes.md` and `docs/recovery.md`: the modules that they show, and what is typed and seen.
//! And the modules of `docs/fleet.md`.

// Each test takes what it needs.
#![allow(dead_code)]

use std::{
    collections::{BTreeSet, VecDeque},
    fs, mem,
    path::Path,
    thread,
};

const RECIPES: &str = include_str!("../../docs/recipes.md");
const RECOVERY: &str = include_str!("../../docs/recovery.md");
const FLEET: &str = include_str!("../../docs/fleet.md");
/// A line of output in the place of others.
const LEFT_OUT: &str = "…";

/// Puts all recipes into a directory, under the names that they begin with; and what the page on
/// recovery has beside them.
pub fn extract(directory: &Path) {
    extract_from(RECIPES, directory);
    extract_from(RECOVERY, directory);
}

/// The names of the recipes, without suffix.
pub fn names() -> Vec<String> {
    names_in(RECIPES)
}

/// Puts the flake of the fleet and all that belongs to it into a directory.
pub fn extract_fleet(directory: &Path) {
    extract_from(FLEET, directory);
}

/// The names of the fleet's hosts.
pub fn hosts() -> Vec<String> {
    let names = names_in(FLEET);
    names.iter().filter_map(|name| name.strip_prefix("hosts/")).map(str::to_owned).collect()
}

fn extract_from(document: &str, directory: &Path) {
    for (_, text) in blocks(document, "nix") {
        let file = directory.join(name(&text)).with_extension("nix");
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, &text).unwrap();
    }
}

fn names_in(document: &str) -> Vec<String> {
    let modules = blocks(document, "nix").into_iter();
    modules.map(|(_, text)| name(&text).to_owned()).collect()
}

/// What is typed below a heading; all of it has to be typed.
pub struct Recipe(VecDeque<Session>);

impl Recipe {
    pub fn new(heading: &str) -> Self {
        Self::of(RECIPES, heading)
    }

    fn of(document: &str, heading: &str) -> Self {
        let sessions = blocks(document, "console").into_iter();
        let sessions = sessions.filter(|(above, _)| above == heading);
        let sessions: VecDeque<_> = sessions.map(|(_, text)| Session(text)).collect();
        assert!(!sessions.is_empty(), "nothing is typed below {heading:?}");
        Self(sessions)
    }

    /// What is typed next.
    #[track_caller]
    pub fn session(&mut self) -> Session {
        self.0.pop_front().expect("something more to type")
    }
}

/// The page on recovery; below all of its headings something has to be typed that has it.
pub struct Recovery(BTreeSet<String>);

impl Recovery {
    pub fn new() -> Self {
        Self(blocks(RECOVERY, "console").into_iter().map(|(heading, _)| heading).collect())
    }

    /// What is typed below a heading.
    pub fn recipe(&mut self, heading: &str) -> Recipe {
        self.0.remove(heading);
        Recipe::of(RECOVERY, heading)
    }
}

impl Drop for Recovery {
    fn drop(&mut self) {
        assert!(thread::panicking() || self.0.is_empty(), "nobody typed {:?}", self.0);
    }
}

impl Drop for Recipe {
    fn drop(&mut self) {
        let left: Vec<_> = self.0.iter().map(|session| &session.0).collect();
        assert!(thread::panicking() || left.is_empty(), "nobody typed {left:#?}");
    }
}

/// Commands of root, each with what is seen then.
pub struct Session(String);

impl Session {
    /// Types it. `run` gives what a command of bash says, on both of its outputs.
    #[track_caller]
    pub fn type_in(&self, mut run: impl FnMut(&str) -> String) {
        for step in format!("\n{}", self.0).split("\n# ").skip(1) {
            let (command, documented) = step.split_once('\n').unwrap_or((step, ""));
            let seen = run(command);
            assert!(is_as_documented(documented, &seen), "# {command}\n{seen}--- not {documented}");
        }
    }
}

/// Whether there is what the document has, in whatever order: what several processes say at once has
/// none. Times, numbers and the like are other ones each time.
fn is_as_documented(documented: &str, seen: &str) -> bool {
    let lines = |text: &str| text.lines().map(without_numbers).collect::<Vec<_>>();
    let (mut wanted, mut seen) = (lines(documented), lines(seen));
    let is_all = !wanted.iter().any(|line| line.trim() == LEFT_OUT);
    wanted.retain(|line| line.trim() != LEFT_OUT);
    for line in wanted {
        let Some(at) = seen.iter().position(|found| *found == line) else { return false };
        seen.swap_remove(at);
    }
    !is_all || seen.is_empty()
}

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// A line with a sign in the place of each word that a number is in, or that is hex or base64, or a
/// month.
fn without_numbers(line: &str) -> String {
    let mut masked = String::new();
    let mut word = String::new();
    let mut left = line.trim_end().chars().chain(['\n']).peekable();
    while let Some(c) = left.next() {
        // The second file of a date has a number behind it: 2026-11-21T18:46:24Z.2
        let is_numbered = c == '.'
            && word.contains(|c: char| c.is_ascii_digit())
            && left.peek().is_some_and(char::is_ascii_digit);
        if c.is_ascii_alphanumeric() || "+/=".contains(c) || is_numbered {
            word.push(c);
            continue;
        }
        let word = mem::take(&mut word);
        let is_hex = word.len() >= 8 && word.chars().all(|c| c.is_ascii_hexdigit());
        let is_month = MONTHS.contains(&&*word);
        let has_digit = word.contains(|c: char| c.is_ascii_digit());
        let is_number = is_hex || is_month || word.len() >= 40 || has_digit;
        masked.push_str(if is_number { "#" } else { &word });
        // Before a day of one digit there is another blank.
        if c != ' ' || !masked.ends_with(' ') {
            masked.push(c);
        }
    }
    masked
}

/// The blocks of a language in a document, each with the heading above it.
fn blocks(document: &str, language: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut heading = "";
    let mut block: Option<(bool, String)> = None;
    for line in document.lines() {
        match (&mut block, line.strip_prefix("```")) {
            (None, Some(found)) => block = Some((found == language, String::new())),
            (None, None) if line.starts_with('#') => heading = line.trim_start_matches(['#', ' ']),
            (None, None) => {}
            (Some((_, text)), None) => {
                text.push_str(line);
                text.push('\n');
            }
            (Some((is_wanted, text)), Some(_)) => {
                if *is_wanted {
                    found.push((heading.to_owned(), mem::take(text)));
                }
                block = None;
            }
        }
    }
    found
}

/// What a module begins with: `# NAME.nix`. Without the suffix.
fn name(module: &str) -> &str {
    let first = module.lines().next().unwrap();
    let name = first.strip_prefix("# ").and_then(|name| name.strip_suffix(".nix"));
    name.unwrap_or_else(|| panic!("it does not begin with its name:\n{module}"))
}

#[test]
fn other_output_is_not_as_documented() {
    let seen = "snapshot f1e60bc1 saved\nFinished.\n";
    assert!(is_as_documented("snapshot 85462c78 saved\nFinished.\n", seen));
    assert!(is_as_documented("Finished.\nsnapshot 85462c78 saved\n", seen));
    assert!(is_as_documented("…\nFinished.\n", seen));
    assert!(is_as_documented("root 27 Nov 21 10:58 x\n", "root 27 Dec  1 00:03 x\n"));
    for other in ["", "Finished.\n", "snapshot 85462c78 lost\nFinished.\n", "…\nStarted.\n"] {
        assert!(!is_as_documented(other, seen), "{other}");
    }
}
