//! What is run in a machine that is on, and what its systemd and its journal tell.

use virtual_card::PATIENCE;

use super::{Machine, run::Output};

impl Machine {
    /// Runs a command in the machine, as root, to its end.
    #[track_caller]
    pub fn run(&self, args: &[&str]) -> Output {
        self.ask(args).0
    }

    /// Runs a command as a service of a user, which is how polkit sees it.
    #[track_caller]
    pub fn run_as(&self, user: &str, args: &[&str]) -> Output {
        let user = format!("--property=User={user}");
        let service = ["systemd-run", "--quiet", "--pipe", "--wait", "--collect", &user];
        self.run(&[&service, args].concat())
    }

    /// `systemctl`, which waits for the end of what it starts.
    #[track_caller]
    pub fn systemctl(&self, args: &[&str]) -> Output {
        self.run(&[&["systemctl"], args].concat())
    }

    /// A property of a unit.
    #[track_caller]
    pub fn show(&self, unit: &str, property: &str) -> String {
        let property = format!("--property={property}");
        self.systemctl(&["show", "--value", &property, unit]).exits(0).stdout.trim().into()
    }

    /// `active`, `failed`, `inactive`, `activating` and so on.
    #[track_caller]
    pub fn state(&self, unit: &str) -> String {
        self.show(unit, "ActiveState")
    }

    /// That a unit is in a state; with its journal where it is not.
    #[track_caller]
    pub fn expect(&self, unit: &str, state: &str) {
        let found = self.state(unit);
        assert_eq!(found, state, "{unit}:\n{}", self.journal(unit));
    }

    /// That the journal of this boot has all of this of a unit.
    #[track_caller]
    pub fn says(&self, unit: &str, parts: &[&str]) {
        let journal = self.journal(unit);
        for part in parts {
            assert!(journal.contains(part), "no {part:?} in the journal of {unit}:\n{journal}");
        }
    }

    /// What the journal of this boot has of a unit.
    #[track_caller]
    pub fn journal(&self, unit: &str) -> String {
        self.run(&["journalctl", "--boot", "--output=cat", "--unit", unit]).exits(0).stdout
    }

    /// Waits until the journal of this boot has a line with `part` in it of a unit.
    #[track_caller]
    pub fn wait_for(&self, unit: &str, part: &str) {
        self.wait_for_times(unit, part, 1);
    }

    /// The same for so many such lines.
    #[track_caller]
    pub fn wait_for_times(&self, unit: &str, part: &str, times: usize) {
        let follow = "exec 4< <(exec journalctl --boot --follow --lines=all --output=cat --unit \"$0\")
                      grep --max-count=\"$2\" --fixed-strings -- \"$1\" <&4 >/dev/null; code=$?; kill $!; exit $code";
        let (limit, times) = ((PATIENCE.as_secs() - 10).to_string(), times.to_string());
        self.run(&["timeout", &limit, "bash", "-c", follow, unit, part, &times]).exits(0);
    }

    #[track_caller]
    pub(super) fn ask(&self, args: &[&str]) -> (Output, Vec<u8>) {
        let on = self.on.as_ref().expect("it is off");
        let answer = on.wire.borrow_mut().run(args);
        answer.unwrap_or_else(|e| panic!("{args:?}: {e}"))
    }
}
