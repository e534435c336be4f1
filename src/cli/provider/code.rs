//! `provider add recovery`: a code that is on the terminal once, and then on paper.

use super::{AddArgs, Changed, added};
use crate::{
    error::{Class, Error, Result},
    profile::{Argon2Params, Profile, ProviderKind, recovery::RecoveryCode, seal::NewProvider},
    system::terminal::Terminal,
};

/// How often a part of the code may be typed back.
const TRIES: usize = 3;

pub(super) fn add(args: &AddArgs) -> Result<Changed> {
    let name = &args.change.key.key;
    added(args, "recovery", |terminal, profile, id| {
        let code = RecoveryCode::random()?;
        hand_over(terminal, name, &id, profile, &code)?;
        let params = Argon2Params::random()?;
        let secret = params.secret(code.as_bytes())?;
        Ok(NewProvider { id, kind: ProviderKind::Recovery(params), secret })
    })
}

/// Shows the code, and takes a part of it back once it is no longer on the screen.
#[inline(never)]
fn hand_over(
    terminal: &Terminal,
    name: &str,
    id: &str,
    profile: &Profile,
    code: &RecoveryCode,
) -> Result<()> {
    let page = terminal.page()?;
    page.say(&format!("Recovery code {id} of key {name}:\n\n    "))?;
    page.say(&code.shown())?;
    let others = match profile.threshold() {
        1 => String::new(),
        threshold => format!(" and {} of the key's other providers", threshold - 1),
    };
    page.ask(&format!(
        "\n\nWrite it on paper, and keep that away from the card and from this machine. Whoever has it\n\
         and a copy of the profile{others} has every secret of the key. It is not shown again.\n\n\
         Press Enter when it is written down, or ^C to leave all as it is: "
    ))?;
    page.clear()?;
    let group = RecoveryCode::any_group()?;
    let mut wrong = "";
    for _ in 0..TRIES {
        let typed =
            page.ask(&format!("{wrong}Type group {} of the code, from the paper: ", group + 1))?;
        if code.is_group(group, &typed) {
            return Ok(());
        }
        wrong = "That is not it. ";
    }
    Err(Error::new(
        Class::WrongAnswer,
        format!("key {name}: adding a recovery code"),
        format!("{TRIES} times something else was typed than group {}", group + 1),
        "Nothing was stored. Destroy the paper, and start the command again for another code.",
    ))
}
