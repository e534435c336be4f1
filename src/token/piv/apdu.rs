//! Command and response APDUs (ISO/IEC 7816-4, 5.3): short form, command chaining, GET RESPONSE.

use zeroize::Zeroizing;

use super::{Fault, StatusWord, Transport, Wait};
use crate::system::Deadline;

/// No object or answer of PIV is longer: SP 800-73-4, part 1, table 8 ends at 12,710 bytes.
const LONGEST_ANSWER: usize = 16 * 1024;

/// A command to a card.
pub struct Command<'a> {
    /// Instruction.
    pub ins: u8,
    /// First parameter.
    pub p1: u8,
    /// Second parameter.
    pub p2: u8,
    /// The data field, of any length; more than 255 bytes are chained.
    pub data: &'a [u8],
    /// How long the answer may take.
    pub wait: Wait,
    /// Whether a card may have it sent again, with another length (`6Cxx`). Not so what must happen
    /// at most once, whatever the card says.
    pub repeatable: bool,
}

impl<'a> Command<'a> {
    /// A command that is answered at once.
    #[must_use]
    pub fn new(ins: u8, p1: u8, p2: u8, data: &'a [u8]) -> Self {
        Self { ins, p1, p2, data, wait: Wait::ANSWER, repeatable: true }
    }

    /// The same command, to be sent once.
    #[must_use]
    pub fn once(self) -> Self {
        Self { repeatable: false, ..self }
    }
}

/// The whole answer to a command, after all of its GET RESPONSEs.
pub struct Response {
    /// The data field, possibly empty.
    pub data: Zeroizing<Vec<u8>>,
    /// The last status word.
    pub status: StatusWord,
}

impl Response {
    /// The data field, if the card said that all went well.
    pub fn ok(self) -> Result<Zeroizing<Vec<u8>>, Fault> {
        match self.status {
            StatusWord::OK => Ok(self.data),
            other => Err(Fault::Status(other)),
        }
    }
}

/// Sends `command`, chained where it is long, and collects the answer. Log lines hold headers,
/// lengths and status words, never data.
pub fn exchange(card: &mut dyn Transport, command: &Command) -> Result<Response, Fault> {
    let mut blocks = command.data.chunks(255).peekable();
    let mut answer = loop {
        let block = blocks.next().unwrap_or_default();
        let last = blocks.peek().is_none();
        let cla = if last { 0x00 } else { 0x10 };
        let header = [cla, command.ins, command.p1, command.p2];
        let part = send(card, header, block, 0, command.wait)?;
        // A card that refuses a block says so at once.
        if last || part.status != StatusWord::OK {
            break part;
        }
    };
    // T=0 cards may name the length that they want asked for.
    if let [0x6c, le] = answer.status.0.to_be_bytes()
        && command.data.len() <= 255
        && command.repeatable
    {
        let header = [0x00, command.ins, command.p1, command.p2];
        answer = send(card, header, command.data, le, command.wait)?;
    }
    let rest = Deadline::after(Wait::ANSWER.limit);
    while let [0x61, more] = answer.status.0.to_be_bytes() {
        let wait = Wait { limit: rest.remaining(), ..Wait::ANSWER };
        let part = send(card, [0x00, 0xc0, 0x00, 0x00], &[], more, wait)?;
        if part.data.is_empty() && part.status.0 >> 8 == 0x61 {
            return Err(Fault::Garbage("it promises more and sends nothing"));
        }
        answer = Response { data: join(&answer.data, &part.data), status: part.status };
        if answer.data.len() > LONGEST_ANSWER {
            return Err(Fault::Garbage("it is longer than any PIV answer"));
        }
    }
    Ok(answer)
}

/// One short APDU and its answer. Le is always sent: some cards answer nothing without.
fn send(
    card: &mut dyn Transport,
    header: [u8; 4],
    data: &[u8],
    le: u8,
    wait: Wait,
) -> Result<Response, Fault> {
    let mut apdu = Zeroizing::new(Vec::with_capacity(data.len() + 6));
    apdu.extend(header);
    if let Ok(lc @ 1..) = u8::try_from(data.len()) {
        apdu.push(lc);
        apdu.extend_from_slice(data);
    }
    apdu.push(le);
    let mut answer = card.transmit(&apdu, wait)?;
    let body = answer.len().checked_sub(2).ok_or(Fault::Garbage("it lacks a status word"))?;
    let status = StatusWord(u16::from_be_bytes([answer[body], answer[body + 1]]));
    tracing::trace!("APDU {header:02x?}, {} bytes -> {body} bytes, {status}", data.len());
    answer.truncate(body);
    Ok(Response { data: answer, status })
}

/// Both parts in a new buffer, so that no reallocation leaves a copy behind.
fn join(first: &[u8], second: &[u8]) -> Zeroizing<Vec<u8>> {
    let mut whole = Zeroizing::new(Vec::with_capacity(first.len() + second.len()));
    whole.extend_from_slice(first);
    whole.extend_from_slice(second);
    whole
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    /// Plays back answers and keeps what was sent.
    struct Script {
        answers: VecDeque<Vec<u8>>,
        sent: Vec<Vec<u8>>,
    }

    impl Transport for Script {
        fn transmit(&mut self, command: &[u8], _: Wait) -> Result<Zeroizing<Vec<u8>>, Fault> {
            self.sent.push(command.to_vec());
            self.answers.pop_front().map(Zeroizing::new).ok_or(Fault::Absent)
        }

        fn reset(&mut self) -> Result<(), Fault> {
            Ok(())
        }

        fn reset_at_end(&mut self) {}
    }

    /// Data and status word, or the fault.
    type Answer = Result<(Vec<u8>, u16), Fault>;

    fn run(data: &[u8], answers: &[&[u8]]) -> (Answer, Vec<Vec<u8>>) {
        let answers = answers.iter().map(|a| a.to_vec()).collect();
        let mut script = Script { answers, sent: Vec::new() };
        let result = exchange(&mut script, &Command::new(0xcb, 0x3f, 0xff, data));
        (result.map(|r| (r.data.to_vec(), r.status.0)), script.sent)
    }

    #[test]
    fn an_answer_in_parts_is_put_together() {
        let (result, sent) = run(&[7], &[&[1, 2, 0x61, 0x00], &[3, 0x61, 0x01], &[4, 0x90, 0x00]]);
        assert_eq!(result, Ok((vec![1, 2, 3, 4], 0x9000)));
        assert_eq!(sent[0], [0x00, 0xcb, 0x3f, 0xff, 1, 7, 0]);
        assert_eq!(sent[1], [0x00, 0xc0, 0, 0, 0x00]);
        assert_eq!(sent[2], [0x00, 0xc0, 0, 0, 0x01]);
    }

    #[test]
    fn a_long_command_is_chained_and_a_refusal_ends_it() {
        let long = vec![5; 300];
        let (result, sent) = run(&long, &[&[0x90, 0], &[9, 0x90, 0]]);
        assert_eq!(result, Ok((vec![9], 0x9000)));
        assert_eq!((sent[0][0], sent[0][4], sent[0].len()), (0x10, 255, 261));
        assert_eq!((sent[1][0], sent[1][4], sent[1].len()), (0x00, 45, 51));
        let (result, sent) = run(&long, &[&[0x69, 0x82]]);
        assert_eq!((result, sent.len()), (Ok((vec![], 0x6982)), 1));
    }

    #[test]
    fn a_card_may_name_the_length_it_wants() {
        let (result, sent) = run(&[], &[&[0x6c, 0x03], &[1, 2, 3, 0x90, 0x00]]);
        assert_eq!(result, Ok((vec![1, 2, 3], 0x9000)));
        assert_eq!(sent[1], [0x00, 0xcb, 0x3f, 0xff, 3]);
    }

    #[test]
    fn answers_without_end_or_sense_are_faults() {
        for answers in [&[&[0x90][..]][..], &[&[]], &[&[1, 0x61, 0x05], &[0x61, 0x05]]] {
            assert!(matches!(run(&[], answers).0, Err(Fault::Garbage(_))), "{answers:02x?}");
        }
        let block = [&[0; 256][..], &[0x61, 0x00]].concat();
        assert!(matches!(run(&[], &[&block[..]; 80]).0, Err(Fault::Garbage(_))));
    }
}
