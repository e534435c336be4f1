//! Serves the card to a reader of vsmartcard-vpcd.
//!
//! The protocol: over TCP, each message a two-byte big-endian length and that many bytes. A message
//! of one byte is for the reader's side of the card (power, reset, ATR), every other one an APDU.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
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
/// pcscd looks for a card twice at most before it powers it up. If it goes on without, it still has
/// the card before this one, which it lost while it powered that up: then it has to find none for
/// once.
const LOOKS: usize = 4;

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
        Self { controls, stream: Arc::default() }
    }

    /// The card's controls.
    pub fn controls(&self) -> &Controls {
        &self.controls
    }

    /// Pulls the card out of the reader, which notices when it next looks for it.
    pub fn remove(&self) {
        self.controls.remove();
        self.cut();
    }

    fn stream(&self) -> MutexGuard<'_, Option<TcpStream>> {
        self.stream.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the card's side of the connection; the reader ends the other one when it notices.
    fn cut(&self) {
        if let Some(stream) = self.stream().take() {
            // It may be closed already.
            let _ = stream.shutdown(Shutdown::Write);
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
            self.controls.await_presence(true);
            let Some(mut stream) = self.connect(reader)? else {
                continue;
            };
            stream.set_nodelay(true)?;
            *self.stream() = Some(stream.try_clone()?);
            self.controls.power(Power::Linked);
            ready();
            let end = self.serve_stream(card, &mut stream);
            self.cut();
            let noticed = end.and_then(|pulled| {
                until_noticed(&mut stream)?;
                match pulled {
                    Pulled::BetweenCommands => Ok(()),
                    Pulled::DuringCommand => probe(reader),
                }
            });
            match noticed {
                Err(e) if !is_disconnect(&e) => return Err(e),
                _ => {}
            }
            card.power_off();
            self.controls.power(Power::Off);
        }
    }

    /// Connects to the reader, when it listens; `None` if the card is pulled before that.
    fn connect(&self, reader: &Reader) -> io::Result<Option<TcpStream>> {
        let deadline = Instant::now() + reader.patience;
        while !self.controls.is_removed() {
            match TcpStream::connect((reader.host.as_str(), reader.port)) {
                Ok(stream) => return Ok(Some(stream)),
                Err(e) if Instant::now() >= deadline => return Err(e),
                // Nothing tells when somebody begins to listen on a TCP port.
                Err(_) => thread::sleep(Duration::from_millis(20)),
            }
        }
        Ok(None)
    }

    /// Serves until the card is pulled; that the reader goes away is an error.
    fn serve_stream(&self, card: &mut Card, stream: &mut TcpStream) -> io::Result<Pulled> {
        let mut looks = 0;
        while !self.controls.is_removed() {
            let message = receive(stream)?;
            match message.as_slice() {
                _ if self.controls.is_removed() => {}
                [POWER_OFF] => card.power_off(),
                [power @ (POWER_ON | RESET)] => {
                    looks = 0;
                    if *power == POWER_ON || !card.ignores_resets() {
                        card.reset();
                    }
                    self.controls.power(Power::On);
                }
                [GET_ATR] if looks == LOOKS && self.controls.waits_for_power() => {
                    return Ok(Pulled::BetweenCommands);
                }
                [GET_ATR] => {
                    looks += 1;
                    send(stream, ATR)?;
                    self.controls.atr_was_read();
                }
                [_] => {}
                apdu => match card.transmit(apdu) {
                    Ok(answer) => send(stream, &answer)?,
                    Err(_removed) => return Ok(Pulled::DuringCommand),
                },
            }
        }
        Ok(Pulled::BetweenCommands)
    }
}

/// When the card was pulled.
enum Pulled {
    BetweenCommands,
    DuringCommand,
}

/// Waits until the reader, which finds the connection ended, ends it too.
fn until_noticed(stream: &mut TcpStream) -> io::Result<()> {
    io::copy(stream, &mut io::sink()).map(drop)
}

/// vpcd ends a connection that breaks during a command before pcscd has looked for the card. So that
/// "unlinked" means that pcscd knows, this lets it look: it takes a new connection for the card,
/// asks for the ATR, and finds nothing.
fn probe(reader: &Reader) -> io::Result<()> {
    let Ok(mut stream) = TcpStream::connect((reader.host.as_str(), reader.port)) else {
        // The reader is gone altogether.
        return Ok(());
    };
    receive(&mut stream)?;
    stream.shutdown(Shutdown::Write)?;
    until_noticed(&mut stream)
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
