//! The APDU log, `apdu.log`: one line per command, with secrets masked.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

/// The name of the log in the state directory.
pub const FILE: &str = "apdu.log";

/// The log.
#[derive(Debug)]
pub struct Log {
    file: File,
    sequence: usize,
}

impl Log {
    /// Opens the log to append to it. Sequence numbers start again at 1.
    pub fn open(dir: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(dir.join(FILE))?;
        Ok(Self { file, sequence: 0 })
    }

    /// Writes a line like `7 00 87 11 9d in=71 7c45… out=38 sw=9000`. Answers are not logged, only
    /// their length. A log that cannot be written is a test that cannot be trusted, so it panics.
    pub fn write(&mut self, apdu: &[u8], secret: bool, answer: Option<&[u8]>) {
        self.sequence += 1;
        let (header, body) = apdu.split_at(apdu.len().min(4));
        let header: Vec<String> = header.iter().map(|b| format!("{b:02x}")).collect();
        let body = match (body, secret) {
            ([], _) => "-".to_owned(),
            (_, true) => "***".to_owned(),
            (body, false) => base16ct::lower::encode_string(body),
        };
        let outcome = match answer.map(<[u8]>::split_last_chunk) {
            Some(Some((data, [sw1, sw2]))) => format!("out={} sw={sw1:02x}{sw2:02x}", data.len()),
            Some(None) => "no status word".to_owned(),
            None => "removed".to_owned(),
        };
        let (sequence, header, length) = (self.sequence, header.join(" "), apdu.len());
        let line = format!("{sequence} {header} in={length} {body} {outcome}\n");
        if let Err(e) = self.file.write_all(line.as_bytes()) {
            panic!("cannot write {FILE}: {e}");
        }
    }
}
