//! Runs a private pcscd with a virtual card in its reader, until standard input ends.
//!
//! `with-card STATE [OPTION OF virtual-card]...` prints, once the card is there, the line to source
//! in a shell whose programs shall see it. Ctrl-D ends it; so does the end of the program that
//! started it, however it ends, and nothing of it is left but STATE.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::{env, fs};

use virtual_card::stack::{Pcscd, Server};

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("with-card: {e}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> io::Result<()> {
    let mut arguments = env::args().skip(1);
    let state = arguments
        .next()
        .ok_or_else(|| io::Error::other("usage: with-card STATE [OPTION OF virtual-card]..."))?;
    let options: Vec<String> = arguments.collect();
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    fs::create_dir_all(&state)?;

    let pcscd = Pcscd::start(1)?;
    let _card = Server::start(&card_program()?, &pcscd, 0, state.as_ref(), &options)?;
    let mut out = io::stdout();
    writeln!(out, "export PCSCLITE_CSOCK_NAME={}", pcscd.socket().display())?;
    out.flush()?;

    io::copy(&mut io::stdin(), &mut io::sink())?;
    Ok(())
}

/// `virtual-card`, which `cargo build -p virtual-card` puts beside the directory of the examples.
fn card_program() -> io::Result<PathBuf> {
    if let Some(program) = env::var_os("CRYPTKEY_VIRTUAL_CARD") {
        return Ok(program.into());
    }
    let program = env::current_exe()?.with_file_name("../virtual-card");
    if program.exists() {
        return Ok(program);
    }
    Err(io::Error::other("virtual-card is missing: cargo build -p virtual-card"))
}
