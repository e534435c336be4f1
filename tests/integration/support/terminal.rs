//! A person at a terminal: the program with a terminal of its own, which it finds as `/dev/tty`.

#![allow(dead_code, reason = "the campaign has no terminals")]

use std::{
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use virtual_card::PATIENCE;

use super::{
    Machine, Output, Running,
    pty::{Pty, session},
};

/// A run at a terminal. Standard output and standard error are no part of that: they are pipes, so that
/// it shows what went where. Ended when dropped.
pub struct Terminal {
    running: Running,
    pty: Pty,
    /// All that was shown so far.
    shown: Vec<u8>,
    /// How much of that was waited for.
    seen: usize,
}

impl Terminal {
    /// Starts it, as the leader of a session whose terminal is a new one.
    pub fn start(command: &Command) -> Self {
        let (pty, slave) = Pty::open();
        let running = Running::start_with(session(command), Stdio::from(slave));
        Self { running, pty, shown: Vec::new(), seen: 0 }
    }

    /// Waits until `part` is shown, after what was waited for before; what came until then, with it.
    #[track_caller]
    pub fn wait_for(&mut self, part: &str) -> String {
        loop {
            let new = &self.shown[self.seen..];
            if let Some(at) = new.windows(part.len()).position(|window| window == part.as_bytes()) {
                let until = at + part.len();
                let text = String::from_utf8_lossy(&new[..until]).into_owned();
                self.seen += until;
                return text;
            }
            let Ok(piece) = self.pty.pieces.recv_timeout(PATIENCE) else {
                let shown = String::from_utf8_lossy(&self.shown).into_owned();
                self.running.kill();
                self.running.says("a line that it does not say");
                panic!("it ended, or waits, without {part:?}: {shown}\n{}", self.running.said());
            };
            self.shown.extend(piece);
        }
    }

    /// Types a line, with Enter.
    pub fn type_line(&mut self, line: &str) {
        self.pty.type_line(line);
    }

    /// Waits for a question, and until what is typed is not shown; types the answer.
    #[track_caller]
    pub fn answer(&mut self, question: &str, answer: &str) {
        self.wait_for(question);
        // Nothing tells when that changes; most programs ask first and change it then.
        let mut looks = 0..PATIENCE.as_millis();
        while self.shows_what_is_typed() {
            assert!(looks.next().is_some(), "{question:?}: what is typed is shown");
            thread::sleep(Duration::from_millis(1));
        }
        self.type_line(answer);
    }

    /// Presses keys: `\x03` is ^C.
    pub fn press(&mut self, keys: &[u8]) {
        self.pty.press(keys);
    }

    /// The run itself: what it says on standard error, its process.
    pub fn running(&mut self) -> &mut Running {
        &mut self.running
    }

    /// Whether the terminal shows what is typed.
    pub fn shows_what_is_typed(&self) -> bool {
        self.pty.shows_what_is_typed()
    }

    /// Waits for its end; how it ended, and all that the terminal has shown, which may be secrets.
    pub fn running_to_its_end(mut self) -> (Output, String) {
        let output = self.running.output();
        self.shown.extend(self.pty.pieces.iter().flatten());
        (output, String::from_utf8_lossy(&self.shown).into_owned())
    }

    /// Waits for its end, as [`Machine::finish`]; how it ended, and all that the terminal has shown.
    pub fn end(mut self, machine: &Machine) -> (Output, String) {
        let output = machine.finish(self.running);
        self.shown.extend(self.pty.pieces.iter().flatten());
        (output, String::from_utf8_lossy(&self.shown).into_owned())
    }
}

/// A `provider` command for a key, at a terminal.
pub fn provider(machine: &Machine, key: &str, args: &[&str]) -> Terminal {
    let args = [&["provider"], args, &["--key", key]].concat();
    Terminal::start(&machine.command(&args))
}

/// Adds a recovery code to a key, as a person does who writes it down right: the code, how the command
/// ended, and all that the terminal has shown.
pub fn add_code(machine: &Machine, key: &str, args: &[&str]) -> (String, Output, String) {
    let mut terminal = provider(machine, key, &[&["add", "recovery"], args].concat());
    let code = terminal.code(machine);
    terminal.type_line("");
    let group = terminal.group(&code).to_lowercase();
    terminal.type_line(&group);
    let (output, screen) = terminal.end(machine);
    (code, output, screen)
}

impl Terminal {
    /// Reads the new code that is shown; from now on it must be nowhere else.
    pub fn code(&mut self, machine: &Machine) -> String {
        self.wait_for("Recovery code");
        let shown = self.wait_for("Press Enter");
        let code = shown.split_whitespace().find(|word| word.len() == 48).unwrap().to_owned();
        assert_eq!(code.split('-').map(str::len).collect::<Vec<_>>(), [6; 7], "{code}");
        machine.keep_secret("the code", code.as_bytes());
        machine.keep_secret("the code without dashes", code.replace('-', "").as_bytes());
        code
    }

    /// Waits for the question for a group of the code; that group.
    pub fn group<'a>(&mut self, code: &'a str) -> &'a str {
        self.wait_for("Type group ");
        let question = self.wait_for(" of the code");
        let number: usize = question.split(' ').next().unwrap().parse().unwrap();
        code.split('-').nth(number - 1).unwrap()
    }
}

/// What is shown comes from the program's terminal, what is typed goes there, and ^C ends it.
#[test]
fn a_terminal_is_one() {
    let script = |script: &str| {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        Terminal::start(&command)
    };
    let machine = Machine::new(1);
    let mut terminal = script(
        "stty -echo </dev/tty; printf 'word: ' >/dev/tty; read word; stty echo; read open; \
         echo \"to stdout $word\"; echo \"shown $word $open\" >/dev/tty; exit 3",
    );
    terminal.answer("word:", "hidden");
    while !terminal.shows_what_is_typed() {
        thread::yield_now();
    }
    terminal.type_line("open");
    assert!(!terminal.wait_for("shown ").contains("hidden"));
    terminal.wait_for("hidden open");
    let (output, shown) = terminal.end(&machine);
    assert_eq!((output.code, &*output.stdout), (Some(3), "to stdout hidden\n"));
    assert!(shown.contains("\nopen") || shown.contains(" open\r\n"), "{shown:?}");

    let mut terminal = script("trap 'exit 4' INT; echo up >/dev/tty; read word");
    terminal.wait_for("up");
    terminal.press(b"\x03");
    assert_eq!(terminal.end(&machine).0.code, Some(4));
}
