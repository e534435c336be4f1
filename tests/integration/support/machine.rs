//! A machine: pcscd, a state directory on disk, a runtime directory in RAM, and the program.

use std::{
    cell::RefCell,
    env,
    fs::{self, DirBuilder, OpenOptions, Permissions},
    io::Write,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt as _},
    path::{Path, PathBuf},
    process::Command,
    thread,
};

use serde_json::{Value, json};
use tempfile::TempDir;
use virtual_card::stack::Pcscd;

use super::{Output, Running, Systemd, TestCard, attack::opened_without_a_card, leak::Secrets};

/// A machine of its own for each test.
pub struct Machine {
    pub pcscd: Pcscd,
    /// Where the spec says that profiles are.
    pub state: PathBuf,
    /// Where the spec says that secrets go.
    pub runtime: PathBuf,
    /// What takes the place of systemctl, where a test looks at it.
    pub systemd: Option<Systemd>,
    dir: TempDir,
    _ram: TempDir,
    secrets: RefCell<Secrets>,
}

impl Machine {
    /// A machine with so many readers.
    pub fn new(readers: usize) -> Self {
        let dir = TempDir::new().unwrap();
        let ram = TempDir::new_in("/dev/shm").unwrap();
        let state = dir.path().join("state");
        DirBuilder::new().mode(0o700).create(&state).unwrap();
        Self {
            pcscd: Pcscd::start(readers).unwrap(),
            state,
            runtime: ram.path().join("cryptkey"),
            systemd: None,
            dir,
            _ram: ram,
            secrets: RefCell::default(),
        }
    }

    /// A directory for whatever a test needs.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Writes a file that only root may read, whose content must never be printed; how a spec
    /// names it.
    pub fn secret_file(&self, name: &str, content: &str) -> Value {
        let path = self.dir.path().join(name);
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&path)
            .unwrap();
        writeln!(file, "{content}").unwrap();
        self.keep_secret(name, content.as_bytes());
        json!({ "file": path })
    }

    /// From now on no run may print this.
    pub fn keep_secret(&self, what: &str, secret: &[u8]) {
        self.secrets.borrow_mut().add(what, secret);
    }

    /// A key of a spec, with a card's PIN and one secret; `extra` goes on top.
    pub fn key<C: TestCard>(&self, _card: &C, extra: Value) -> Value {
        let mut key = json!({
            "pin": self.secret_file(&format!("{}.pin", C::NAME), C::PIN),
            "managementKey": { "factoryDefault": true },
            "cardTimeoutSec": 20,
            "secrets": { "backup": { "use": "backups", "format": "hex" } },
        });
        merge(&mut key, extra);
        key
    }

    /// Writes the spec.
    pub fn spec(&self, keys: Value) {
        self.write_spec(&self.spec_file(), keys, &[]);
    }

    /// Writes a spec of one key, beside which others are declared; its file.
    pub fn own_spec(&self, name: &str, key: Value, others: &[&str]) -> PathBuf {
        let path = self.dir.path().join(format!("{name}.json"));
        self.write_spec(&path, json!({ name: key }), others);
        path
    }

    fn write_spec(&self, path: &Path, keys: Value, others: &[&str]) {
        let spec = json!({
            "version": 1,
            "stateDir": self.state,
            "runtimeDir": self.runtime,
            "keys": keys,
            "otherKeys": others,
        });
        fs::write(path, spec.to_string()).unwrap();
    }

    /// Writes a spec of one key, called `vault`.
    pub fn vault<C: TestCard>(&self, card: &C, extra: Value) {
        self.spec(json!({ "vault": self.key(card, extra) }));
    }

    pub fn spec_file(&self) -> PathBuf {
        self.dir.path().join("spec.json")
    }

    /// The program, with the spec where the command takes one.
    pub fn command(&self, args: &[&str]) -> Command {
        self.command_with(args, &self.spec_file())
    }

    /// The same with another spec. `apply` asks the card: what it does without is in `steady`.
    pub fn command_with(&self, args: &[&str], spec: &Path) -> Command {
        let mut command = self.plain_command(args, spec);
        if args[0] == "apply" {
            command.arg("--always");
        }
        command
    }

    /// The same with nothing added.
    fn plain_command(&self, args: &[&str], spec: &Path) -> Command {
        // The campaign runs the release binary.
        let program = env::var("CRYPTKEY_PROGRAM");
        let program = program.as_deref().unwrap_or(env!("CARGO_BIN_EXE_nixos-cryptkey"));
        let mut command = self.pcscd.command(program);
        command.args(args);
        for variable in ["NOTIFY_SOCKET", "CREDENTIALS_DIRECTORY", "JOURNAL_STREAM", "COLUMNS"] {
            command.env_remove(variable);
        }
        if let Some(systemd) = &self.systemd {
            command.env("PATH", systemd.search_path());
        }
        if !["cards", "schema", "help", "--help", "--version"].contains(&args[0]) {
            command.arg("--spec").arg(spec);
        }
        command
    }

    /// Runs it to its end.
    pub fn run(&self, args: &[&str]) -> Output {
        self.finish(Running::start(self.command(args)))
    }

    /// `apply`, at the most verbose level, with JSON.
    pub fn apply(&self) -> Output {
        self.run(&["apply", "--json", "-vv"])
    }

    /// `apply`, which asks the card only where something may change.
    pub fn reload(&self) -> Output {
        self.reload_with(&["--json", "-vv"])
    }

    /// The same with these arguments.
    pub fn reload_with(&self, args: &[&str]) -> Output {
        let command = self.plain_command(&[&["apply"], args].concat(), &self.spec_file());
        self.finish(Running::start(command))
    }

    /// `apply` in the background.
    pub fn start(&self) -> Running {
        self.start_with(&self.spec_file())
    }

    /// The same with another spec.
    pub fn start_with(&self, spec: &Path) -> Running {
        Running::start(self.command_with(&["apply", "--json", "-vv"], spec))
    }

    /// Waits for a run, and checks what must hold after each.
    pub fn finish(&self, running: Running) -> Output {
        let output = running.output();
        let published = self.published();
        let (public, secret): (Vec<_>, Vec<_>) =
            published.into_iter().partition(|(path, _)| is_public(path));
        let public: Vec<u8> = public.into_iter().flat_map(|(_, content)| content).collect();
        let mut secrets = self.secrets.borrow_mut();
        for (path, content) in secret.iter().filter(|(_, content)| content.len() >= 16) {
            // The beginning of a long one stands for all of it.
            secrets.add_but(path, &content[..content.len().min(4096)], &public);
        }
        drop(secrets);
        for text in [&output.stdout, &output.stderr] {
            self.no_secret_in(&output.to_string(), text.as_bytes());
        }
        assert!(!output.stderr.contains("panicked"), "{output}");
        output
    }

    /// That none of the secrets is in `text`.
    #[track_caller]
    pub fn no_secret_in(&self, what: &str, text: &[u8]) {
        assert_eq!(self.secrets.borrow().found_in(text), None, "in {what}");
    }

    /// Whether any of the secrets is in `text`.
    pub fn finds_secret_in(&self, text: &[u8]) -> bool {
        self.secrets.borrow().found_in(text).is_some()
    }

    /// Every published file, as `key/secret`.
    pub fn published(&self) -> Vec<(String, Vec<u8>)> {
        let mut files = Vec::new();
        for key in fs::read_dir(&self.runtime).into_iter().flatten() {
            let key = key.unwrap();
            let name = key.file_name().into_string().unwrap();
            if name.starts_with('.') {
                continue;
            }
            // A test may have taken the target away.
            for secret in fs::read_dir(key.path()).into_iter().flatten() {
                let path = secret.unwrap().path();
                let secret = path.file_name().unwrap().to_str().unwrap();
                files.push((format!("{name}/{secret}"), fs::read(&path).unwrap()));
            }
        }
        files
    }

    /// A published secret.
    #[track_caller]
    pub fn secret(&self, key: &str, secret: &str) -> Vec<u8> {
        let path = self.runtime.join(key).join(secret);
        fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
    }

    /// The GUID of the card in a reader.
    pub fn guid(&self, reader: usize) -> String {
        let cards = self.run(&["cards", "--json"]).exits(0).json();
        let name = Pcscd::reader_name(reader);
        let readers = cards["readers"].as_array().unwrap();
        let view = readers.iter().find(|view| view["reader"] == name.as_str());
        view.unwrap()["card"]["guid"].as_str().unwrap().into()
    }

    pub fn profile(&self, key: &str) -> PathBuf {
        self.state.join(format!("{key}.toml"))
    }

    /// Loses the profile of a key, and what is in RAM: so a boot finds it.
    pub fn lose(&self, key: &str) {
        fs::remove_file(self.profile(key)).unwrap();
        if self.runtime.exists() {
            fs::remove_dir_all(&self.runtime).unwrap();
        }
    }

    /// Takes the profile of a key out of the state directory, as one that the configuration ships; its
    /// file.
    pub fn ship(&self, key: &str) -> PathBuf {
        let shipped = self.dir().join("shipped.toml");
        fs::rename(self.profile(key), &shipped).unwrap();
        fs::set_permissions(&shipped, Permissions::from_mode(0o444)).unwrap();
        shipped
    }

    /// The names of all profiles in the state directory.
    pub fn profiles(&self) -> Vec<String> {
        let paths = fs::read_dir(&self.state).unwrap().map(|entry| entry.unwrap().path());
        let profiles = paths.filter(|path| path.extension().is_some_and(|end| end == "toml"));
        profiles.map(|path| path.file_name().unwrap().to_str().unwrap().into()).collect()
    }

    /// The hex of a use, as `tests/expected.py` computes it from the cards' private keys.
    #[track_caller]
    pub fn expected(&self, key: &str, private_keys: &[String], usage: &str) -> Vec<u8> {
        self.expected_as(key, private_keys, &["--use", usage, "--format", "hex"])
    }

    #[track_caller]
    pub fn expected_as(&self, key: &str, private_keys: &[String], args: &[&str]) -> Vec<u8> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/expected.py");
        let mut command = Command::new("/usr/bin/python3");
        command.arg(script).arg("--profile").arg(self.profile(key));
        for private_key in private_keys {
            command.args(["--private-key", private_key]);
        }
        let output = command.args(args).output().unwrap();
        assert!(output.status.success(), "{output:?} (apt-get install python3-cryptography)");
        output.stdout
    }
}

impl Drop for Machine {
    /// No profile that any test writes opens without its card.
    fn drop(&mut self) {
        if thread::panicking() {
            return;
        }
        for entry in fs::read_dir(&self.state).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|e| e == "toml") {
                let text = fs::read_to_string(&path).unwrap_or_default();
                // Damaged ones, and those of cryptkey v1, which do open, are a test's own doing.
                if text.parse::<toml::Table>().is_ok() && text.contains("version = 2\n") {
                    assert_eq!(opened_without_a_card(&text), [""; 0], "{text}");
                }
            }
        }
    }
}

/// Puts the fields of `extra` over those of `base`.
pub fn merge(base: &mut Value, extra: Value) {
    if let (Value::Object(base), Value::Object(extra)) = (base, extra) {
        base.extend(extra);
    }
}

/// Whether a published file is a public half.
fn is_public(path: &str) -> bool {
    Path::new(path).extension().is_some_and(|extension| extension == "pub")
}
