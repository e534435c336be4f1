//! What the owner of a published secret may do with it.

use std::{
    fs::{self, File, Permissions},
    io::{BufRead as _, BufReader},
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown},
    process::{Child, Command, Stdio},
};

use serde_json::json;

use crate::{
    planted::bench,
    support::{TestCard, published::generations},
};

/// Whoever a secret belongs to: a process of theirs.
struct Owner(Child);

impl Owner {
    /// Runs Python as user 1000; it prints a line once it is at it.
    fn does(code: &str) -> Self {
        let script = format!(
            "import os, fcntl, signal, sys, time\nos.setgid(1000)\nos.setuid(1000)\n{code}\nprint('ready', flush=True)\nsys.stdin.read()"
        );
        let mut child = Command::new("/usr/bin/python3")
            .args(["-c", &script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n", "{code}");
        Self(child)
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// The owner of a published secret may do with that file whatever owners may: it is put right, and
/// keeps nobody else from their secrets.
#[test]
fn the_owner_of_a_secret_harms_nobody_else() {
    let (machine, card) = bench();
    let ram = machine.runtime.parent().unwrap();
    fs::set_permissions(ram, Permissions::from_mode(0o755)).unwrap();
    let theirs = ram.join("theirs");
    fs::create_dir(&theirs).unwrap();
    chown(&theirs, Some(1000), Some(1000)).unwrap();
    let with = |usage: &str| {
        let their =
            json!({ "use": "one", "format": "hex", "owner": 1000, "group": 1000, "mode": "0600" });
        let others = json!({ "use": usage, "format": "hex", "owner": "daemon" });
        machine.vault(&card, json!({ "secrets": { "backup": their, "other": others } }));
    };
    with("two");
    machine.apply().exits(0);
    let (right, path) = (machine.secret("vault", "backup"), machine.runtime.join("vault/backup"));
    let (file, dir) = (path.to_str().unwrap(), theirs.to_str().unwrap());
    let deeds = [
        format!("open('{file}', 'w').write('theirs')"),
        format!("os.truncate('{file}', 1 << 40)"),
        format!("os.chmod('{file}', 0o777)"),
        format!("os.chmod('{file}', 0)"),
        format!("os.link('{file}', '{dir}/link'); os.chmod('{file}', 0o666)"),
        format!("f = open('{file}', 'r+'); fcntl.flock(f, fcntl.LOCK_EX); f.write('x'); f.flush()"),
        format!("f = open('{file}', 'r+'); fcntl.lockf(f, fcntl.LOCK_EX)"),
        // A lease: who opens the file has to wait for its owner, up to 45 s.
        format!(
            "signal.signal(signal.SIGIO, signal.SIG_IGN); f = open('{file}', 'r+'); \
             fcntl.fcntl(f, fcntl.F_SETLEASE, fcntl.F_WRLCK)"
        ),
    ];
    for (number, deed) in deeds.iter().enumerate() {
        let owner = Owner::does(deed);
        let usage = format!("use {number}");
        with(&usage);
        machine.apply().exits(0);
        assert_eq!(machine.secret("vault", "backup"), right, "{deed}");
        let found = fs::metadata(&path).unwrap();
        assert_eq!(
            (found.uid(), found.gid(), found.mode() & 0o7777),
            (1000, 1000, 0o600),
            "{deed}"
        );
        let others = machine.expected("vault", &[card.private_key("9d")], &usage);
        assert_eq!(machine.secret("vault", "other"), others, "{deed}");
        drop(owner);
        assert!(machine.apply().exits(0).unchanged("vault"), "{deed}");
    }
    // A file of theirs by another name is no longer the secret, and was not given away.
    let link = fs::metadata(theirs.join("link")).unwrap();
    assert_eq!((link.uid(), link.mode() & 0o777), (1000, 0o666));
    // What they hold open or leased is scrubbed all the same.
    let _owner = Owner::does(&deeds[7]);
    machine.run(&["scrub"]).exits(0);
    assert_eq!((machine.published(), generations(&machine.runtime)), (vec![], 0));
    // They reach nothing but their own: neither the list of others' nor a lock.
    machine.apply().exits(0);
    for denied in [
        format!("os.listdir('{}')", machine.runtime.display()),
        format!("os.listdir('{}/vault')", machine.runtime.display()),
        format!("open('{}/vault/other')", machine.runtime.display()),
        format!("open('{}/.locks/vault')", machine.runtime.display()),
        format!("os.unlink('{file}')"),
        format!("os.rename('{dir}/link', '{file}')"),
        format!("os.symlink('/etc', '{}/x')", machine.runtime.display()),
    ] {
        drop(Owner::does(&format!(
            "try:\n    {denied}\nexcept PermissionError:\n    pass\nelse:\n    sys.exit('{}')",
            "not denied"
        )));
    }
    assert!(File::open(&path).is_ok());
}
