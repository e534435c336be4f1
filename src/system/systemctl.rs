//! Orders to systemd, through systemctl.

use std::{
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

/// Has systemd note the order for these units, and waits for nothing that comes of it. What systemd
/// refuses is its last word on it and a warning only: a unit that is not there, one that is being
/// stopped already.
///
/// # Errors
/// `Class::Internal` where systemd could not be asked; then some of it may be noted.
pub fn queue(order: Order, units: &[String]) -> Result<()> {
    if units.is_empty() {
        return Ok(());
    }
    let tried = format!("telling systemd: {} {}", order.verb(), units.join(" "));
    // Never against a job that is under way: what is being stopped is not started again.
    let args = [order.verb(), "--no-block", "--job-mode=fail", "--"];
    let output = run(&tried, args.iter().copied().chain(units.iter().map(String::as_str)))?;
    if output.status.success() {
        return Ok(());
    }
    let found = said(&output);
    // Whoever gives no answer to this has refused nothing.
    if run(&tried, ["show", "--property=Version"])?.status.success() {
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

/// What it complained of, in one line.
fn said(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<_> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    if lines.is_empty() { output.status.to_string() } else { lines.join("; ") }
}
