//! What the campaign disturbs: the flows, from where each begins to what must stand at its end.

use std::fs;

use serde_json::json;

use crate::{
    bench::Bench,
    support::{TestCard, Yubikey},
};

/// What a flow is.
pub struct Flow {
    pub name: &'static str,
    /// Brings the machine to where it begins.
    pub prepare: fn(&mut Bench),
    /// The command.
    pub args: &'static [&'static str],
    /// How often the card makes a key, from where it begins to the end of the next run.
    pub generates: usize,
    /// What becomes of the profile that is there.
    pub profile: Fate,
    /// The exit codes of an undisturbed run, and of one after it.
    pub codes: [i32; 2],
    /// The PIN's tries at the end, of three.
    pub tries: u64,
}

/// What becomes of a profile.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    Stays,
    /// It is kept, and one that yields the same secrets takes its place.
    Resealed,
    /// It is kept, and one that yields others takes its place.
    GivenUp,
}

/// What most flows are like.
const QUIET: Flow = Flow {
    name: "",
    prepare: |_| {},
    args: &["apply"],
    generates: 0,
    profile: Fate::Stays,
    codes: [0, 0],
    tries: 3,
};

pub const ENROLL: Flow = Flow {
    name: "enroll",
    prepare: |bench| {
        bench.start_over();
        bench.declare(OLD);
    },
    generates: 1,
    ..QUIET
};

/// The same where the card has to attest its key.
pub const ATTESTED: Flow = Flow {
    name: "enroll, attested",
    prepare: |bench| {
        bench.start_over();
        let roots = [bench.card.root_file(&bench.machine)];
        bench.extra["attestation"] = json!({ "policy": "required", "roots": roots });
        bench.declare(OLD);
    },
    ..ENROLL
};

pub const VERIFY: Flow = Flow { name: "verify", prepare: |bench| bench.enrolled(OLD), ..QUIET };

/// A boot.
pub const PUBLISH: Flow = Flow {
    name: "publish",
    prepare: |bench| {
        bench.enrolled(OLD);
        bench.empty_ram();
    },
    ..QUIET
};

pub const CHANGE: Flow = Flow {
    name: "publish over another set",
    prepare: |bench| {
        bench.enrolled(OLD);
        bench.declare(NEW);
    },
    ..QUIET
};

pub const SCRUB: Flow =
    Flow { name: "scrub", prepare: |bench| bench.enrolled(OLD), args: &["scrub"], ..QUIET };

pub const STATUS: Flow =
    Flow { name: "status", prepare: |bench| bench.enrolled(OLD), args: &["status"], ..QUIET };

/// The card and the file have a new PIN: it is recorded before it is presented.
pub const NEW_PIN: Flow = Flow {
    name: "a new PIN",
    prepare: |bench| {
        bench.enrolled(OLD);
        bench.change_pin();
        bench.declare(OLD);
    },
    ..QUIET
};

pub const WRONG_PIN: Flow = Flow {
    name: "a wrong PIN",
    prepare: |bench| {
        bench.declare(OLD);
        bench.machine.run(&["pin", "forget", "--card", Yubikey::SERIAL]).exits(0);
        // The first gives the card its tries back.
        bench.enrolled(OLD);
        bench.enrolled(OLD);
        bench.declare_with(OLD, WRONG);
    },
    // Rejected, and from then on not presented.
    codes: [15, 14],
    tries: 2,
    ..QUIET
};

/// A boot at which a person types the PIN; the last flow of its bench.
pub const TYPED_PIN: Flow = Flow {
    name: "a PIN that a person types",
    prepare: |bench| {
        bench.enrolled(OLD);
        bench.empty_ram();
        bench.extra["pin"] = json!({ "ask": true });
        bench.declare(OLD);
    },
    ..QUIET
};

/// Somebody made another key in the slot: it is seen before the PIN is presented.
pub const CHANGED_KEY: Flow = Flow {
    name: "another key in the slot",
    prepare: |bench| {
        bench.enrolled(OLD);
        bench.change_key();
    },
    codes: [16, 16],
    ..QUIET
};

/// The card's answer to the key agreement is not the one that it gave at enrollment.
pub const WRONG_ANSWER: Flow = Flow {
    name: "a wrong answer of the card",
    prepare: |bench| {
        bench.enrolled(OLD);
        bench.card.tell("fault ins 87 nth 1 flip 10 01");
    },
    codes: [17, 0],
    ..QUIET
};

/// The profile opens, and then is not what was sealed.
pub const DAMAGED: Flow = Flow {
    name: "a damaged profile",
    prepare: |bench| {
        bench.enrolled(OLD);
        bench.damage(bench.machine.profile("vault"), |text| {
            let (before, after) = text.split_once("integrity = \"").unwrap();
            let digit = if after.starts_with('0') { "1" } else { "0" };
            format!("{before}integrity = \"{digit}{}", &after[1..])
        });
    },
    codes: [17, 17],
    ..QUIET
};

/// Something is in the way of the secrets; the last flow of its bench.
pub const REFUSED: Flow = Flow {
    name: "a refused publish",
    prepare: |bench| {
        bench.enrolled(OLD);
        let path = bench.machine.runtime.join("vault");
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        fs::write(path.join("file"), "mine").unwrap();
    },
    codes: [20, 20],
    ..QUIET
};

/// The key in the slot, which nothing hangs on, is destroyed for a new one.
pub const OVERWRITE: Flow = Flow {
    name: "overwrite",
    prepare: |bench| {
        bench.empty_disk();
        bench.enrolled(OLD);
        bench.empty_disk();
        bench.overwriting(false);
    },
    generates: 1,
    ..QUIET
};

/// The same where a profile hangs on the key, which another card opens, too.
pub const RESEAL: Flow = Flow {
    name: "overwrite that another card makes up for",
    prepare: |bench| {
        bench.shared(OLD);
        bench.overwriting(false);
    },
    generates: 1,
    profile: Fate::Resealed,
    ..QUIET
};

/// The same where the profile hangs on the key alone, and is given up.
pub const ABANDON: Flow = Flow {
    name: "overwrite that gives a profile up",
    prepare: |bench| {
        bench.empty_disk();
        bench.enrolled(OLD);
        bench.overwriting(true);
    },
    generates: 1,
    profile: Fate::GivenUp,
    ..QUIET
};

/// A recovery code is taken out of the profile.
pub const REMOVE: Flow = Flow {
    name: "provider remove",
    prepare: |bench| {
        bench.with_code();
        bench.enrolled(OLD);
    },
    args: &["provider", "remove", "--key", "vault", "recovery-1"],
    profile: Fate::Resealed,
    // The second finds none of that id.
    codes: [0, 10],
    ..QUIET
};

/// The key is shared anew, without the recovery code.
pub const RESHARE: Flow = Flow {
    name: "reseal",
    args: &["reseal", "--key", "vault", "--threshold", "1", "--without", "recovery-1"],
    ..REMOVE
};

/// A PIN that the card does not have.
pub const WRONG: &str = "583920";

/// A set of secrets: name and use.
pub type Set = &'static [(&'static str, &'static str)];

/// A set, and one that keeps a secret, adds one, changes one and removes one.
pub const OLD: Set = &[("a", "one"), ("b", "two"), ("c", "three")];
pub const NEW: Set = &[("a", "one"), ("b", "five"), ("d", "four")];

/// Every use of a set.
pub const USES: [&str; 5] = ["one", "two", "three", "four", "five"];
