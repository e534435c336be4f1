//! `derive`: prints an output of a key, or hands it to a command.

use std::{
    io::{self, IsTerminal as _, Write as _},
    os::unix::process::ExitStatusExt as _,
    path::PathBuf,
    process::{Command, Stdio},
};

use clap::Args;
use serde::de::{DeserializeOwned, IntoDeserializer as _, value::Error as Unknown};
use zeroize::Zeroizing;

use super::admin::{self, KeyArgs};
use crate::{
    apply::{Run, unseal},
    error::{Class, Error, Result},
    plan::Goal,
    secret::{Algorithm, Alphabet, CharClass, Format, Recipe},
    system::memory,
};

#[derive(Args)]
pub(super) struct DeriveArgs {
    #[command(flatten)]
    key: KeyArgs,
    /// The use label: as the `use` of a secret, and as cryptkey's
    #[arg(long = "use", value_name = "LABEL")]
    usage: String,
    /// How many bytes to derive, before they are written in the format; how many characters, for a
    /// password
    #[arg(long, value_name = "BYTES", default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..=1024))]
    length: u16,
    /// How to write them, as the `format` of a secret
    #[arg(long, default_value_t = Format::Raw, value_parser = named::<Format>)]
    format: Format,
    /// Which kind of key, with format pem
    #[arg(long, default_value = "ed25519", value_parser = named::<Algorithm>)]
    algorithm: Algorithm,
    /// The characters of a password; by default letters and digits
    #[arg(long, value_name = "CHARACTERS", value_parser = alphabet)]
    alphabet: Option<Alphabet>,
    /// The classes of which a password has a character each: upper, lower, digit, symbol
    #[arg(long = "class", value_name = "CLASS", value_parser = named::<CharClass>)]
    classes: Vec<CharClass>,
    /// Ends them with a line feed
    #[arg(long)]
    newline: bool,
    /// Opens this profile in place of the key's own: a backup, or one from before a rotation
    #[arg(long, value_name = "FILE")]
    profile: Option<PathBuf>,
    /// Runs this command with the output as its standard input, in place of printing it
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<String>,
}

/// A value by the name that it has in a spec.
fn named<T: DeserializeOwned>(name: &str) -> std::result::Result<T, String> {
    T::deserialize(name.into_deserializer()).map_err(|error: Unknown| error.to_string())
}

fn alphabet(characters: &str) -> std::result::Result<Alphabet, String> {
    characters.to_owned().try_into()
}

/// Returns the exit code: the command's, where there is one.
pub(super) fn run(args: &DeriveArgs) -> Result<u8> {
    if args.format == Format::Raw && args.command.is_empty() && io::stdout().is_terminal() {
        return Err(Error::new(
            Class::Spec,
            format!("key {}: printing an output", args.key.key),
            "raw bytes would garble the terminal",
            "Take another --format, or send them elsewhere.",
        ));
    }
    let output = args.derive()?;
    memory::wipe_stack();
    match args.command.split_first() {
        Some((program, words)) => hand_over(Command::new(program).args(words), &output),
        None => admin::print_secret(&output).map(|()| 0),
    }
}

impl DeriveArgs {
    /// The output, as it is printed. Card, lock and key are let go of.
    #[inline(never)]
    fn derive(&self) -> Result<Zeroizing<Vec<u8>>> {
        let (spec, key) = self.key.load()?;
        let elsewhere = admin::elsewhere(self.profile.as_deref())?;
        let mut run = Run::default();
        let name = &*self.key.key;
        let goal = |_: &_| Ok(Goal::Open([].into()));
        let unsealed = unseal(&mut run, &spec, name, &key, elsewhere, goal)?;
        let recipe = Recipe {
            usage: &self.usage,
            format: self.format,
            length: self.length.into(),
            newline: self.newline,
            algorithm: self.algorithm,
            alphabet: self.alphabet.as_ref(),
            classes: &self.classes,
        };
        Ok(recipe.make(unsealed.opened()?)?.content)
    }
}

/// Runs the command with `output` as its standard input. Returns its exit code; of one that a signal
/// ended, what a shell makes of that.
fn hand_over(command: &mut Command, output: &[u8]) -> Result<u8> {
    let program = command.get_program().to_string_lossy().into_owned();
    let failed = |error: io::Error| {
        Error::new(
            Class::Spec,
            format!("running {program}"),
            error.to_string(),
            "Give a command that is there and can be run, with its arguments, after `--`.",
        )
    };
    let mut child = command.stdin(Stdio::piped()).spawn().map_err(failed)?;
    if let Some(mut stdin) = child.stdin.take() {
        match stdin.write_all(output) {
            // It may want none of it.
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => return Err(failed(error)),
            _ => {}
        }
    }
    let status = child.wait().map_err(failed)?;
    let code = status.code().or_else(|| Some(128 + status.signal()?));
    Ok(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1))
}
