//! The control socket, `control.sock`: a line in, a line out.

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::Duration;
use std::{fs, process, thread};

use crate::{Controls, Event, PATIENCE, TouchMode};

/// The name of the socket in the state directory.
pub const FILE: &str = "control.sock";

/// What the socket understands; also the text of `--help`.
pub const HELP: &str = "\
Commands on STATE/control.sock, one line each; each gets one line back (\"ok\", a value, \"timeout\" \
or \"error: …\"):
  touch give|once|withhold|wait     what the finger does, now and from now on (default: wait)
  remove | insert                   pull the card, put it back (done when the reader has noticed)
  count | count reset               APDUs since the last reset, as JSON
  fault [ins XX] [p1 XX] [p2 XX] [nth N] ACTION
                                    once, at the Nth (default: next) APDU that matches; ACTION is
                                    remove | remove-after | forget | hang | hang-after | sw XXXX |
                                    raw HEX | cut N | short N | flip N XX (the true answer, damaged)
  faults clear | release            forget faults; end a hang
  wait EVENT [SECONDS]              touch | hang | inserted | removed | unlinked | seen
                                    (default 600 s)
  reload                            read STATE/card.json again
  state                             all of this, as JSON
  quit                              end the program";

/// Serves the socket in threads of its own. `remove` pulls the card out of its reader.
pub fn listen(
    dir: &Path,
    card: &Controls,
    remove: impl Fn() + Clone + Send + 'static,
) -> io::Result<()> {
    let path = dir.join(FILE);
    match fs::remove_file(&path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let listener = UnixListener::bind(&path)?;
    let card = card.clone();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (card, remove) = (card.clone(), remove.clone());
            // A client that goes away ends its thread, nothing else.
            thread::spawn(move || serve(&stream, &card, &remove).ok());
        }
    });
    Ok(())
}

fn serve(mut stream: &UnixStream, card: &Controls, remove: &impl Fn()) -> io::Result<()> {
    for request in BufReader::new(stream).lines() {
        let request = request?;
        if request.trim() == "quit" {
            stream.write_all(b"ok\n")?;
            process::exit(0);
        }
        let answer = obey(&request, card, remove).unwrap_or_else(|e| format!("error: {e}"));
        stream.write_all(format!("{answer}\n").as_bytes())?;
    }
    Ok(())
}

fn obey(request: &str, card: &Controls, remove: &impl Fn()) -> Result<String, String> {
    let words: Vec<&str> = request.split_whitespace().collect();
    match words.as_slice() {
        ["touch", mode] => card.touch(touch_mode(mode)?),
        ["remove"] => {
            remove();
            if !card.wait(Event::Unlinked, PATIENCE) {
                return Ok("timeout".to_owned());
            }
        }
        ["insert"] => {
            card.insert();
            if !card.wait(Event::Inserted, PATIENCE) {
                return Ok("timeout".to_owned());
            }
        }
        ["count"] => return serde_json::to_string(&card.counts()).map_err(|e| e.to_string()),
        ["count", "reset"] => card.reset_counts(),
        ["fault", rule @ ..] => card.fault(rule.join(" ").parse()?),
        ["faults", "clear"] => card.clear_faults(),
        ["release"] => card.release(),
        ["reload"] => card.reload(),
        ["wait", name, limit @ ..] => {
            let limit = match limit {
                [] => PATIENCE,
                [seconds] => Duration::from_secs(seconds.parse().map_err(|e| format!("{e}"))?),
                _ => return Err("wait EVENT [SECONDS]".to_owned()),
            };
            if !card.wait(event(name)?, limit) {
                return Ok("timeout".to_owned());
            }
        }
        ["state"] => return Ok(card.describe()),
        _ => return Err(format!("unknown command {request:?}")),
    }
    Ok("ok".to_owned())
}

fn touch_mode(name: &str) -> Result<TouchMode, String> {
    match name {
        "give" => Ok(TouchMode::Give),
        "once" => Ok(TouchMode::Once),
        "withhold" => Ok(TouchMode::Withhold),
        "wait" => Ok(TouchMode::Wait),
        _ => Err(format!("unknown touch mode {name:?}")),
    }
}

fn event(name: &str) -> Result<Event, String> {
    match name {
        "touch" => Ok(Event::Touch),
        "hang" => Ok(Event::Hang),
        "inserted" | "insert" => Ok(Event::Inserted),
        "removed" | "remove" => Ok(Event::Removed),
        "unlinked" => Ok(Event::Unlinked),
        "seen" => Ok(Event::Seen),
        _ => Err(format!("unknown event {name:?}")),
    }
}
