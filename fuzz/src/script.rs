//! Cards made of bytes.

use std::{cell::RefCell, rc::Rc};

use cryptkey::token::{Fault, Piv, Transport, Wait};
use zeroize::Zeroizing;

/// The commands that a card was sent.
pub type Sent = Rc<RefCell<Vec<Vec<u8>>>>;

/// A card whose answers are a function of the commands.
struct Script<F> {
    answer: F,
    sent: Sent,
}

impl<F: FnMut(&[u8]) -> Option<Vec<u8>>> Transport for Script<F> {
    fn transmit(&mut self, command: &[u8], _: Wait) -> Result<Zeroizing<Vec<u8>>, Fault> {
        self.sent.borrow_mut().push(command.to_vec());
        (self.answer)(command).map(Zeroizing::new).ok_or(Fault::Absent)
    }

    fn reset(&mut self) -> Result<(), Fault> {
        Ok(())
    }

    fn reset_at_end(&mut self) {}
}

/// A session with a card that answers by a function, and is pulled where that gives none; and what
/// it was sent. None where it refuses to be selected.
pub fn card(answer: impl FnMut(&[u8]) -> Option<Vec<u8>> + 'static) -> Option<(Piv, Sent)> {
    let sent = Sent::default();
    let transport = Script { answer, sent: Rc::clone(&sent) };
    Piv::select(Box::new(transport)).ok().map(|piv| (piv, sent))
}

/// A session with a card whose answers are `bytes`, one after the other, each behind its length (a
/// byte; 0 stands for 258). It is pulled when they end.
pub fn played(bytes: &[u8]) -> Option<(Piv, Sent)> {
    let mut rest = Vec::from(bytes).into_iter();
    card(move |_| {
        let length = match rest.next()? {
            0 => 258,
            length => usize::from(length),
        };
        Some(rest.by_ref().take(length).collect())
    })
}

/// A session with a card that selects and answers each command with the same `data`, in as many
/// parts as it takes.
pub fn saying(data: &[u8]) -> Option<(Piv, Sent)> {
    let data = data.to_vec();
    let mut at = 0;
    card(move |command| {
        if command[1] == 0xa4 {
            return Some(vec![0x90, 0x00]);
        }
        if command[1] != 0xc0 {
            at = 0;
        }
        let part = &data[at..data.len().min(at + 256)];
        at += part.len();
        let left = data.len() - at;
        let status = [if left > 0 { 0x61 } else { 0x90 }, u8::try_from(left).unwrap_or(0)];
        Some([part, &status].concat())
    })
}

/// A BER-TLV element with a length of two bytes.
pub fn element(tag: u8, value: &[u8]) -> Vec<u8> {
    let [high, low] = u16::try_from(value.len()).unwrap_or(u16::MAX).to_be_bytes();
    [&[tag, 0x82, high, low], value].concat()
}
