//! The protocol of vsmartcard's vpcd, from the card's side: every message is a length of two bytes,
//! big-endian, and the data; a message of one byte is a command to the reader slot.

use std::{
    io::{self, Read, Write},
    net::TcpStream,
    os::linux::net::TcpStreamExt,
};

/// What the reader wants.
pub enum Request {
    PowerOff,
    PowerOn,
    Reset,
    Atr,
    Apdu(Vec<u8>),
}

/// A connection to vpcd: the slot of a reader that this card sits in.
pub struct Slot(TcpStream);

impl Slot {
    pub fn new(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        Ok(Self(stream))
    }

    /// Waits for the next request. An error means that the reader is gone.
    pub fn next(&mut self) -> io::Result<Request> {
        let mut length = [0; 2];
        self.read(&mut length)?;
        let mut message = vec![0; u16::from_be_bytes(length).into()];
        self.read(&mut message)?;
        match message[..] {
            [0] => Ok(Request::PowerOff),
            [1] => Ok(Request::PowerOn),
            [2] => Ok(Request::Reset),
            [4] => Ok(Request::Atr),
            [] | [_] => Err(io::Error::other("vpcd sent an unknown command")),
            _ => Ok(Request::Apdu(message)),
        }
    }

    pub fn send(&mut self, answer: &[u8]) -> io::Result<()> {
        let length = u16::try_from(answer.len()).map_err(io::Error::other)?;
        self.0.write_all(&[&length.to_be_bytes(), answer].concat())
    }

    /// vpcd writes length and data apart, and holds the data back until the length is
    /// acknowledged; a delayed acknowledgement costs 40 ms. Linux forgets the option on its own.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        self.0.set_quickack(true)?;
        self.0.read_exact(buffer)
    }
}
