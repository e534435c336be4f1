//! Fault scripts: what shall go wrong at which APDU.

use std::str::FromStr;

use crate::state::Hex;

/// One thing that shall go wrong, once: at the `nth` APDU from now that matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Instruction to match; `None` matches all.
    pub ins: Option<u8>,
    /// P1 to match.
    pub p1: Option<u8>,
    /// P2 to match.
    pub p2: Option<u8>,
    /// Which of the matching APDUs; 1 is the next.
    pub nth: usize,
    /// What happens then.
    pub action: Action,
}

/// What goes wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// The card is pulled before it sees the command.
    Remove,
    /// The card carries the command out, and is pulled before it answers.
    RemoveAfter,
    /// The card answers this status word and does nothing.
    Status(u16),
    /// The card answers these bytes, status word included, and does nothing.
    Raw(Vec<u8>),
    /// The card forgets its session (PIN, management key, selected application), as after a failure
    /// of its power that no reader noticed, and then carries the command out.
    Forget,
    /// The card carries the command out, and only this many bytes of its answer arrive, which may
    /// be all but the status word.
    Cut(usize),
    /// The card carries the command out, and only this many bytes of data arrive before the status
    /// word.
    Short(usize),
    /// The card carries the command out, and in the byte of its answer at this place (the first one
    /// where it has none) these bits are the other way round.
    Flip(usize, u8),
    /// The card does nothing until it is released or pulled; released, it goes on as if nothing was.
    Hang,
    /// The card carries the command out, and then holds its answer back as [`Action::Hang`] does.
    HangAfter,
}

impl Rule {
    /// At the next APDU with this instruction.
    pub fn at_ins(ins: u8, action: Action) -> Self {
        Self { ins: Some(ins), ..Self::at(1, action) }
    }

    /// At the `nth` APDU from now; 1 is the next.
    pub fn at(nth: usize, action: Action) -> Self {
        Self { ins: None, p1: None, p2: None, nth, action }
    }

    /// Counts an APDU that matches; true when it is the one.
    pub(crate) fn meets(&mut self, header: [u8; 4]) -> bool {
        let [_, ins, p1, p2] = header;
        let fits = |want: Option<u8>, is: u8| want.is_none_or(|want| want == is);
        if fits(self.ins, ins) && fits(self.p1, p1) && fits(self.p2, p2) {
            self.nth = self.nth.saturating_sub(1);
            return self.nth == 0;
        }
        false
    }
}

impl Action {
    /// What arrives of a card's answer.
    pub(crate) fn damage(&self, mut answer: Vec<u8>) -> Vec<u8> {
        match *self {
            Self::Cut(length) => answer.truncate(length),
            Self::Short(length) => {
                let status = answer.split_off(answer.len().saturating_sub(2));
                answer.truncate(length);
                answer.extend(status);
            }
            Self::Flip(at, bits) => {
                let at = if at < answer.len() { at } else { 0 };
                answer.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= bits);
            }
            _ => {}
        }
        answer
    }
}

/// `[ins XX] [p1 XX] [p2 XX] [nth N] remove|remove-after|forget|hang|hang-after|sw XXXX|raw HEX|cut N|
/// short N|flip N XX`.
impl FromStr for Rule {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut words = text.split_whitespace();
        let mut rule = Self::at(1, Action::Hang);
        let missing = |word: &str| format!("{word} wants a value");
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or_else(|| missing(word));
            let number = |text: &str| text.parse::<usize>().map_err(|e| format!("{word}: {e}"));
            let byte =
                |text: &str| u8::from_str_radix(text, 16).map_err(|e| format!("{word}: {e}"));
            match word {
                "ins" => rule.ins = Some(byte(value()?)?),
                "p1" => rule.p1 = Some(byte(value()?)?),
                "p2" => rule.p2 = Some(byte(value()?)?),
                "nth" => rule.nth = number(value()?)?,
                action => {
                    rule.action = match action {
                        "remove" => Action::Remove,
                        "remove-after" => Action::RemoveAfter,
                        "forget" => Action::Forget,
                        "cut" => Action::Cut(number(value()?)?),
                        "short" => Action::Short(number(value()?)?),
                        "flip" => Action::Flip(number(value()?)?, byte(value()?)?),
                        "hang" => Action::Hang,
                        "hang-after" => Action::HangAfter,
                        "sw" => Action::Status(
                            u16::from_str_radix(value()?, 16).map_err(|e| format!("sw: {e}"))?,
                        ),
                        "raw" => Action::Raw(Hex::try_from(value()?.to_owned())?.0),
                        other => return Err(format!("unknown word {other:?}")),
                    };
                    return match (words.next(), rule.nth) {
                        (Some(more), _) => Err(format!("unexpected {more:?}")),
                        (None, 0) => Err("nth counts from 1".to_owned()),
                        (None, _) => Ok(rule),
                    };
                }
            }
        }
        Err("the rule says not what shall happen".to_owned())
    }
}
