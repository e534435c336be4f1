//! A run of the program: while it lasts, and what it said.

use std::{
    io::{BufRead, BufReader, Read},
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc::{Receiver, channel},
    thread::{self, JoinHandle},
};

use serde_json::Value;

/// What a run ended with.
#[derive(Debug)]
pub struct Output {
    /// The exit code; none where a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Output {
    /// Standard output as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("{e}: {self}"))
    }

    /// That it ended with this code.
    #[track_caller]
    pub fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self}");
        self
    }

    /// That what it said on standard error has all of this.
    #[track_caller]
    pub fn says(self, parts: &[&str]) -> Self {
        for part in parts {
            assert!(self.stderr.contains(part), "no {part:?} in: {self}");
        }
        self
    }

    /// What became of a key: `enrolled`, `verified`, `skipped` or `failed`.
    pub fn result(&self, key: &str) -> String {
        let json = self.json();
        json["keys"][key]["result"].as_str().unwrap().into()
    }

    /// Whether publishing a key changed nothing.
    pub fn unchanged(&self, key: &str) -> bool {
        self.json()["keys"][key]["published"]["unchanged"] == true
    }
}

impl std::fmt::Display for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { code, stdout, stderr } = self;
        write!(f, "exit code {code:?}\n--- stdout\n{stdout}--- stderr\n{stderr}")
    }
}

/// A run that is under way; ended when dropped.
pub struct Running {
    child: Child,
    lines: Receiver<String>,
    stderr: String,
    stdout: Option<JoinHandle<String>>,
}

impl Running {
    pub fn start(command: Command) -> Self {
        Self::start_with(command, Stdio::null())
    }

    /// The same with this standard input, which is closed when its end is waited for.
    pub fn start_with(mut command: Command, stdin: Stdio) -> Self {
        let mut child = command
            .stdin(stdin)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|e| panic!("{command:?}: {e}"));
        let mut stdout = child.stdout.take().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let stdout = thread::spawn(move || {
            let mut text = String::new();
            stdout.read_to_string(&mut text).unwrap();
            text
        });
        let (sender, lines) = channel();
        thread::spawn(move || {
            for line in stderr.lines() {
                // Nobody may listen any more.
                drop(sender.send(line.unwrap()));
            }
        });
        Self { child, lines, stderr: String::new(), stdout: Some(stdout) }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for a line on standard error with `part` in it.
    #[track_caller]
    pub fn wait_for(&mut self, part: &str) {
        assert!(self.says(part), "it ended without {part:?}:\n{}", self.stderr);
    }

    /// The same; false where it ended without.
    pub fn says(&mut self, part: &str) -> bool {
        while let Ok(line) = self.lines.recv() {
            self.stderr.push_str(&line);
            self.stderr.push('\n');
            if line.contains(part) {
                return true;
            }
        }
        false
    }

    /// What it said on standard error, as far as that was waited for.
    pub fn said(&self) -> &str {
        &self.stderr
    }

    /// Ends it, as the kernel does.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
    }

    /// How it ended, once it has.
    pub fn status(&mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }

    /// Whether it has ended.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Waits for its end.
    pub fn output(mut self) -> Output {
        drop(self.child.stdin.take());
        let stdout = self.stdout.take().unwrap().join().unwrap();
        while let Ok(line) = self.lines.recv() {
            self.stderr.push_str(&line);
            self.stderr.push('\n');
        }
        let code = self.child.wait().unwrap().code();
        let stderr = std::mem::take(&mut self.stderr);
        Output { code, stdout, stderr }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
