//! The machine's monitor (QMP): what hands do to it from outside.

use std::{
    io::{BufRead, BufReader, Write},
    os::unix::net::UnixStream,
    path::Path,
};

use serde_json::{Value, json};
use virtual_card::PATIENCE;

pub struct Monitor(BufReader<UnixStream>);

impl Monitor {
    /// Connects to a machine that is on.
    pub fn connect(socket: &Path) -> Self {
        let stream = UnixStream::connect(socket).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut monitor = Self(BufReader::new(stream));
        assert!(monitor.message().unwrap().get("QMP").is_some());
        monitor.execute("qmp_capabilities", json!({}));
        monitor
    }

    pub fn execute(&mut self, command: &str, arguments: Value) {
        let text = json!({ "execute": command, "arguments": arguments }).to_string();
        self.0.get_ref().write_all(text.as_bytes()).unwrap();
        let answer = loop {
            let message = self.message().expect("QEMU is there");
            if message.get("event").is_none() {
                break message;
            }
        };
        assert!(answer.get("return").is_some(), "{command}: {answer}");
    }

    /// Waits for an event: of the device, if it is one of a device.
    pub fn await_event(&mut self, event: &str, device: Option<&str>) {
        loop {
            let message = self.message().expect("QEMU is there");
            if message["event"] == event && device.is_none_or(|id| message["data"]["device"] == id)
            {
                return;
            }
        }
    }

    /// Waits until QEMU ends.
    pub fn await_end(&mut self) {
        while self.message().is_some() {}
    }

    /// What it says next; none if it has ended.
    fn message(&mut self) -> Option<Value> {
        let mut line = String::new();
        let length = self.0.read_line(&mut line).expect("something happens in time");
        (length > 0).then(|| serde_json::from_str(&line).unwrap())
    }
}
