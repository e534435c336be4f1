//! The command line: one file per command, each a function from its arguments to what it prints.

mod admin;
mod apply;
mod cards;
mod changed;
mod check;
mod derive;
mod encrypt;
mod export;
mod import;
mod keep;
mod pin;
mod plan;
mod polkit;
mod provider;
mod public;
mod rename;
mod reseal;
mod restart;
mod rotate;
mod schema;
mod scrub;
mod status;
mod view;

use std::{
    fmt,
    io::{self, Write},
    path::PathBuf,
};

use clap::{ArgAction, Args, Parser, Subcommand};
use serde::Serialize;

use self::polkit::PolkitArgs;
use crate::{
    error::{Class, Error, Result},
    spec::{self, Key, Name, Spec},
    system::{log, memory, notify},
};

/// Secrets for services that only a smart card in the machine can unlock.
///
/// A spec (JSON) says which keys the machine should have and which secrets they give. `apply` finds
/// the card, enrolls it the first time and verifies it every time after, and writes the secrets to
/// a RAM file system. Only `apply`, `restart`, `scrub`, which removes the secrets again, `provider`,
/// `reseal`, `rotate`, `rename`, `import`, `pin forget` and `polkit` change anything.
#[derive(Parser)]
#[command(name = "nixos-cryptkey", version, max_term_width = 100, after_help = EXIT_CODES)]
pub struct Cli {
    /// Says more: once each step, twice each APDU too (never a secret)
    #[arg(short, long, global = true, action = ArgAction::Count)]
    verbose: u8,
    /// Prints JSON instead of text on standard output
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

const EXIT_CODES: &str = "\
Exit codes: 0 done (or skipped by softFail), 1 internal, 2 usage, 10 bad spec, 11 no card, 12 card \
busy, 13 no touch or answer, 14 PIN not presented, 15 PIN wrong, 16 key changed, 17 profile damaged \
or lost, 18 permission, 19 card failed, 20 not published, 21 \
wrong passphrase or recovery code. docs/exit-codes.md says what to do about each.";

#[derive(Subcommand)]
enum Command {
    /// Enroll or verify the keys of a spec, and publish their secrets
    ///
    /// A key that has a profile is opened again; one that has none is made, if the spec allows it. Where
    /// all that can be told without the card says that nothing would change, the card is not asked.
    /// All keys are tried; the exit code is that of the first that failed.
    Apply(apply::ApplyArgs),
    /// Find all faults of a spec; needs no card and no pcscd
    Check(SpecFile),
    /// Show what apply --always would do and why; changes nothing, spends no PIN try, waits for no card
    Plan(SpecArgs),
    /// Show the keys' profiles and providers, the cards and their PIN tries, and what is published
    Status(SpecArgs),
    /// Show every reader, its card and the keys in its slots; presents no PIN
    Cards,
    /// Have the units restarted that read a secret whose bytes have changed since
    ///
    /// Which units those are is in the spec. Those that are not active stay so. `apply` does it, too,
    /// unless it is told not to.
    Restart(SpecArgs),
    /// Remove the published secrets of the spec's keys
    Scrub(SpecArgs),
    /// The ways in of a key: cards, recovery codes, passphrases
    #[command(subcommand)]
    Provider(provider::ProviderCommand),
    /// Share a key anew among the providers that stay, with another threshold; no secret changes
    ///
    /// Opens all of them. What is left out opens the new profile no more.
    Reseal(reseal::ResealArgs),
    /// Make a new key with the same providers: every secret changes
    ///
    /// The one remedy where somebody may open an old copy of the profile. Asks for the key's name at the
    /// terminal, and opens all providers that stay. The old profile is kept, for what was encrypted with
    /// the old secrets.
    Rotate(rotate::RotateArgs),
    /// Give a key another name; no secret changes
    Rename(rename::RenameArgs),
    /// Print a key's sealed profile, for another machine or a backup; opens nothing
    Export(export::ExportArgs),
    /// Take a profile from cryptkey or from another machine; no secret changes
    ///
    /// One of cryptkey (version 1) becomes version 2, which opens only with the cards: all of its
    /// providers are opened for that.
    Import(import::ImportArgs),
    /// Print what may be shown to everybody: a key's age recipient, and its secrets' public halves
    ///
    /// It needs no card and opens nothing. What is not published at the moment comes from the state
    /// directory, and nothing proves it until the key is opened.
    Public(public::PublicArgs),
    /// Encrypt a secret that you choose to a key, as an age file; needs no card
    ///
    /// The file is for `secrets.NAME.file` of the configuration. profileId has to be declared: it says
    /// which recipient is the key's.
    Encrypt(encrypt::EncryptArgs),
    /// Open a key and print what an age file holds that is encrypted to it
    Decrypt(encrypt::DecryptArgs),
    /// Open a key and print an output, or hand it to a command on its standard input
    ///
    /// The exit code is the command's, where it was run.
    Derive(derive::DeriveArgs),
    /// What is remembered of cards' PINs
    #[command(subcommand)]
    Pin(pin::PinCommand),
    /// Let the users and groups that the spec lists reach cards and readers; needs no card
    ///
    /// Installs, changes or removes polkit's rule for it. pcscd asks polkit before anybody may use a
    /// card, where it is built to.
    Polkit(PolkitArgs),
    /// Print the JSON Schema of the spec
    Schema,
}

#[derive(Args)]
struct SpecFile {
    /// The spec (a JSON file); the NixOS module puts the machine's own at the default place
    #[arg(long, value_name = "FILE", default_value = spec::MACHINE)]
    spec: PathBuf,
}

#[derive(Args)]
struct SpecArgs {
    #[command(flatten)]
    file: SpecFile,
    /// Only this key; may be given several times
    #[arg(long = "key", value_name = "NAME")]
    keys: Vec<String>,
}

impl SpecArgs {
    /// The spec, read and checked.
    fn load(&self) -> Result<Spec> {
        let spec = spec::load(&self.file.spec)?;
        match self.keys.iter().find(|name| !spec.keys.contains_key(name.as_str())) {
            None => Ok(spec),
            Some(name) => Err(unknown_key(name, &spec)),
        }
    }

    /// The keys that are meant: those named, or all.
    fn select<'a>(&'a self, spec: &'a Spec) -> impl Iterator<Item = (&'a Name, &'a Key)> {
        let all = self.keys.is_empty();
        spec.keys.iter().filter(move |(name, _)| all || self.keys.iter().any(|key| *key == ***name))
    }
}

fn unknown_key(name: &str, spec: &Spec) -> Error {
    let known: Vec<_> = spec.keys.keys().map(|name| &**name).collect();
    Error::new(
        Class::Spec,
        format!("looking for key {name}"),
        "the spec has none of that name",
        format!("It has: {}.", known.join(", ")),
    )
}

/// How a command ended: well, or with failures that it has told already.
type Ended = Option<Class>;

/// Runs the command line; the exit code. A failure was told on standard error.
pub fn run(cli: &Cli) -> u8 {
    log::init(cli.verbose);
    let ended = memory::protect().and_then(|protection| {
        tracing::debug!("memory: {protection:?}");
        let ended = match &cli.command {
            Command::Derive(args) => return derive::run(args),
            Command::Apply(args) => apply::run(args, cli.json),
            Command::Check(file) => check::run(file, cli.json),
            Command::Plan(args) => plan::run(args, cli.json),
            Command::Status(args) => status::run(args, cli.json),
            Command::Cards => cards::run(cli.json),
            Command::Restart(args) => restart::run(args, cli.json),
            Command::Scrub(args) => scrub::run(args, cli.json),
            Command::Provider(command) => provider::run(command, cli.json),
            Command::Pin(command) => pin::run(command, cli.json),
            Command::Polkit(args) => polkit::run(args, cli.json),
            Command::Reseal(args) => reseal::run(args, cli.json),
            Command::Rotate(args) => rotate::run(args, cli.json),
            Command::Rename(args) => rename::run(args, cli.json),
            Command::Export(args) => export::run(args, cli.json),
            Command::Import(args) => import::run(args, cli.json),
            Command::Encrypt(args) => encrypt::encrypt(args).map(|()| None),
            Command::Decrypt(args) => encrypt::decrypt(args).map(|()| None),
            Command::Public(args) => public::run(args, cli.json),
            Command::Schema => schema::run(),
        }?;
        Ok(ended.map_or(0, Class::exit_code))
    });
    ended.unwrap_or_else(|error| {
        tell(&error);
        if cli.json {
            let _ = print(true, &Failed { error: &error });
        }
        error.class.exit_code()
    })
}

/// Tells an error to whoever reads standard error, and to systemd.
fn tell(error: &Error) {
    tracing::error!("{error}");
    notify::status(&error.found);
}

/// An error on its own in JSON.
#[derive(Serialize)]
struct Failed<'a> {
    error: &'a Error,
}

impl fmt::Display for Failed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

/// Prints what a command has to say: as JSON, or as text that ends with a line feed of its own.
fn print<T: Serialize + fmt::Display>(json: bool, value: &T) -> Result<()> {
    let mut out = io::stdout().lock();
    let written = if json {
        serde_json::to_writer_pretty(&mut out, value)
            .map_err(io::Error::from)
            .and_then(|()| writeln!(out))
    } else {
        write!(out, "{value}")
    };
    match written.and_then(|()| out.flush()) {
        // `nixos-cryptkey cards | head` is no failure.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Error::new(
            Class::Internal,
            "printing the result",
            error.to_string(),
            "What was done stands; `nixos-cryptkey status` shows it.",
        )),
        _ => Ok(()),
    }
}
