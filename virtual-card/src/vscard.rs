//! Serves the card to a USB CCID reader of QEMU, `usb-ccid` with a `ccid-card-passthru` in it.
//!
//! The protocol is that of libcacard's `vscard_common.h`: messages of three big-endian words (type,
//! reader, length of the body) and the body. QEMU says Init whenever the reader comes into being;
//! the card answers with the reader and its ATR, both of which QEMU acknowledges, and then answers
//! APDUs. QEMU does not say when the guest powers or resets the card: to the card, only being pulled
//! and the end of QEMU are resets, and the event "seen" never comes.
//!
//! The reader exchanges TPDUs, and libccid leaves T=0 as it is: see [`Options::t0`](crate::Options).

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use crate::controls::Power;
use crate::{Card, Controls};

/// The answer to reset: T=0 and no parameters, and "YubiKey" as historical bytes.
pub const ATR: &[u8] = b"\x3b\x07YubiKey";

const INIT: u32 = 1;
/// The acknowledgement of what was sent, also of what went well: a word that is then 0.
const ERROR: u32 = 2;
const READER_ADD: u32 = 3;
const CARD_ATR: u32 = 5;
const CARD_REMOVE: u32 = 6;
const APDU: u32 = 7;

/// No message is longer: QEMU keeps as much.
const MAX_BODY: u32 = 64 * 1024;

/// What QEMU was told.
#[derive(Debug, Default)]
struct Line {
    /// `None` while QEMU has no such reader.
    stream: Option<UnixStream>,
    /// Whether the card is in it.
    inserted: bool,
    /// The types of the messages that are still to be acknowledged.
    unacknowledged: VecDeque<u32>,
}

impl Line {
    fn send(&mut self, kind: u32, body: &[u8]) -> io::Result<()> {
        let Some(stream) = &mut self.stream else { return Ok(()) };
        self.unacknowledged.push_back(kind);
        send(stream, kind, body)
    }

    /// QEMU has a new reader.
    fn begin(&mut self, stream: UnixStream, inserted: bool) -> io::Result<()> {
        *self = Self { stream: Some(stream), ..Self::default() };
        self.send(READER_ADD, b"virtual-card\0")?;
        self.show(inserted)
    }

    /// Puts the card into the reader, or pulls it, if it is not so already.
    fn show(&mut self, inserted: bool) -> io::Result<()> {
        match (std::mem::replace(&mut self.inserted, inserted), inserted) {
            (false, true) => self.send(CARD_ATR, ATR),
            (true, false) => self.send(CARD_REMOVE, &[]),
            _ => Ok(()),
        }
    }
}

/// Serves the card to one QEMU after another, which connect to the socket.
pub fn serve(card: &mut Card, listener: &UnixListener) -> io::Result<()> {
    let controls = card.controls();
    let line = Arc::new(Mutex::new(Line::default()));
    let (shared, presence) = (Arc::clone(&line), controls.clone());
    thread::spawn(move || {
        loop {
            let told = lock(&shared).inserted;
            presence.await_presence(!told);
            // If QEMU is gone, its end of the stream says so, too.
            let _ = lock(&shared).show(!presence.is_removed());
        }
    });
    loop {
        let (stream, _) = listener.accept()?;
        let end = serve_stream(card, &controls, &line, stream);
        lock(&line).stream = None;
        card.power_off();
        controls.power(Power::Off);
        match end {
            Err(e) if e.kind() == io::ErrorKind::InvalidData => return Err(e),
            _ => {}
        }
    }
}

/// Serves until QEMU ends, which is an error.
fn serve_stream(
    card: &mut Card,
    controls: &Controls,
    line: &Mutex<Line>,
    mut stream: UnixStream,
) -> io::Result<()> {
    loop {
        let (kind, body) = receive(&mut stream)?;
        match kind {
            INIT => lock(line).begin(stream.try_clone()?, !controls.is_removed())?,
            ERROR => {
                let acknowledged = lock(line).unacknowledged.pop_front();
                if body != [0; 4] {
                    let text = format!("QEMU refuses message {acknowledged:?}: {body:02x?}");
                    return Err(io::Error::new(io::ErrorKind::InvalidData, text));
                }
                match acknowledged {
                    Some(CARD_ATR) => controls.power(Power::On),
                    Some(CARD_REMOVE) => {
                        card.power_off();
                        controls.power(Power::Off);
                    }
                    _ => {}
                }
            }
            APDU => {
                // Of a card that is pulled, the reader knows by itself what to say.
                if let Ok(answer) = card.transmit(&body) {
                    let _one_at_a_time = lock(line);
                    send(&mut stream, APDU, &answer)?;
                }
            }
            _ => {}
        }
    }
}

fn lock(line: &Mutex<Line>) -> MutexGuard<'_, Line> {
    line.lock().unwrap_or_else(PoisonError::into_inner)
}

fn receive(stream: &mut impl Read) -> io::Result<(u32, Vec<u8>)> {
    let mut header = [[0; 4]; 3];
    stream.read_exact(header.as_flattened_mut())?;
    let [kind, _reader, length] = header.map(u32::from_be_bytes);
    if length > MAX_BODY {
        let text = format!("a message of type {kind} and {length} bytes");
        return Err(io::Error::new(io::ErrorKind::InvalidData, text));
    }
    let mut body = Vec::new();
    stream.take(length.into()).read_to_end(&mut body)?;
    Ok((kind, body))
}

/// Sends a message of the first and only reader.
fn send(stream: &mut impl Write, kind: u32, body: &[u8]) -> io::Result<()> {
    let length = u32::try_from(body.len()).map_err(io::Error::other)?;
    let header = [kind, 0, length].map(u32::to_be_bytes);
    stream.write_all(&[header.as_flattened(), body].concat())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::{Event, Options, PATIENCE};

    #[test]
    fn messages_have_a_header_of_three_words() {
        let mut sent = Vec::new();
        send(&mut sent, APDU, &[0x90, 0x00]).unwrap();
        assert_eq!(sent, [0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 2, 0x90, 0x00]);
        assert_eq!(receive(&mut sent.as_slice()).unwrap(), (APDU, vec![0x90, 0x00]));
        let huge = [0, 0, 0, 7, 0, 0, 0, 0, 0xff, 0, 0, 0];
        assert_eq!(receive(&mut huge.as_slice()).unwrap_err().kind(), io::ErrorKind::InvalidData);
        assert!(receive(&mut &sent[..5]).is_err());
    }

    #[test]
    fn the_card_comes_answers_goes_and_comes_to_each_new_reader() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("socket");
        let listener = UnixListener::bind(&socket).unwrap();
        let options = Options { t0: true, ..Options::default() };
        let mut card = Card::open(&dir.path().join("card"), options).unwrap();
        let controls = card.controls();
        thread::spawn(move || serve(&mut card, &listener));
        let mut qemu = UnixStream::connect(&socket).unwrap();
        for _reader in 0..2 {
            send(&mut qemu, INIT, &[0; 12]).unwrap();
            assert_eq!(receive(&mut qemu).unwrap().0, READER_ADD);
            assert_eq!(receive(&mut qemu).unwrap(), (CARD_ATR, ATR.to_vec()));
            for _acknowledged in 0..2 {
                send(&mut qemu, ERROR, &[0; 4]).unwrap();
            }
            assert!(controls.wait(Event::Inserted, PATIENCE));
            send(&mut qemu, APDU, b"\x00\xa4\x04\x00\x05\xa0\x00\x00\x03\x08").unwrap();
            assert_eq!(receive(&mut qemu).unwrap(), (APDU, vec![0x61, 0x13]));
        }
        controls.remove();
        assert_eq!(receive(&mut qemu).unwrap(), (CARD_REMOVE, vec![]));
        send(&mut qemu, ERROR, &[0; 4]).unwrap();
        assert!(controls.wait(Event::Unlinked, PATIENCE));
        controls.insert();
        assert_eq!(receive(&mut qemu).unwrap(), (CARD_ATR, ATR.to_vec()));
        drop(qemu);
        let mut qemu = UnixStream::connect(&socket).unwrap();
        assert!(controls.wait(Event::Unlinked, PATIENCE));
        send(&mut qemu, INIT, &[0; 12]).unwrap();
        assert_eq!(receive(&mut qemu).unwrap().0, READER_ADD);
    }
}
