//! A key that is sealed in several ways before a test begins, as an admin's commands would have it.

use cryptkey::profile::{
    Argon2Params, ProviderKind,
    recovery::RecoveryCode,
    seal::{NewProvider, seal},
    store::Store,
};
use serde_json::{Value, json};

use super::{Machine, TestCard, Yubikey, agent::Agent, machine::merge, shared::provider};

/// What opens each passphrase.
pub const PASSPHRASE: &str = "neun Schwäne im Nebel";

/// A machine with such a key, and its cards, each in a reader of its own and with a PIN file of its
/// own.
pub struct Sealed {
    pub machine: Machine,
    pub cards: Vec<Yubikey>,
    /// The key's name, which is also the id of its questions: each test has its own.
    pub name: &'static str,
    /// What opens each recovery code.
    pub code: String,
    /// What is published.
    pub secret: Vec<u8>,
}

impl Sealed {
    /// Any `threshold` of so many cards and of these passphrases and recovery codes open it, by their
    /// ids.
    pub fn new(name: &'static str, threshold: u8, cards: usize, typed: &[&str]) -> Self {
        Self::with(name, threshold, cards, typed, &[])
    }

    /// The same with cards as these arguments make them.
    pub fn with(
        name: &'static str,
        threshold: u8,
        cards: usize,
        typed: &[&str],
        args: &[&str],
    ) -> Self {
        let machine = Machine::new(cards);
        let card = |reader| {
            let serial = serial(reader);
            let new = ["--serial", &serial, "--slot-key", "9d=generate"];
            Yubikey::with(&machine, reader, &[&new, args].concat())
        };
        let cards: Vec<_> = (0..cards).map(card).collect();
        let code = RecoveryCode::random().unwrap().shown().to_string();
        let numbered = cards.iter().enumerate();
        let mut providers: Vec<_> =
            numbered.map(|(at, card)| provider(&format!("card-{}", at + 1), card, "9d")).collect();
        providers.extend(typed.iter().map(|id| typed_provider(id, &code)));
        let (profile, opened) = seal(name, threshold, providers).unwrap();
        Store::open(&machine.state).unwrap().save(&profile).unwrap();
        let secret = opened.output("backups", 32).unwrap();
        let secret = base16ct::lower::encode_string(&secret).into_bytes();
        machine.keep_secret("the passphrase", PASSPHRASE.as_bytes());
        machine.keep_secret("the recovery code", code.as_bytes());
        for at in 0..cards.len() {
            machine.secret_file(&pin_file(at), Yubikey::PIN);
        }
        let sealed = Self { machine, cards, name, code, secret };
        sealed.declare(json!({}));
        sealed
    }

    /// Writes the spec, which lists the cards; `extra` goes on top.
    pub fn declare(&self, extra: Value) {
        let cards: Vec<_> = (0..self.cards.len()).map(|at| self.listed(at)).collect();
        let mut key = self.machine.key(&self.cards[0], json!({ "cards": cards }));
        merge(&mut key, extra);
        self.machine.spec(json!({ self.name: key }));
    }

    /// A card of the spec's list.
    pub fn listed(&self, at: usize) -> Value {
        let pin = self.machine.dir().join(pin_file(at));
        json!({ "serial": serial(at), "pin": { "file": pin } })
    }

    /// Has the file of a card's PIN hold another one.
    pub fn pin(&self, at: usize, pin: &str) {
        self.machine.secret_file(&pin_file(at), pin);
    }

    /// Somebody who answers the key's questions one by one.
    pub fn person(&self, answers: &[&str]) -> Agent {
        Agent::answer_each(&format!("cryptkey:{}", self.name), answers)
    }

    /// Somebody who would be asked, and who would not answer.
    pub fn bystander(&self) -> Agent {
        Agent::decline(&format!("cryptkey:{}", self.name))
    }

    /// That the secret is published.
    #[track_caller]
    pub fn is_open(&self) {
        assert_eq!(self.machine.secret(self.name, "backup"), self.secret);
    }

    /// A boot: nothing is published any more.
    pub fn boot(&self) -> super::Output {
        self.power_off();
        self.machine.apply()
    }

    /// Nothing of what is in RAM stays.
    pub fn power_off(&self) {
        if self.machine.runtime.exists() {
            std::fs::remove_dir_all(&self.machine.runtime).unwrap();
        }
    }

    /// The text of the profile.
    pub fn profile(&self) -> String {
        std::fs::read_to_string(self.machine.profile(self.name)).unwrap()
    }
}

/// The serial of the card in a reader.
pub fn serial(reader: usize) -> String {
    (90_210_001 + reader).to_string()
}

fn pin_file(at: usize) -> String {
    format!("card-{}.pin", at + 1)
}

/// A passphrase, or a recovery code where the id says so. Stretching it costs as little as may be.
fn typed_provider(id: &str, code: &str) -> NewProvider {
    let params =
        Argon2Params { time: 2, memory_kib: 19456, threads: 1, ..Argon2Params::random().unwrap() };
    let (kind, typed) = if id.starts_with("recovery") {
        (ProviderKind::Recovery(params), code)
    } else {
        (ProviderKind::Passphrase(params), PASSPHRASE)
    };
    let secret = kind.typed(typed.as_bytes()).unwrap().unwrap();
    NewProvider { id: id.into(), kind, secret }
}
