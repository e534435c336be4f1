//! `encrypt` and `decrypt`: secrets that people choose, as age files for the configuration.

use std::{
    fs::File,
    io::{self, IsTerminal as _, Read as _},
    path::{Path, PathBuf},
};

use clap::Args;
use zeroize::Zeroizing;

use super::admin::{self, KeyArgs};
use crate::{
    apply::{Run, unseal},
    error::{Class, Error, Result},
    observe,
    plan::Goal,
    profile::{Recipient, store::Store},
    secret::{age, chosen},
    spec::{Key, Spec},
    system::memory,
};

#[derive(Args)]
pub(super) struct EncryptArgs {
    #[command(flatten)]
    key: KeyArgs,
    /// The key's recipient, where its profile is not on this machine; profileId has to be its id
    #[arg(long, value_name = "RECIPIENT", value_parser = recipient)]
    recipient: Option<Recipient>,
    /// Encrypts to this age recipient, too; may be given several times
    #[arg(long, value_name = "RECIPIENT", value_parser = recipient)]
    also: Vec<Recipient>,
    /// Writes the encrypted file here; there must be none yet
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
    /// What to encrypt, at most 1 MiB; by default standard input
    #[arg(value_name = "FILE")]
    input: Option<PathBuf>,
}

#[derive(Args)]
pub(super) struct DecryptArgs {
    #[command(flatten)]
    key: KeyArgs,
    /// Opens this profile in place of the key's own: one from before a rotation
    #[arg(long, value_name = "FILE")]
    profile: Option<PathBuf>,
    /// What is to be decrypted
    #[arg(value_name = "FILE")]
    input: PathBuf,
}

fn recipient(text: &str) -> std::result::Result<Recipient, String> {
    Recipient::parse(text).ok_or_else(|| "not an age recipient (age1 and 58 characters)".into())
}

/// Needs no card: the declared id says which recipient is the key's.
pub(super) fn encrypt(args: &EncryptArgs) -> Result<()> {
    let (spec, key) = args.key.load()?;
    let own = args.recipient(&spec, &key)?;
    if args.input.is_none() && io::stdin().is_terminal() {
        return Err(Error::new(
            Class::Spec,
            "reading standard input",
            "it is a terminal, which shows what is typed",
            format!(
                "Give a file, or: systemd-ask-password -n \"Secret:\" | nixos-cryptkey encrypt --key {} --output {}",
                args.key.key,
                args.output.display()
            ),
        ));
    }
    let plain = read(args.input.as_deref())?;
    let recipients = [&[own], &*args.also].concat();
    let file = age::encrypt(&plain, &recipients)?;
    admin::write_new(&args.output, &file)
}

impl EncryptArgs {
    /// The key's recipient, which its declared id proves.
    fn recipient(&self, spec: &Spec, key: &Key) -> Result<Recipient> {
        let name = &*self.key.key;
        let refused = |class, found: &str, advice: String| {
            let tried = format!("key {name}: encrypting to its recipient");
            Err(Error::new(class, tried, found, advice))
        };
        let known = match self.recipient {
            Some(recipient) => Some(recipient),
            None => observe::profile(&Store::open(&spec.state_dir)?, name, key)?
                .and_then(|profile| profile.recipient()),
        };
        let Some(known) = known else {
            return refused(
                Class::Profile,
                "there is no profile here that names it",
                format!(
                    "Give it: --recipient age1…. `nixos-cryptkey public --key {name}` prints it on the machine \
                     that has the profile."
                ),
            );
        };
        match &key.profile_id {
            Some(declared) if declared.as_str() == known.id() => Ok(known),
            Some(declared) => refused(
                Class::Profile,
                &format!("{known} is of a key with the id {}", known.id()),
                format!("The spec declares {declared}. Take the recipient of that key."),
            ),
            None => refused(
                Class::Spec,
                "the spec declares no profileId, so nothing shows that the recipient is the key's",
                format!(
                    "If {known} is the right one, set security.cryptkey.keys.{name}.profileId = \"{}\";",
                    known.id()
                ),
            ),
        }
    }
}

/// What is to be encrypted. The buffer has its full size from the start.
fn read(file: Option<&Path>) -> Result<Zeroizing<Vec<u8>>> {
    let name = file.map_or("standard input".into(), |file| file.display().to_string());
    let failed = |found: String| {
        let tried = format!("reading {name}");
        Error::new(Class::Spec, tried, found, "Give a file, or standard input, of at most 1 MiB.")
    };
    let mut bytes = Zeroizing::new(Vec::with_capacity(chosen::LONGEST + 1));
    let most = chosen::LONGEST as u64 + 1;
    let read = match file {
        Some(file) => File::open(file).and_then(|file| file.take(most).read_to_end(&mut bytes)),
        None => io::stdin().lock().take(most).read_to_end(&mut bytes),
    };
    read.map_err(|error| failed(error.to_string()))?;
    if bytes.len() > chosen::LONGEST {
        return Err(failed("it is longer than 1 MiB".into()));
    }
    Ok(bytes)
}

/// Opens the key, and prints what the file holds.
pub(super) fn decrypt(args: &DecryptArgs) -> Result<()> {
    let plain = args.open()?;
    memory::wipe_stack();
    if io::stdout().is_terminal() && std::str::from_utf8(&plain).is_err() {
        return Err(Error::new(
            Class::Spec,
            format!("printing what is in {}", args.input.display()),
            "it is no text, and would garble the terminal",
            "Send it elsewhere.",
        ));
    }
    admin::print_secret(&plain)
}

impl DecryptArgs {
    /// Card, lock and key are let go of.
    #[inline(never)]
    fn open(&self) -> Result<Zeroizing<Vec<u8>>> {
        let (spec, key) = self.key.load()?;
        // Before a person is asked for anything.
        chosen::check(&self.input)?;
        let mut run = Run::default();
        let goal = |_: &_| Ok(Goal::Open([].into()));
        let elsewhere = admin::elsewhere(self.profile.as_deref())?;
        let unsealed = unseal(&mut run, &spec, &self.key.key, &key, elsewhere, goal)?;
        chosen::open(&self.input, unsealed.opened()?)
    }
}
