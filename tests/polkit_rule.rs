//! What the polkit rule says, asked of Duktape, which is polkit's own engine: it answers yes for the
//! listed and the two actions, and nothing otherwise, whatever the names are.

#![allow(clippy::unwrap_used)]

#[path = "support/chance.rs"]
mod chance;

use std::{fs, process::Command, slice};

use chance::runner;
use cryptkey::{
    polkit::render,
    spec::{Pcsc, read},
};
use expect_test::expect;
use proptest::{prelude::*, sample::select, strategy::ValueTree};
use serde_json::{Value, json};
use tempfile::TempDir;

/// The actions that the rule is about.
const ACTIONS: [&str; 2] = ["org.debian.pcsc-lite.access_pcsc", "org.debian.pcsc-lite.access_card"];
/// As many as that are asked of one Duktape, which takes a few seconds.
const CASES: usize = 3000;

/// Names that want to be something else than a name, or are looked up where they should not be.
const STRANGE: [&str; 33] = [
    "alice",
    "Alice",
    "root",
    "1000",
    "0",
    " ",
    "Zoë",
    "用户",
    "\u{2028}",
    "a\u{2029}b",
    "\u{feff}",
    "\u{202e}",
    "\"",
    "'",
    "\\",
    "\\\"",
    "\\u0022",
    "\"]; canary = 1; [\"",
    "\\\"]; canary = 1; //",
    "*/ canary = 1; /*",
    "//",
    "</script>",
    "<!--",
    "${canary = 1}",
    "@USERS@",
    "@GROUPS@",
    "USERS",
    "@",
    "__proto__",
    "constructor",
    "length",
    "undefined",
    "]",
];

#[derive(Clone, Debug)]
struct Case {
    users: Vec<String>,
    groups: Vec<String>,
    action: String,
    user: String,
    memberships: Vec<String>,
}

impl Case {
    fn pcsc(&self) -> Pcsc {
        let spec = json!({ "version": 1, "keys": {}, "pcsc": { "users": self.users, "groups": self.groups } });
        read(&spec.to_string()).unwrap().pcsc
    }

    fn is_listed(&self) -> bool {
        self.users.contains(&self.user)
            || self.groups.iter().any(|group| self.memberships.contains(group))
    }

    fn answer(&self) -> &'static str {
        if ACTIONS.contains(&self.action.as_str()) && self.is_listed() {
            "yes"
        } else {
            "undefined"
        }
    }
}

fn name() -> impl Strategy<Value = String> {
    let strange = || select(&STRANGE[..]).prop_map(String::from);
    let any = "[^\\p{Cc}\\u{10000}-\\u{10ffff}]{1,12}";
    let script =
        r#"["'\\\[\]{}();/*<>@\n\u2028\u2029a=,]{1,8}"#.prop_map(|text| text.replace('\n', " "));
    prop_oneof![
        4 => strange(),
        1 => (strange(), strange()).prop_map(|(one, other)| one + &other),
        2 => any,
        2 => script,
    ]
}

fn action() -> impl Strategy<Value = String> {
    let other = vec![
        "org.freedesktop.systemd1.manage-units",
        "org.debian.pcsc-lite.access_pcsc2",
        "org.debian.pcsc-lite.access_",
        "org.debian.pcsc-lite",
        "ORG.DEBIAN.PCSC-LITE.ACCESS_CARD",
        "",
    ];
    prop_oneof![
        4 => select(&ACTIONS[..]),
        1 => select(other),
    ]
    .prop_map(String::from)
}

/// About half of the subjects are listed.
fn case() -> impl Strategy<Value = Case> {
    let lists = (prop::collection::vec(name(), 0..4), prop::collection::vec(name(), 0..4));
    let subject = (name(), prop::collection::vec(name(), 0..4), 0..6, any::<prop::sample::Index>());
    (lists, subject, action()).prop_map(|((users, groups), subject, action)| {
        let (mut user, mut memberships, kind, index) = subject;
        match kind {
            0 if !users.is_empty() => user.clone_from(index.get(&users)),
            1 if !groups.is_empty() => memberships.push(index.get(&groups).clone()),
            // The wrong list.
            2 if !groups.is_empty() => user.clone_from(index.get(&groups)),
            3 if !users.is_empty() => memberships.push(index.get(&users).clone()),
            _ => {}
        }
        Case { users, groups, action, user, memberships }
    })
}

/// A value as a script, all ASCII: not by the encoder of the rule.
fn script(value: &Value) -> String {
    let escape = |c: char| {
        let escape = |unit: &mut u16| format!("\\u{unit:04x}");
        if c.is_ascii() {
            c.to_string()
        } else {
            c.encode_utf16(&mut [0; 2]).iter_mut().map(escape).collect()
        }
    };
    value.to_string().chars().map(escape).collect()
}

/// What polkitd gives to rules, and what looks at the answers.
const HARNESS: &str = r#"
    var rules = [], asked = 0;
    var polkit = {
        addRule: function (rule) { rules.push(rule); },
        Result: { NO: "no", YES: "yes", AUTH_SELF: "auth_self", NOT_HANDLED: null }
    };
    function Subject(user, groups) {
        this.user = user;
        this.groups = groups;
        // As in polkit's init.js.
        this.isInGroup = function (group) {
            for (var n = 0; n < this.groups.length; n++) {
                if (this.groups[n] == group) return true;
            }
            return false;
        };
    }
    function ask(action, user, groups, expected) {
        if (rules.length !== 1) throw new Error(rules.length + " rules");
        var answer = String(rules.pop()({ id: action }, new Subject(user, groups)));
        if (answer !== expected) throw new Error(answer + " instead of " + expected);
        asked++;
    }
    function globals() { return Object.getOwnPropertyNames(this).sort().join(); }
    var before = globals();
"#;
const END: &str = r#"
    if (globals() !== before) throw new Error("globals: " + globals());
    if (Object.keys(polkit.Result).length !== 4) throw new Error("polkit was changed");
    print("asked " + asked);
"#;

/// Runs the rules in one Duktape, each a script of its own as in polkitd. Gives what it printed.
fn ask(cases: &[Case]) -> String {
    let dir = TempDir::new().unwrap();
    let mut scripts = vec!["harness.js".to_owned()];
    let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
    write("harness.js", HARNESS);
    for (index, case) in cases.iter().enumerate() {
        let (rule, question) = (format!("{index}.rules"), format!("{index}.js"));
        let Case { action, user, memberships, .. } = case;
        write(&rule, &render(&case.pcsc()));
        let arguments = script(&json!([action, user, memberships, case.answer()]));
        write(&question, &format!("ask.apply(null, {arguments});"));
        scripts.extend([rule, question]);
    }
    write("end.js", END);
    scripts.push("end.js".into());
    let output = Command::new("duk").args(scripts).current_dir(dir.path()).output();
    // Not there? It is the package duktape.
    let output = output.unwrap();
    let text = [output.stdout, output.stderr].concat();
    String::from_utf8_lossy(&text).into_owned()
}

#[track_caller]
fn are_answered_right(cases: &[Case]) {
    let said = ask(cases);
    if said != format!("asked {}\n", cases.len()) {
        let wrong = cases.iter().find(|case| ask(slice::from_ref(case)) != "asked 1\n");
        panic!("{said}{wrong:#?}");
    }
}

#[test]
fn members_are_answered_and_nobody_else() {
    let mut runner = runner("members");
    let cases: Vec<_> =
        (0..CASES).map(|_| case().new_tree(&mut runner).unwrap().current()).collect();
    let yes = cases.iter().filter(|case| case.answer() == "yes").count();
    assert!((CASES / 10..CASES / 10 * 9).contains(&yes), "{yes} of {CASES}");
    are_answered_right(&cases);
}

/// Each strange name is itself, as a user and as a group, and no other one.
#[test]
fn strange_names_are_only_names() {
    let pairs = STRANGE.iter().flat_map(|listed| STRANGE.map(|asked| (*listed, asked)));
    let cases: Vec<_> = pairs
        .map(|(listed, asked)| Case {
            users: vec![listed.into()],
            groups: vec!["@USERS@".into(), listed.into()],
            action: ACTIONS[0].into(),
            user: asked.into(),
            memberships: vec![asked.into()],
        })
        .collect();
    are_answered_right(&cases);
}

#[test]
fn the_rule_of_three_names() {
    let text = r#"{"version": 1, "keys": {}, "pcsc": {"users": ["alice", "\"b\u2028\""], "groups": ["wheel"]}}"#;
    expect![[r#"
        // Lets users and members of groups reach smart cards and their readers: pcscd asks for both of
        // these actions. All else is left to the rules that come after this one.
        //
        // nixos-cryptkey makes this file of security.cryptkey.pcsc; what is changed here is lost.
        //
        // In its template, one word between at signs stands for each list. Both are replaced in one pass,
        // so that no name is taken for such a word, by a JSON array of strings. JSON is ECMAScript but for
        // U+2028 and U+2029, which end a line in ECMAScript 5: a name that has one needs it escaped, or is
        // refused beforehand.
        polkit.addRule(function (action, subject) {
          var users = ["alice","\"b\u2028\""];
          var groups = ["wheel"];

          if (
            action.id !== "org.debian.pcsc-lite.access_pcsc" &&
            action.id !== "org.debian.pcsc-lite.access_card"
          ) {
            return;
          }
          if (
            users.indexOf(subject.user) !== -1 ||
            groups.some(function (group) { return subject.isInGroup(group); })
          ) {
            return polkit.Result.YES;
          }
        });
    "#]].assert_eq(&render(&read(text).unwrap().pcsc));
}

/// Whoever puts the names into the template in one pass, as Nix does with replaceStrings, gets the
/// same for names of ordinary letters.
#[test]
fn the_template_has_two_placeholders() {
    let template = include_str!("../polkit/nixos-cryptkey.rules");
    let parts: Vec<_> = template.split('@').collect();
    assert_eq!((parts.len(), parts[1], parts[3]), (5, "USERS", "GROUPS"));
    assert!(template.is_ascii());
    let text = r#"{"version": 1, "keys": {}, "pcsc": {"users": ["alice", "bob"], "groups": []}}"#;
    let nix = template.replace("@USERS@", r#"["alice","bob"]"#).replace("@GROUPS@", "[]");
    assert_eq!(render(&read(text).unwrap().pcsc), nix);
}
