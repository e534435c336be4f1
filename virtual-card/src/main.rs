//! `virtual-card`: serves a software PIV card to a reader of vsmartcard-vpcd or QEMU.

use std::io::{self, Write};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use virtual_card::state::Cipher;
use virtual_card::vpcd::{Link, Reader};
use virtual_card::{Card, Manner, Options, PATIENCE, SlotOption, control, vscard};

/// A software PIV card that behaves like a YubiKey 5 with firmware 5.7, for tests.
///
/// Prints "ready" once vpcd has the card (at once with --absent), or QEMU can connect. Its keys lie in
/// STATE/card.json in the clear.
#[derive(Parser)]
#[command(after_help = control::HELP)]
struct Arguments {
    /// Directory of the card's state, APDU log and control socket
    #[arg(long)]
    state: PathBuf,
    /// TCP port of vpcd
    #[arg(long, required_unless_present_any = ["init_only", "vscard"])]
    port: Option<u16>,
    /// Socket to make, for QEMU's ccid-card-passthru; the card then speaks T=0
    #[arg(long, value_name = "SOCKET", conflicts_with = "port")]
    vscard: Option<PathBuf>,
    /// Host of vpcd
    #[arg(long, default_value = "127.0.0.1")]
    host: String,
    /// How long to wait for vpcd to listen, in seconds
    #[arg(long, default_value_t = PATIENCE.as_secs())]
    patience: u64,
    /// Make the state (or check that it can be read) and end
    #[arg(long)]
    init_only: bool,
    /// Start with the card outside of the reader, until "insert" comes on the control socket
    #[arg(long)]
    absent: bool,
    #[command(flatten)]
    factory: Factory,
    #[command(flatten)]
    behaviour: Behaviour,
}

/// What a new card is like.
#[derive(clap::Args)]
#[command(next_help_heading = "A new card (ignored where STATE has a card already)")]
struct Factory {
    /// Serial number; 0 identifies nothing
    #[arg(long, default_value_t = Options::default().serial)]
    serial: u32,
    /// PIN, six to eight characters
    #[arg(long, default_value = "123456")]
    pin: String,
    /// Tries of the PIN
    #[arg(long, default_value_t = 3)]
    pin_tries: u8,
    /// Cipher of the (default) management key [default: aes192, with --legacy 3des]
    #[arg(long)]
    management_key_algorithm: Option<Cipher>,
    /// A card without metadata, attestation, serial and management application (they answer 6D00)
    #[arg(long)]
    legacy: bool,
    /// A key: a P-256 scalar in hex (imported), "generate" (P-256) or "p384" (generated)
    #[arg(long, value_name = "SLOT=KEY", value_parser = SlotOption::parse)]
    slot_key: Vec<SlotOption>,
    /// Policies of a --slot-key: PIN never, once or always; touch never, always or cached
    #[arg(long, value_name = "SLOT=PIN,TOUCH")]
    slot_policy: Vec<String>,
}

/// What the card is like in this session.
#[derive(clap::Args)]
#[command(next_help_heading = "This session")]
struct Behaviour {
    /// Refuse extended APDUs with 6700
    #[arg(long)]
    short_only: bool,
    /// How long the card waits for a touch
    #[arg(long, value_name = "MS", default_value_t = 15_000)]
    touch_timeout_ms: u64,
    /// Sit in a reader that does not reset its card
    #[arg(long)]
    ignores_resets: bool,
    /// What every APDU takes
    #[arg(long, value_name = "MS", default_value_t = 0)]
    apdu_latency_ms: u64,
    /// What a key agreement takes on top
    #[arg(long, value_name = "MS", default_value_t = 0)]
    key_agreement_latency_ms: u64,
    /// In what it is unlike a YubiKey; may be given several times
    #[arg(long)]
    manner: Vec<Manner>,
}

impl Arguments {
    fn options(&self) -> Result<Options, String> {
        let Factory {
            serial,
            pin,
            pin_tries,
            management_key_algorithm,
            legacy,
            slot_key,
            slot_policy,
        } = &self.factory;
        let mut slots = slot_key.clone();
        for text in slot_policy {
            let (id, pin, touch) = virtual_card::parse_policy(text)?;
            let slot = slots.iter_mut().find(|slot| slot.slot == id);
            let slot = slot.ok_or_else(|| format!("--slot-policy {text} without --slot-key"))?;
            (slot.pin_policy, slot.touch_policy) = (Some(pin), Some(touch));
        }
        let behaviour = &self.behaviour;
        Ok(Options {
            serial: *serial,
            pin: pin.clone(),
            pin_tries: *pin_tries,
            management_key_algorithm: *management_key_algorithm,
            legacy: *legacy,
            slots,
            extended_length: !behaviour.short_only,
            t0: self.vscard.is_some(),
            touch_timeout: Duration::from_millis(behaviour.touch_timeout_ms),
            ignores_resets: behaviour.ignores_resets,
            apdu_latency: Duration::from_millis(behaviour.apdu_latency_ms),
            key_agreement_latency: Duration::from_millis(behaviour.key_agreement_latency_ms),
            manners: behaviour.manner.clone(),
        })
    }
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("virtual-card: {e}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> io::Result<()> {
    let options = arguments.options().map_err(io::Error::other)?;
    let mut card = Card::open(&arguments.state, options)?;
    if arguments.init_only {
        return Ok(());
    }
    if arguments.absent {
        card.controls().remove();
    }
    match (&arguments.vscard, arguments.port) {
        (Some(socket), _) => serve_qemu(arguments, &mut card, socket),
        (None, Some(port)) => serve_vpcd(arguments, &mut card, port),
        (None, None) => Ok(()),
    }
}

fn serve_vpcd(arguments: &Arguments, card: &mut Card, port: u16) -> io::Result<()> {
    let reader = Reader {
        host: arguments.host.clone(),
        port,
        patience: Duration::from_secs(arguments.patience),
    };
    let link = Link::new(card.controls());
    let removed = link.clone();
    control::listen(&arguments.state, link.controls(), move || removed.remove())?;
    let mut told = false;
    let mut tell = || {
        if !std::mem::replace(&mut told, true) {
            say_ready();
        }
    };
    if arguments.absent {
        tell();
    }
    link.serve(card, &reader, tell)
}

fn serve_qemu(arguments: &Arguments, card: &mut Card, socket: &Path) -> io::Result<()> {
    let controls = card.controls();
    control::listen(&arguments.state, &card.controls(), move || controls.remove())?;
    let listener = UnixListener::bind(socket)?;
    say_ready();
    vscard::serve(card, &listener)
}

fn say_ready() {
    let mut out = io::stdout();
    // Whoever started this may not care.
    let _ = writeln!(out, "ready").and_then(|()| out.flush());
}
