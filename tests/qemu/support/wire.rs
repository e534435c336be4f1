//! The line to `tests/qemu/agent` in the machine, which carries out commands.

use std::{
    io::{BufRead, BufReader, Write},
    os::{fd::OwnedFd, unix::net::UnixStream},
    process::Stdio,
};

use base64ct::{Base64, Encoding};
use virtual_card::PATIENCE;

use super::run::Output;

pub struct Wire(BufReader<UnixStream>);

impl Wire {
    /// The line, and the ends of it that QEMU gets as standard input and output.
    pub fn new() -> (Self, Stdio, Stdio) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        ours.set_read_timeout(Some(PATIENCE)).unwrap();
        let copy = OwnedFd::from(theirs.try_clone().unwrap());
        (Self(BufReader::new(ours)), OwnedFd::from(theirs).into(), copy.into())
    }

    /// Waits until the machine listens; what went wrong if it never does.
    pub fn await_ready(&mut self) -> Result<(), String> {
        match self.line()?.as_str() {
            "ready" => Ok(()),
            other => Err(format!("the agent says {other:?}")),
        }
    }

    /// Has a command carried out.
    pub fn run(&mut self, args: &[&str]) -> Result<(Output, Vec<u8>), String> {
        let args: Vec<u8> = args.iter().flat_map(|arg| [arg.as_bytes(), b"\0"].concat()).collect();
        let line = Base64::encode_string(&args) + "\n";
        self.0.get_ref().write_all(line.as_bytes()).map_err(|e| e.to_string())?;
        let answer = self.line()?;
        let parts: Vec<&str> = answer.split(' ').collect();
        let [code, stdout, stderr] = parts[..] else {
            return Err(format!("the agent says {answer:?}"));
        };
        let decode = |text| Base64::decode_vec(text).map_err(|e| format!("{text:?}: {e}"));
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let bytes = decode(stdout)?;
        let stderr = text(&decode(stderr)?);
        Ok((Output { code: code.parse().ok(), stdout: text(&bytes), stderr }, bytes))
    }

    fn line(&mut self) -> Result<String, String> {
        let mut line = String::new();
        match self.0.read_line(&mut line) {
            Ok(0) => Err("the machine is off".into()),
            Ok(_) => Ok(line.trim_end_matches(['\r', '\n']).into()),
            Err(e) => Err(format!("no answer of the machine: {e}")),
        }
    }
}
