//! `provider add passphrase`.

use zeroize::Zeroizing;

use super::{AddArgs, Changed, added};
use crate::{
    error::{Class, Error, Result},
    profile::{Argon2Params, ProviderKind, seal::NewProvider},
    system::{ask::MAX_ANSWER, terminal::Terminal},
};

/// How often it may be typed.
const TRIES: usize = 3;
/// The fewest characters it may have: two or three words, which is little still.
const SHORTEST: usize = 12;

pub(super) fn add(args: &AddArgs) -> Result<Changed> {
    let name = &args.change.key.key;
    let mut changed = added(args, "passphrase", |terminal, _, id| {
        let typed = choose(terminal, name, &id)?;
        let params = Argon2Params::random()?;
        let secret = params.secret(&typed)?;
        Ok(NewProvider { id, kind: ProviderKind::Passphrase(params), secret })
    })?;
    changed.notes +=
        "  Keep the profile from others from now on: who reads it can try passphrases.\n";
    Ok(changed)
}

/// Has a person type it twice.
fn choose(terminal: &Terminal, name: &str, id: &str) -> Result<Zeroizing<Vec<u8>>> {
    terminal.say(
        "Whoever can read the profile can try passphrases, elsewhere and as many as they like. Take at\n\
         least 5 words that dice chose, and keep the profile out of what others read.\n",
    )?;
    for _ in 0..TRIES {
        let typed = terminal.ask_hidden(&format!("Passphrase {id} of key {name}: "))?;
        if let Err(fault) = check(&typed) {
            terminal.say(&format!("It can't be that: {fault}.\n"))?;
            continue;
        }
        if terminal.ask_hidden("The same again: ")? == typed {
            return Ok(typed);
        }
        terminal.say("The two differ.\n")?;
    }
    Err(Error::new(
        Class::WrongAnswer,
        format!("key {name}: adding a passphrase"),
        format!("{TRIES} times none was typed that could be taken"),
        "Nothing was stored. Start the command again.",
    ))
}

/// What is wrong with it, as a phrase that repeats none of it.
fn check(typed: &[u8]) -> std::result::Result<(), String> {
    let Ok(text) = std::str::from_utf8(typed) else {
        return Err("it is not UTF-8, and another terminal may not write the same".into());
    };
    let characters = text.chars().count();
    if text.chars().any(char::is_control) {
        Err("it holds a control character, which can't be typed everywhere".into())
    } else if characters < SHORTEST {
        Err(format!("it has {characters} characters, and at least {SHORTEST} are needed"))
    } else if typed.len() > MAX_ANSWER {
        Err(format!("it has more than {MAX_ANSWER} bytes"))
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_typed_at_boot_is_taken() {
        for good in ["twelve chars", "zwölf äöüßéè", " leading and trailing ", &"x".repeat(1024)]
        {
            assert_eq!(check(good.as_bytes()), Ok(()), "{good}");
        }
        for (bad, says) in [
            (&b""[..], "it has 0 characters"),
            (b"eleven char", "it has 11 characters"),
            ("zwölf äöüßé".as_bytes(), "it has 11 characters"),
            (b"with a\ttab in it", "it holds a control character"),
            (b"with a \x1a in it", "it holds a control character"),
            (b"\xff is no letter", "it is not UTF-8"),
            (&[b'x'; 1025], "it has more than 1024 bytes"),
        ] {
            let fault = check(bad).unwrap_err();
            assert!(fault.starts_with(says), "{fault}");
        }
    }
}
