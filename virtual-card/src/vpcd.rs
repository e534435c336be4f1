//! Serves the card to a reader of vsmartcard-vpcd.
//!
//! The protocol: over TCP, each message a two-byte big-endian length and that many bytes. A message
//! of one byte is for the reader's side of the card (power, reset, ATR), every other one an APDU.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::controls::Power;
use crate::{Card, Controls};

/// The answer to reset of a YubiKey 5: T=1, and "YubiKey" as historical bytes.
pub const ATR: &[u8] = b"\x3b\xfd\x13\x00\x00\x81\x31\xfe\x15\x80\x73\xc0\x21\xc0WYubiKey\x40";

const POWER_OFF: u8 = 0;
const POWER_ON: u8 = 1;
const RESET: u8 = 2;
const GET_ATR: u8 = 4;

/// Where vpcd listens.
#[derive(Clone, Debug)]
pub struct Reader {
    /// Its host.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// How long to try when nobody listens there.
    pub patience: Duration,
}

/// The link between card and reader, which [`Link::remove`] cuts.
#[derive(Clone, Debug, Default)]
pub struct Link {
    controls: Controls,
    stream: Arc<Mutex<Option<TcpStream>>>,
}

impl Link {
    /// The link of a card that is not yet in a reader.
    pub fn new(controls: Controls) -> Self {
        Self {
            controls,
            stream: Arc::default(),
        }
    }

    /// The card's controls.
    pub fn controls(&self) -> &Controls {
        &self.controls
    }

    /// Pulls the card out of the reader.
    pub fn remove(&self) {
        self.controls.remove();
        self.set(None);
    }

    /// Replaces the connection; the old one is cut.
    fn set(&self, new: Option<TcpStream>) {
        let mut stream = self.stream.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(old) = std::mem::replace(&mut *stream, new) {
            // It may be closed already.
            let _ = old.shutdown(Shutdown::Both);
        }
    }

    /// Serves the card until the reader is gone for longer than its patience, which is the error.
    /// A card that is pulled waits here until it is put back. `ready` is called whenever the card
    /// has been put into the reader.
    pub fn serve(
        &self,
        card: &mut Card,
        reader: &Reader,
        mut ready: impl FnMut(),
    ) -> io::Result<()> {
        loop {
            self.controls.await_insertion();
            let stream = connect(reader)?;
            stream.set_nodelay(true)?;
            self.set(Some(stream.try_clone()?));
            self.controls.power(Power::Linked);
            if !self.controls.is_removed() {
                ready();
                if let Err(e) = self.serve_stream(card, stream)
                    && !is_disconnect(&e)
                {
                    return Err(e);
                }
            }
            self.set(None);
            self.controls.power(Power::Off);
            card.power_off();
        }
    }

    fn serve_stream(&self, card: &mut Card, mut stream: TcpStream) -> io::Result<()> {
        loop {
            let message = receive(&mut stream)?;
            match message.as_slice() {
                [POWER_OFF] => card.power_off(),
                [POWER_ON | RESET] => {
                    card.reset();
                    self.controls.power(Power::On);
                }
                [GET_ATR] => {
                    send(&mut stream, ATR)?;
                    self.controls.power(Power::Seen);
                }
                [_] => {}
                apdu => match card.transmit(apdu) {
                    Ok(answer) => send(&mut stream, &answer)?,
                    Err(_removed) => return Ok(()),
                },
            }
        }
    }
}

fn connect(reader: &Reader) -> io::Result<TcpStream> {
    let deadline = Instant::now() + reader.patience;
    loop {
        match TcpStream::connect((reader.host.as_str(), reader.port)) {
            Ok(stream) => return Ok(stream),
            Err(e) if Instant::now() >= deadline => return Err(e),
            // Nothing tells when somebody begins to listen on a TCP port.
            Err(_) => thread::sleep(Duration::from_millis(20)),
        }
    }
}

/// vpcd sends length and body apart, and its second write waits for the acknowledgement of the
/// first: without quick acknowledgements, which Linux forgets again, that takes 40 ms each time.
fn receive(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    rustix::net::sockopt::set_tcp_quickack(&*stream, true)?;
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    rustix::net::sockopt::set_tcp_quickack(&*stream, true)?;
    let mut message = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut message)?;
    Ok(message)
}

fn send(stream: &mut TcpStream, message: &[u8]) -> io::Result<()> {
    let length = u16::try_from(message.len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes(), message].concat())
}

fn is_disconnect(e: &io::Error) -> bool {
    use io::ErrorKind as Kind;
    matches!(
        e.kind(),
        Kind::UnexpectedEof
            | Kind::ConnectionReset
            | Kind::ConnectionAborted
            | Kind::BrokenPipe
            | Kind::NotConnected
    )
}
