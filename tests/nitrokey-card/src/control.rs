//! What a test may ask of the card while it runs, over `control.sock`, and what it may read
//! afterwards in `apdu.log`.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Write},
    net::{Shutdown, TcpStream},
    os::unix::net::UnixStream,
    process,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

const GET_RESPONSE: u8 = 0xc0;

/// How long the card waits for what somebody else does. Only what hangs takes as long.
pub const PATIENCE: Duration = Duration::from_secs(600);

/// The card as its two threads share it.
pub struct Control {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    /// Whether the card is to be in the reader.
    inserted: bool,
    /// The connection to vpcd, while there is one.
    stream: Option<TcpStream>,
    /// Whether vpcd has spoken on it: a listener's backlog accepts, too.
    seated: bool,
    sequence: u64,
    total: u64,
    without_get_response: u64,
    log: File,
}

impl Control {
    pub fn new(log: File) -> Self {
        Self {
            state: Mutex::new(State {
                inserted: true,
                stream: None,
                seated: false,
                sequence: 0,
                total: 0,
                without_get_response: 0,
                log,
            }),
            changed: Condvar::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits while `condition` holds; false means that it still does.
    fn wait(&self, time: Duration, condition: impl Fn(&State) -> bool) -> bool {
        let waited = self.changed.wait_timeout_while(self.lock(), time, |state| condition(state));
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.lock());
        self.changed.notify_all();
    }

    /// Blocks until the card is to be in the reader.
    pub fn wait_inserted(&self) {
        while !self.wait(PATIENCE, |state| !state.inserted) {}
    }

    /// A pause that `remove` cuts short; false means that it did.
    pub fn pause(&self, time: Duration) -> bool {
        !self.wait(time, |state| state.inserted)
    }

    /// There is a connection; false means that the card was taken out meanwhile.
    pub fn connected(&self, stream: TcpStream) -> bool {
        let mut state = self.lock();
        state.stream = state.inserted.then_some(stream);
        state.inserted
    }

    /// vpcd has spoken.
    pub fn seated(&self) {
        self.change(|state| state.seated = true);
    }

    pub fn disconnected(&self) {
        self.change(|state| (state.stream, state.seated) = (None, false));
    }

    /// Counts an APDU, and logs its shape. Data of commands and answers is never logged.
    pub fn record(&self, command: &[u8], answer: &[u8]) -> io::Result<()> {
        let mut state = self.lock();
        state.sequence += 1;
        state.total += 1;
        state.without_get_response += u64::from(command.get(1) != Some(&GET_RESPONSE));
        let header: String = command.iter().take(4).map(|b| format!("{b:02x}")).collect();
        let (data, status) = answer.split_at(answer.len().saturating_sub(2));
        let status: String = status.iter().map(|b| format!("{b:02x}")).collect();
        let (sequence, lc, length) = (state.sequence, lc(command), data.len());
        writeln!(state.log, "{sequence:06} {header} lc={lc} answer={length} sw={status}")
    }

    /// Serves one client of the control socket: a line in, a line out.
    pub fn serve(&self, stream: &UnixStream) -> io::Result<()> {
        for line in BufReader::new(stream).lines() {
            let command = line?;
            writeln!(&*stream, "{}", self.obey(command.trim()))?;
            if command.trim() == "quit" {
                process::exit(0);
            }
        }
        Ok(())
    }

    fn obey(&self, command: &str) -> String {
        let done = match command {
            "count" => {
                let state = self.lock();
                return format!(
                    r#"{{"total":{},"without_get_response":{}}}"#,
                    state.total, state.without_get_response
                );
            }
            "count reset" => {
                self.change(|state| (state.total, state.without_get_response) = (0, 0));
                true
            }
            "remove" => {
                self.change(|state| {
                    state.inserted = false;
                    // Wakes the card's thread out of its read.
                    state.stream.as_ref().map(|s| s.shutdown(Shutdown::Both));
                });
                self.wait(PATIENCE, |state| state.stream.is_some())
            }
            "insert" => {
                self.change(|state| state.inserted = true);
                self.wait(PATIENCE, |state| !state.seated)
            }
            "quit" => true,
            _ => return "error: unknown command".to_owned(),
        };
        if done { "ok" } else { "error: timeout" }.to_owned()
    }
}

/// The length of a command's data, short or extended.
fn lc(command: &[u8]) -> u16 {
    match command.get(4..) {
        Some([0, high, low, _, ..]) => u16::from_be_bytes([*high, *low]),
        Some([length, _, ..]) => (*length).into(),
        _ => 0,
    }
}
