//! Orders to systemd, through systemctl.

use std::{
    collections::BTreeSet,
    env,
    process::{Command, Output, Stdio},
    time::Duration,
};

use super::bounded;
use crate::error::{Class, Error, Result};

const PROGRAM: &str = "systemctl";
/// systemd is asked to note something, and not to do it while we wait.
const LIMIT: Duration = Duration::from_secs(60);

/// What units that are active are to do. Those that are not stay as they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Restart.
    Restart,
    /// Reload, or restart where they can't.
    Reload,
}

impl Order {
    fn verb(self) -> &'static str {
        match self {
            Self::Restart => "try-restart",
            Self::Reload => "try-reload-or-restart",
        }
    }
}

/// Has systemd note the order for these units, and waits for nothing that comes of it. That a unit is
/// not there, is masked or is being stopped already is systemd's last word on it, and a warning only.
///
/// # Errors
/// `Class::Internal` where systemd could not be asked; then some of it may be noted.
pub fn queue(order: Order, units: &BTreeSet<String>) -> Result<()> {
    if units.is_empty() {
        return Ok(());
    }
    let names: Vec<_> = units.iter().map(String::as_str).collect();
    let tried = format!("telling systemd: {} {}", order.verb(), names.join(" "));
    // Never against a job that is under way: what is being stopped is not started again.
    let args = [order.verb(), "--no-block", "--job-mode=fail", "--"];
    let output = run(&tried, args.iter().copied().chain(names))?;
    if output.status.success() {
        return Ok(());
    }
    let found = said(&output);
    if is_last_word(&output) {
        let found = found.trim_end_matches('.');
        tracing::warn!("{tried}: {found}. What else is in the list is done.");
        return Ok(());
    }
    Err(Error::new(
        Class::Internal,
        tried,
        found,
        "See what systemd says (journalctl, systemctl status), then: nixos-cryptkey restart.",
    ))
}

/// Runs systemctl to its end.
fn run<'a>(tried: &str, args: impl IntoIterator<Item = &'a str>) -> Result<Output> {
    let mut command = Command::new(PROGRAM);
    command.args(args).stdin(Stdio::null());
    let output = bounded(LIMIT, move || command.output());
    let found = match output {
        Some(Ok(output)) => return Ok(output),
        Some(Err(error)) => {
            let path = env::var("PATH").unwrap_or_default();
            format!("{PROGRAM} can't be started: {error} (PATH={path})")
        }
        None => format!("{PROGRAM} did not end within {} s", LIMIT.as_secs()),
    };
    let advice = "See that systemd runs and that its programs are in the PATH, then: nixos-cryptkey \
                  restart.";
    Err(Error::new(Class::Internal, tried, found, advice))
}

/// Whether no unit would ever get the order, as far as each complaint tells. A connection that broke, or
/// a conflict with another unit's job, may be over the next time.
fn is_last_word(output: &Output) -> bool {
    let text = String::from_utf8_lossy(&output.stderr);
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let mut complaints = lines.filter(|line| !line.starts_with("See ")).peekable();
    complaints.peek().is_some() && complaints.all(is_refusal)
}

fn is_refusal(complaint: &str) -> bool {
    // "Transaction for UNIT/restart is destructive (UNIT has 'stop' job queued, but …)."
    let stops = complaint.split_once("Transaction for ").and_then(|(_, rest)| {
        let (unit, rest) = rest.split_once('/')?;
        Some(rest.contains(&format!("({unit} has 'stop' job queued")))
    });
    stops.unwrap_or_else(|| {
        let complaint = complaint.trim_end_matches('.');
        ["not found", "not loaded", "is masked"].iter().any(|end| complaint.ends_with(end))
    })
}

/// What it complained of, in one line.
fn said(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<_> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    if lines.is_empty() { output.status.to_string() } else { lines.join("; ") }
}

#[cfg(test)]
mod tests {
    use super::is_refusal;

    #[test]
    fn what_may_be_over_the_next_time_is_no_refusal() {
        for last in [
            "Failed to try-restart a.service: Unit a.service not found.",
            "Failed to try-restart a.service: Unit a.service is masked.",
            "Failed to try-restart a.service: Transaction for a.service/restart is destructive \
             (a.service has 'stop' job queued, but 'restart' is included in transaction).",
        ] {
            assert!(is_refusal(last), "{last}");
        }
        for passing in [
            "Failed to try-restart a.service: Connection reset by peer",
            "Failed to connect to bus: No such file or directory",
            "Failed to try-restart a.service: Transaction for a.service/restart is destructive \
             (b.service has 'stop' job queued, but 'start' is included in transaction).",
        ] {
            assert!(!is_refusal(passing), "{passing}");
        }
    }
}
