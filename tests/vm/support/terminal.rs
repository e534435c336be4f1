//! A person at a terminal of a machine.

use std::{
    process::{Command, Stdio},
    sync::mpsc::RecvTimeoutError,
    thread,
    time::Duration,
};

use virtual_card::PATIENCE;

use super::{
    Container,
    pty::{Pty, session},
};

/// Types a command of bash at a terminal of the machine; what that shows. `person` looks at what is
/// shown since the last answer, and says what to type, if anything.
pub fn at_terminal(
    machine: &Container,
    command: &str,
    mut person: impl FnMut(&str) -> Option<String>,
) -> String {
    let (mut terminal, slave) = Pty::open();
    let limited =
        machine.command(&["bash", "-c", &format!("export HOME=/root LANG=C.UTF-8; {command}")]);
    // The outermost of it is a limit in time, which would take the command off the terminal.
    let mut inside = limited.get_args().skip(1);
    let mut process = session(Command::new(inside.next().unwrap()).args(inside));
    let end = || Stdio::from(slave.try_clone().unwrap());
    process.stdin(end()).stdout(end()).stderr(end());
    let started = process.spawn().unwrap();
    // What is shown ends when nobody has the other end any more.
    drop((process, slave));
    let mut process = started;

    let (mut shown, mut seen) = (Vec::new(), 0);
    loop {
        match terminal.pieces.recv_timeout(PATIENCE) {
            Ok(piece) => shown.extend(piece),
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {
                drop(process.kill());
                panic!("{command}: nothing happens after {}", String::from_utf8_lossy(&shown));
            }
        }
        let new = String::from_utf8_lossy(&shown[seen..]).into_owned();
        let Some(answer) = person(&new) else { continue };
        seen = shown.len();
        // What systemd asks is not to be shown, and it says so to the terminal after it asked.
        while new.contains("no echo)") && terminal.shows_what_is_typed() {
            thread::sleep(Duration::from_millis(1));
        }
        terminal.type_line(&answer);
    }
    process.wait().unwrap();
    String::from_utf8_lossy(&shown).into_owned()
}
