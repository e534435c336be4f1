//! Another program that uses the card: `tests/support/pcsc_client.py`.

use std::{
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Stdio},
};

use super::Machine;

/// A PC/SC client in a process of its own; what it holds is free when it is dropped.
pub struct Client {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Client {
    pub fn new(machine: &Machine) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/pcsc_client.py");
        let mut child = machine
            .pcscd
            .command("/usr/bin/python3")
            .arg(script)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("apt-get install python3");
        let stdin = child.stdin.take().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let mut client = Self { child, stdin, stdout };
        assert_eq!(client.line(), "ready", "apt-get install python3-pyscard");
        client
    }

    /// Connected to the card in a reader: `shared` or `exclusive`.
    pub fn connected(machine: &Machine, reader: &str, how: &str) -> Self {
        let mut client = Self::new(machine);
        client.ask(&format!("connect {how} {reader}"));
        client
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Asks for something, which must succeed; what it answered.
    #[track_caller]
    pub fn ask(&mut self, request: &str) -> String {
        let answer = self.try_ask(request);
        let done = answer.strip_prefix("ok");
        done.unwrap_or_else(|| panic!("{request}: {answer}")).trim().into()
    }

    /// Sends a request and does not wait for the answer, which [`Self::line`] gives.
    pub fn begin(&mut self, request: &str) {
        writeln!(self.stdin, "{request}").unwrap();
    }

    pub fn try_ask(&mut self, request: &str) -> String {
        self.begin(request);
        self.line()
    }

    pub fn line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        line.trim_end().into()
    }

    /// The status word of a command to the PIV application.
    #[track_caller]
    pub fn status(&mut self, apdu: &str) -> String {
        let answer = self.ask(&format!("transmit {apdu}"));
        answer[answer.len() - 4..].into()
    }

    pub fn select(&mut self) {
        let status = self.status("00a404000ba000000308000010000100");
        assert!(status == "9000" || status.starts_with("61"), "{status}");
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
