//! The PIV application of the Nitrokey 3 as a virtual card on vpcd.
//!
//! ```text
//! nitrokey-card --state DIR --port P [--host H]
//! nitrokey-card --state DIR --print-key SLOT [--pin PIN]
//! ```
//!
//! The first form puts the card whose state is in `DIR`, a new one if there is none, into the
//! reader slot on which vpcd listens, and prints `ready` when it sits there. It answers `count`,
//! `count reset`, `remove`, `insert` and `quit` on `DIR/control.sock`, a line each, and appends the
//! shape of every APDU to `DIR/apdu.log`. The second prints the private key in a slot of the card.

mod backends;
mod control;
mod firmware;
mod key;
mod vpcd;

use std::{
    collections::HashMap,
    env,
    error::Error,
    fs::{self, File},
    io,
    net::TcpStream,
    os::unix::net::UnixListener,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use control::{Control, PATIENCE};
use vpcd::{Request, Slot};

const USAGE: &str =
    "usage: nitrokey-card --state DIR (--port P [--host H] | --print-key SLOT [--pin PIN])";

const OPTIONS: [&str; 5] = ["--state", "--port", "--host", "--print-key", "--pin"];

/// The pause between two attempts to connect.
const RETRY: Duration = Duration::from_millis(50);

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> ExitCode {
    match start() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("nitrokey-card: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Does what the command line says. Serving the reader does not end, but by an error.
fn start() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let mut options = HashMap::new();
    for pair in arguments.chunks(2) {
        match pair {
            [name, value] if OPTIONS.contains(&name.as_str()) => {
                options.insert(name.as_str(), value.as_str());
            }
            _ => return Err(USAGE.into()),
        }
    }
    let state = PathBuf::from(options.get("--state").ok_or("--state is missing")?);
    if let Some(slot) = options.get("--print-key") {
        let slot = u8::from_str_radix(slot, 16)?;
        let pin = options.get("--pin").unwrap_or(&"123456");
        let scalar = key::private_key(&state.join(CARD), slot, pin)?;
        let digits: String = scalar.iter().map(|byte| format!("{byte:02x}")).collect();
        println!("{digits}");
        return Ok(());
    }
    let port = options.get("--port").ok_or("--port is missing")?.parse()?;
    run(&state, options.get("--host").unwrap_or(&"127.0.0.1"), port)
}

/// The folder of the flash images in the state directory.
const CARD: &str = "card";

fn run(state: &Path, host: &str, port: u16) -> Result<()> {
    fs::create_dir_all(state)?;
    let lock = File::create(state.join("lock"))?;
    lock.try_lock().map_err(|error| format!("another one has {}: {error}", state.display()))?;
    let card = state.join(CARD);
    firmware::manufacture(&card)?;

    let log = File::options().create(true).append(true).open(state.join("apdu.log"))?;
    let control = Arc::new(Control::new(log));
    listen(&state.join("control.sock"), &control)?;
    let mut ready = false;
    loop {
        control.wait_inserted();
        let Some(stream) = connect(host, port, &control)? else {
            continue;
        };
        if control.connected(stream.try_clone()?) {
            let mut slot = Slot::new(stream)?;
            // Every turn is one power-up; the error that ends it is the end of the connection.
            while let Ok(()) =
                firmware::powered(&card, |card| serve(&mut slot, card, &control, &mut ready))
            {
            }
        }
        control.disconnected();
        control.pause(RETRY);
    }
}

/// Connects to vpcd, which may start later than the card. None: taken out meanwhile.
fn connect(host: &str, port: u16, control: &Control) -> Result<Option<TcpStream>> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match TcpStream::connect((host, port)) {
            Ok(stream) => return Ok(Some(stream)),
            Err(error) if Instant::now() > deadline => {
                return Err(format!("no vpcd on {host}:{port}: {error}").into());
            }
            Err(_) if !control.pause(RETRY) => return Ok(None),
            Err(_) => {}
        }
    }
}

/// Serves the reader until it takes the card's power or the firmware crashes (`Ok`), or until the
/// connection ends (`Err`).
fn serve(
    slot: &mut Slot,
    card: &mut firmware::Card<'_, '_>,
    control: &Control,
    ready: &mut bool,
) -> io::Result<()> {
    loop {
        let request = slot.next()?;
        control.seated();
        if !*ready {
            println!("ready");
            *ready = true;
        }
        match request {
            Request::PowerOn => {}
            Request::PowerOff | Request::Reset => return Ok(()),
            Request::Atr => slot.send(firmware::ATR)?,
            Request::Apdu(command) => {
                let answer = catch_unwind(AssertUnwindSafe(|| card.exchange(&command)));
                let crashed = answer.is_err();
                let answer = answer.unwrap_or_else(|_| firmware::CRASHED.to_vec());
                control.record(&command, &answer)?;
                slot.send(&answer)?;
                if crashed {
                    return Ok(());
                }
            }
        }
    }
}

fn listen(path: &Path, control: &Arc<Control>) -> io::Result<()> {
    if path.exists() {
        fs::remove_file(path)?; // of a run that was killed: we hold the lock
    }
    let listener = UnixListener::bind(path)?;
    let control = Arc::clone(control);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let control = Arc::clone(&control);
            thread::spawn(move || control.serve(&stream));
        }
    });
    Ok(())
}
