//! Parses the command line, runs it, and maps the error to an exit code: nothing else.

use std::process::ExitCode;

use clap::Parser;
use cryptkey::cli::{Cli, run};

fn main() -> ExitCode {
    ExitCode::from(run(&Cli::parse()))
}
