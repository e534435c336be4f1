//! Certificates as makers and cards have them, made by `openssl`.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
};

use tempfile::TempDir;

/// Basic constraints of a CA with so many CAs below it.
pub fn ca(path_len: u8) -> String {
    format!("basicConstraints = critical, CA:TRUE, pathlen:{path_len}")
}

/// Yubico's extensions of a leaf: serial, PIN policy and touch policy.
pub fn about(serial: u32, pin: u8, touch: u8) -> String {
    let [a, b, c, d] = serial.to_be_bytes();
    format!(
        "1.3.6.1.4.1.41482.3.3 = DER:05:07:01\n\
         1.3.6.1.4.1.41482.3.7 = DER:02:04:{a:02x}:{b:02x}:{c:02x}:{d:02x}\n\
         1.3.6.1.4.1.41482.3.8 = DER:{pin:02x}:{touch:02x}\n\
         1.3.6.1.4.1.41482.3.9 = DER:01"
    )
}

/// A key, and its certificate.
#[derive(Clone)]
pub struct Entity {
    pub key: PathBuf,
    /// The certificate, in DER.
    pub der: Vec<u8>,
}

impl Entity {
    pub fn pem(&self) -> String {
        let digits = <base64ct::Base64 as base64ct::Encoding>::encode_string(&self.der);
        format!("-----BEGIN CERTIFICATE-----\n{digits}\n-----END CERTIFICATE-----\n")
    }
}

/// A place where keys and certificates are made.
pub struct Office {
    dir: TempDir,
    count: AtomicU32,
}

impl Office {
    pub fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), count: AtomicU32::new(0) }
    }

    fn file(&self, what: &str) -> PathBuf {
        let number = self.count.fetch_add(1, Ordering::Relaxed);
        self.dir.path().join(format!("{number}.{what}"))
    }

    /// A new key: `rsa:2048` or `P-256`.
    pub fn key(&self, kind: &str) -> PathBuf {
        let path = self.file("key");
        let (algorithm, option) = match kind.split_once(':') {
            Some((_, bits)) => ("RSA", format!("rsa_keygen_bits:{bits}")),
            None => ("EC", format!("ec_paramgen_curve:{kind}")),
        };
        openssl(&["genpkey", "-algorithm", algorithm, "-pkeyopt", &option], &path);
        path
    }

    /// A self-signed certificate of a new key.
    pub fn root(&self, name: &str, kind: &str, extensions: &str) -> Entity {
        let key = self.key(kind);
        let args = ["-key", key.to_str().unwrap()];
        Entity { der: self.certificate(name, &args, extensions), key }
    }

    /// A certificate of a new key, signed by `issuer` with `digest`.
    pub fn issue(
        &self,
        issuer: &Entity,
        name: &str,
        kind: &str,
        extensions: &str,
        digest: &str,
    ) -> Entity {
        self.certify(issuer, name, &self.key(kind), extensions, digest)
    }

    /// The same of a key that is there.
    pub fn certify(
        &self,
        issuer: &Entity,
        name: &str,
        key: &Path,
        extensions: &str,
        digest: &str,
    ) -> Entity {
        let [public, authority] = ["pub", "pem"].map(|what| self.file(what));
        openssl(&["pkey", "-pubout", "-in", key.to_str().unwrap()], &public);
        fs::write(&authority, issuer.pem()).unwrap();
        let args = [
            "-force_pubkey",
            public.to_str().unwrap(),
            "-CA",
            authority.to_str().unwrap(),
            "-CAkey",
            issuer.key.to_str().unwrap(),
            digest,
        ];
        Entity { der: self.certificate(name, &args, extensions), key: key.into() }
    }

    fn certificate(&self, name: &str, args: &[&str], extensions: &str) -> Vec<u8> {
        let [config, out] = ["cnf", "der"].map(|what| self.file(what));
        fs::write(&config, format!("[ext]\n{extensions}\n")).unwrap();
        let subject = format!("/CN={name}");
        let config = config.to_str().unwrap();
        let mut all = vec!["x509", "-new", "-subj", &subject, "-days", "1", "-outform", "DER"];
        all.extend(["-extfile", config, "-extensions", "ext"]);
        all.extend(args);
        openssl(&all, &out);
        fs::read(out).unwrap()
    }
}

fn openssl(args: &[&str], out: &Path) {
    let output = Command::new("openssl").args(args).arg("-out").arg(out).output().unwrap();
    assert!(output.status.success(), "openssl {args:?}: {output:?}");
}
