//! What opening an unchanged key costs, side by side: a floor program, `nixos-cryptkey apply`, and
//! OpenSC. Run it with `make bench`; the argument is the number of runs.
//!
//! All use the same virtual card in the same run and take turns, a process each time. First the
//! card answers as fast as it can, then it takes its time as a real one does. On a busy machine the
//! smallest times tell more than the medians.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};
use std::{env, fs};

use virtual_card::stack::{Pcscd, Server};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const PIN: &str = "123456";
/// The header of a public key on P-256 in DER; OpenSC wants the peer's point in it.
const PUBLIC_KEY: &str = "3059301306072A8648CE3D020106082A8648CE3D030107034200";
/// The generator of P-256.
const PEER: &str = "046B17D1F2E12C4247F8BCE6E563A440F277037D812DEB33A0F4A13945D898C296\
    4FE342E2FE1A7F9B8EE7EB4A7C0F9E162BCE33576B315ECECBB6406837BF51F5";
/// Longer than this for one APDU, and something between the card and its client waits for nothing
/// (a TCP acknowledgement: 44 ms).
const STALL: Duration = Duration::from_millis(20);

/// How slow the card is, and how many times the floor `apply` may take then.
struct Setting {
    title: &'static str,
    card: &'static [&'static str],
    simulated: bool,
    goal: f64,
}

const SETTINGS: [Setting; 2] = [
    Setting { title: "bare", card: &[], simulated: false, goal: 1.6 },
    Setting {
        title: "15 ms per APDU, 60 ms more per key agreement",
        card: &["--apdu-latency-ms", "15", "--key-agreement-latency-ms", "60"],
        simulated: true,
        goal: 1.3,
    },
];

struct Contender {
    name: &'static str,
    command: Command,
    times: Vec<Duration>,
    apdus: usize,
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("bench: {e}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let runs = env::args().nth(1).map_or(Ok(30), |n| n.parse::<usize>())?.max(1);
    let files = Files::make()?;
    for setting in SETTINGS {
        measure(&setting, runs, &files)?;
    }
    Ok(())
}

fn measure(setting: &Setting, runs: usize, files: &Files) -> Result<()> {
    let pcscd = Pcscd::start(1)?;
    // yubico-piv-tool knows the factory's management key as a 3DES key only.
    let card = [&["--slot-key", "9d=generate", "--management-key-algorithm", "3des"], setting.card];
    let state = files.disk.join("card");
    let card = Server::start(&built("virtual-card")?, &pcscd, 0, &state, &card.concat())?;
    if !files.certificate().exists() {
        write_certificate(&pcscd, files)?;
    }
    let mut contenders = [
        Contender::new("floor", pcscd.command(built("examples/floor")?)),
        Contender::new("nixos-cryptkey apply", apply(&pcscd, files)?),
        Contender::new("pkcs11-tool --derive", opensc(&pcscd, files)?),
    ];
    for contender in &mut contenders {
        succeed(&mut contender.command)?;
        card.expect_ok("count reset")?;
        succeed(&mut contender.command)?;
        contender.apdus = card.counts()?.without_get_response;
    }
    for _ in 0..runs {
        for contender in &mut contenders {
            let start = Instant::now();
            succeed(&mut contender.command)?;
            contender.times.push(start.elapsed());
        }
    }
    report(setting, runs, &mut contenders)
}

fn report(setting: &Setting, runs: usize, contenders: &mut [Contender; 3]) -> Result<()> {
    println!("{} ({runs} runs, ms)", setting.title);
    println!("  {:24}{:>6}{:>8}{:>14}{:>14}", "", "APDUs", "median", "min", "max");
    for contender in contenders.iter_mut() {
        contender.times.sort();
    }
    let floor = contenders[0].median();
    let least = contenders[0].times[0];
    for (number, contender) in contenders.iter().enumerate() {
        let (median, min, max) =
            (contender.median(), contender.times[0], contender.times[runs - 1]);
        let [by_median, by_min] = [(median, floor), (min, least)].map(ratio);
        let [median, min, max] = [median, min, max].map(milliseconds);
        let verdict = match number {
            1 if by_median <= setting.goal => format!("  goal x{}: met", setting.goal),
            1 => format!("  goal x{}: MISSED", setting.goal),
            _ => String::new(),
        };
        let (name, apdus) = (contender.name, contender.apdus);
        println!(
            "  {name:24}{apdus:>6}{median:>8.1} x{by_median:<5.2}{min:>8.1} x{by_min:<5.2}{max:>7.1}{verdict}"
        );
    }
    println!();
    let stalled = floor > STALL * u32::try_from(contenders[0].apdus)?;
    if stalled && !setting.simulated {
        return Err("the card stalls (TCP_NODELAY, QUICKACK?): these figures mean nothing".into());
    }
    Ok(())
}

impl Contender {
    fn new(name: &'static str, command: Command) -> Self {
        Self { name, command, times: Vec::new(), apdus: 0 }
    }

    /// Of sorted times.
    fn median(&self) -> Duration {
        let middle = self.times.len() / 2;
        match self.times.len() % 2 {
            0 => (self.times[middle - 1] + self.times[middle]) / 2,
            _ => self.times[middle],
        }
    }
}

fn ratio((time, floor): (Duration, Duration)) -> f64 {
    time.as_secs_f64() / floor.as_secs_f64()
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// A directory on disk and one in RAM, gone at the end.
struct Files {
    disk: PathBuf,
    ram: PathBuf,
}

impl Files {
    fn make() -> Result<Self> {
        let name = format!("cryptkey-bench-{}", std::process::id());
        let files =
            Self { disk: Path::new("/var/tmp").join(&name), ram: Path::new("/dev/shm").join(name) };
        fs::create_dir(&files.disk)?;
        fs::create_dir(&files.ram)?;
        Ok(files)
    }

    fn certificate(&self) -> PathBuf {
        self.disk.join("certificate.pem")
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        for dir in [&self.disk, &self.ram] {
            // What is left over holds nothing of worth.
            let _ = fs::remove_dir_all(dir);
        }
    }
}

/// OpenSC sees a key only where a certificate tells of it; the attestation will do.
fn write_certificate(pcscd: &Pcscd, files: &Files) -> Result<()> {
    let certificate = files.certificate();
    let tool = |action| {
        let mut command = pcscd.command("yubico-piv-tool");
        command.args(["--reader", "", "--slot", "9d", "--action", action]);
        command
    };
    succeed(tool("attest").arg("--output").arg(&certificate))?;
    succeed(tool("import-certificate").arg("--input").arg(&certificate))
}

/// `apply` on a machine where it has been run before.
fn apply(pcscd: &Pcscd, files: &Files) -> Result<Command> {
    let (pin, spec) = (files.disk.join("pin"), files.disk.join("spec.json"));
    write_private(&pin, PIN)?;
    let text = format!(
        r#"{{"version": 1, "stateDir": "{}", "runtimeDir": "{}",
            "keys": {{"vault": {{"pin": {{"file": "{}"}},
                "secrets": {{"restic": {{"use": "backups", "format": "hex"}}}}}}}}}}"#,
        files.disk.join("state").display(),
        files.ram.display(),
        pin.display(),
    );
    fs::write(&spec, text)?;
    let mut command = pcscd.command(built("nixos-cryptkey")?);
    command.args(["apply", "--always", "--spec"]).arg(spec);
    Ok(command)
}

fn opensc(pcscd: &Pcscd, files: &Files) -> Result<Command> {
    let peer = files.disk.join("peer.der");
    let point = format!("{PUBLIC_KEY}{PEER}");
    fs::write(&peer, base16ct::mixed::decode_vec(point).map_err(|_| "not hex")?)?;
    let mut command = pcscd.command("pkcs11-tool");
    command
        .args(["--module", "opensc-pkcs11.so", "--login", "--pin", PIN])
        .args(["--derive", "--mechanism", "ECDH1-DERIVE", "--id", "03", "--input-file"])
        .arg(peer)
        .arg("--output-file")
        .arg(files.disk.join("derived"));
    Ok(command)
}

fn write_private(path: &Path, text: &str) -> Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let mut options = fs::File::options();
    options.write(true).create(true).truncate(true).mode(0o600);
    Ok(options.open(path)?.write_all(text.as_bytes())?)
}

/// A program of the same build as this one.
fn built(name: &str) -> Result<PathBuf> {
    let path = env::current_exe()?.with_file_name("..").join(name);
    path.canonicalize().map_err(|e| format!("{}: {e}", path.display()).into())
}

/// Runs it; what it says counts only when it fails.
fn succeed(command: &mut Command) -> Result<()> {
    let output = command.stdin(Stdio::null()).output()?;
    if output.status.success() {
        return Ok(());
    }
    let said = [output.stdout, output.stderr].concat();
    Err(format!("{command:?}: {}\n{}", output.status, String::from_utf8_lossy(&said)).into())
}
