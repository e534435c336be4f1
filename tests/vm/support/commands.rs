//! What is run in a machine that is on, and what its systemd and its journal tell.

use std::process::Command;

use virtual_card::PATIENCE;

use super::{
    Container,
    run::{Output, Running},
};

/// Where units find programs, as on Debian.
const SEARCH_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const DIES_WITH_ITS_PARENT: [&str; 3] = ["setpriv", "--pdeathsig", "KILL"];

impl Container {
    /// A command in the machine, as root.
    pub fn command(&self, args: &[&str]) -> Command {
        let leader = self.leader.expect("it is off").to_string();
        let mut command = Command::new("timeout");
        command.arg(PATIENCE.as_secs().to_string());
        // Killing the outermost ends all.
        command.args(DIES_WITH_ITS_PARENT).args(["nsenter", "--all", "--target", &leader]);
        command.args(DIES_WITH_ITS_PARENT).args(["env", "--ignore-environment", SEARCH_PATH]);
        command.args(args);
        command
    }

    /// Runs it to its end.
    pub fn run(&self, args: &[&str]) -> Output {
        Running::start(self.command(args)).output()
    }

    /// Runs a command as a service of a user, which is how polkit sees it.
    pub fn run_as(&self, user: &str, args: &[&str]) -> Output {
        let user = format!("--property=User={user}");
        let service = ["systemd-run", "--quiet", "--pipe", "--wait", "--collect", &user];
        self.run(&[&service, args].concat())
    }

    /// `systemctl`, which waits for the end of what it starts.
    pub fn systemctl(&self, args: &[&str]) -> Output {
        self.run(&[&["systemctl"], args].concat())
    }

    /// A property of a unit.
    pub fn show(&self, unit: &str, property: &str) -> String {
        let property = format!("--property={property}");
        self.systemctl(&["show", "--value", &property, unit]).exits(0).stdout.trim().into()
    }

    /// `active`, `failed`, `inactive`, `activating` and so on.
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
    pub fn journal(&self, unit: &str) -> String {
        self.sync_journal();
        self.run(&["journalctl", "--boot", "--output=cat", "--unit", unit]).exits(0).stdout
    }

    /// All that the journals of all boots hold, every field of every entry.
    pub fn whole_journal(&self) -> String {
        self.sync_journal();
        self.run(&["journalctl", "--all", "--output=export"]).exits(0).stdout
    }

    /// Waits until the journal has what was said before.
    fn sync_journal(&self) {
        self.run(&["journalctl", "--sync"]).exits(0);
    }

    /// Waits until the journal of this boot has a line with `part` in it of a unit.
    #[track_caller]
    pub fn wait_for(&self, unit: &str, part: &str) {
        // A run's lines are those of its standard error.
        let follow = "exec journalctl --boot --follow --lines=all --output=cat --unit \"$0\" >&2";
        Running::start(self.command(&["sh", "-c", follow, unit])).wait_for(part);
    }
}
