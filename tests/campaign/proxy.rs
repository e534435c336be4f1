//! Between a card and its reader: what a card that knows no faults answers, and how it arrives.

use std::{
    io::{self, Read, Write},
    net::{Ipv4Addr, Shutdown, TcpListener, TcpStream},
    os::linux::net::TcpStreamExt as _,
    sync::{Arc, Mutex},
    thread,
};

/// What happens to one APDU.
#[derive(Clone, Debug)]
pub enum Fault {
    /// The card never sees it; this is the answer.
    Instead(Vec<u8>),
    /// So many bytes of the answer arrive.
    Cut(usize),
    /// These bits of the byte at this place are the other way round.
    Flip(usize, u8),
    /// The card is reset before it.
    Forget,
}

/// A proxy for one card.
pub struct Proxy {
    port: u16,
    shared: Arc<Mutex<Shared>>,
}

#[derive(Default)]
struct Shared {
    /// The lengths of the answers so far.
    answers: Vec<usize>,
    /// What happens at which APDU from now; 0 is the next.
    fault: Option<(usize, Fault)>,
}

impl Proxy {
    /// To vpcd at this port. Its thread ends with the card's connection, and the process.
    pub fn start(vpcd: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Mutex::new(Shared::default()));
        let state = Arc::clone(&shared);
        thread::spawn(move || {
            for card in listener.incoming() {
                let Ok(reader) = TcpStream::connect((Ipv4Addr::LOCALHOST, vpcd)) else { return };
                let card = card.unwrap();
                // Either may be gone by then.
                drop(pass(&card, &reader, &state));
                drop(card.shutdown(Shutdown::Both));
                drop(reader.shutdown(Shutdown::Both));
            }
        });
        Self { port, shared }
    }

    /// The port for the card.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Has a fault happen at the `nth` APDU from now, from 1.
    pub fn fault(&self, nth: usize, fault: Fault) {
        self.shared.lock().unwrap().fault = Some((nth - 1, fault));
    }

    /// Forgets the fault, and gives the lengths of the answers since the last time.
    pub fn take(&self) -> Vec<usize> {
        std::mem::take(&mut *self.shared.lock().unwrap()).answers
    }
}

/// Passes messages on until one side ends.
fn pass(mut card: &TcpStream, mut reader: &TcpStream, state: &Mutex<Shared>) -> io::Result<()> {
    card.set_nodelay(true)?;
    reader.set_nodelay(true)?;
    loop {
        let request = receive(reader)?;
        let answer = match &request[..] {
            // Power and reset are not answered, the ATR is.
            [0..=2] => {
                send(&mut card, &request)?;
                continue;
            }
            [_] => {
                send(&mut card, &request)?;
                receive(card)?
            }
            _ => match due(state) {
                Some(Fault::Instead(answer)) => answer,
                fault => {
                    if matches!(fault, Some(Fault::Forget)) {
                        send(&mut card, &[2])?;
                    }
                    send(&mut card, &request)?;
                    damaged(receive(card)?, fault)
                }
            },
        };
        if request.len() > 1 {
            state.lock().unwrap().answers.push(answer.len());
        }
        send(&mut reader, &answer)?;
    }
}

/// What is to happen to the APDU that just came.
fn due(state: &Mutex<Shared>) -> Option<Fault> {
    let mut state = state.lock().unwrap();
    match &mut state.fault {
        Some((0, _)) => state.fault.take().map(|(_, fault)| fault),
        Some((left, _)) => {
            *left -= 1;
            None
        }
        None => None,
    }
}

fn damaged(mut answer: Vec<u8>, fault: Option<Fault>) -> Vec<u8> {
    match fault {
        Some(Fault::Cut(length)) => answer.truncate(length),
        Some(Fault::Flip(at, bits)) => {
            let at = at % answer.len();
            answer[at] ^= bits;
        }
        _ => {}
    }
    answer
}

/// A length of two bytes, and so many. vpcd sends both apart, and the second one only when the first
/// was acknowledged.
fn receive(mut stream: &TcpStream) -> io::Result<Vec<u8>> {
    let mut length = [0; 2];
    stream.set_quickack(true)?;
    stream.read_exact(&mut length)?;
    stream.set_quickack(true)?;
    let mut message = vec![0; u16::from_be_bytes(length).into()];
    stream.read_exact(&mut message)?;
    Ok(message)
}

fn send(stream: &mut &TcpStream, message: &[u8]) -> io::Result<()> {
    let length = u16::try_from(message.len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes(), message].concat())
}
