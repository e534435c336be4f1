//! The profile's TOML file, read and written as `docs/key-schedule.md` has it.
//!
//! Reading is strict: hex is lower case and of its exact length, numbers are in their one form,
//! and control characters are refused. What a later version may add is a text field or a param, which
//! is read, kept, and covered by the integrity; what a reader must not miss comes with another
//! version. So a changed byte is refused here, or
//! changes what the integrity is computed over, or changes nothing.
//!
//! The errors are reasons without the file's name, for [`super::store`] to put after it. They
//! never quote sealed data, as a version 1 file is a secret.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

use serde::Deserialize;

use super::{Profile, Provider, ProviderKind, Recipient, Version};

/// The longest file that is read, in bytes. Real ones have a few thousand.
pub const MAX_SIZE: usize = 1 << 18;

/// The text field that names the key's age recipient.
pub(super) const RECIPIENT: &str = "recipient";

/// Texts by their names, as they stand in the file.
pub(super) type Params = BTreeMap<String, String>;

/// The file as TOML sees it.
#[derive(Deserialize)]
struct RawProfile {
    version: u8,
    name: String,
    threshold: u8,
    output_salt: String,
    integrity: String,
    providers: Vec<RawProvider>,
    #[serde(flatten)]
    fields: Params,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawProvider {
    r#type: String,
    id: String,
    encrypted_share: String,
    nonce: String,
    share_salt: String,
    #[serde(default)]
    params: Params,
}

impl Profile {
    /// Reads a profile's file.
    ///
    /// # Errors
    /// The reason, naming the field and what is allowed there, without the name of the file.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.len() > MAX_SIZE {
            return Err(format!("it is longer than {MAX_SIZE} bytes"));
        }
        let raw: RawProfile = toml::from_str(text).map_err(|error| {
            // toml's own text quotes the line; only its message and place are safe to log.
            let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or(text);
            format!("line {}: {}", before.matches('\n').count() + 1, error.message())
        })?;
        raw.check()
    }

    /// Writes the profile's file. What it gives, [`Profile::parse`] reads back as the same profile.
    #[must_use]
    pub fn to_toml(&self) -> String {
        let mut out = format!(
            "version = {}\nname = {}\nthreshold = {}\noutput_salt = \"{}\"\n",
            self.version as u8,
            quoted(&self.name),
            self.threshold,
            hex(&self.output_salt),
        );
        for (field, value) in &self.fields {
            // Writing to a String can't fail.
            let _ = writeln!(out, "{field} = {}", quoted(value));
        }
        let _ = writeln!(out, "integrity = \"{}\"", hex(&self.integrity));
        for provider in &self.providers {
            let _ = write!(
                out,
                "\n[[providers]]\n  type = {}\n  id = {}\n  encrypted_share = \"{}\"\n  \
                 nonce = \"{}\"\n  share_salt = \"{}\"\n  [providers.params]\n",
                quoted(provider.kind.type_name()),
                quoted(&provider.id),
                hex(&provider.encrypted_share),
                hex(&provider.nonce),
                hex(&provider.share_salt),
            );
            for (key, value) in &provider.params {
                let _ = writeln!(out, "    {key} = {}", quoted(value));
            }
        }
        out
    }

    /// The lines that the integrity is computed over, each ended by LF. No field holds an LF and
    /// no param's key an `=`, so different profiles have different lines.
    pub(super) fn integrity_lines(&self) -> String {
        let mut out = format!(
            "version={}\nname={}\nthreshold={}\noutput_salt={}\n",
            self.version as u8,
            self.name,
            self.threshold,
            hex(&self.output_salt),
        );
        for (field, value) in &self.fields {
            let _ = writeln!(out, "field:{field}={value}");
        }
        for provider in &self.providers {
            let _ = write!(
                out,
                "type={}\nid={}\nencrypted_share={}\nnonce={}\nshare_salt={}\n",
                provider.kind.type_name(),
                provider.id,
                hex(&provider.encrypted_share),
                hex(&provider.nonce),
                hex(&provider.share_salt),
            );
            // A BTreeMap goes through its keys in byte order, as the format has it.
            for (key, value) in &provider.params {
                let _ = writeln!(out, "param:{key}={value}");
            }
        }
        out
    }
}

impl RawProfile {
    fn check(self) -> Result<Profile, String> {
        let version = match self.version {
            1 => Version::V1,
            2 => Version::V2,
            other => {
                return Err(format!(
                    "version: found {other}; this program reads 1 and 2 (a newer one may have \
                     written it)"
                ));
            }
        };
        let fewest: u8 = if version == Version::V1 { 2 } else { 1 };
        if self.providers.len() < fewest.into() || self.providers.len() > 255 {
            return Err(format!(
                "providers: found {}; allowed are {fewest} to 255",
                self.providers.len()
            ));
        }
        if self.threshold < fewest || usize::from(self.threshold) > self.providers.len() {
            return Err(format!(
                "threshold: found {}; allowed are {fewest} to the number of providers, {}",
                self.threshold,
                self.providers.len()
            ));
        }
        let mut providers = Vec::with_capacity(self.providers.len());
        let (mut ids, mut indexes) = (BTreeSet::new(), BTreeSet::new());
        for (place, raw) in self.providers.into_iter().enumerate() {
            let at = |reason| format!("providers[{place}].{reason}");
            let provider = raw.check(version).map_err(at)?;
            if !ids.insert(provider.id.clone()) {
                return Err(at("id: another provider has the same".into()));
            }
            if provider.share_index.is_some_and(|index| !indexes.insert(index)) {
                return Err(at("params.share_index: another provider has the same".into()));
            }
            providers.push(provider);
        }
        word("name", &self.name)?;
        texts("fields", &self.fields)?;
        if version == Version::V1
            && let Some(field) = self.fields.keys().next()
        {
            return Err(format!("{field}: version 1 has no such field"));
        }
        if self.fields.get(RECIPIENT).is_some_and(|text| Recipient::parse(text).is_none()) {
            return Err(format!("{RECIPIENT}: it is no age recipient"));
        }
        Ok(Profile {
            version,
            name: self.name,
            threshold: self.threshold,
            output_salt: unhex("output_salt", &self.output_salt)?,
            fields: self.fields,
            integrity: unhex("integrity", &self.integrity)?,
            providers,
        })
    }
}

impl RawProvider {
    fn check(self, version: Version) -> Result<Provider, String> {
        texts("params", &self.params)?;
        let name = self.r#type.as_str();
        let kind = match ProviderKind::parse(name, version, &self.params) {
            Some(kind) => kind?,
            // The type stands before a colon in what the share is bound to.
            None if name.contains(':') => return Err("type: holds a colon".into()),
            None => {
                word("type", name)?;
                ProviderKind::Unknown(name.into())
            }
        };
        let share_index = match version {
            Version::V1 => match kind {
                ProviderKind::Unknown(_) => None,
                _ => not_in_version_1(&self.params, &["share_index"]).map(|()| None)?,
            },
            Version::V2 => match decimal("share_index", required(&self.params, "share_index")?)? {
                0 => return Err("params.share_index: found 0; allowed are 1 to 255".into()),
                index => Some(index),
            },
        };
        word("id", &self.id)?;
        Ok(Provider {
            kind,
            id: self.id,
            encrypted_share: unhex("encrypted_share", &self.encrypted_share)?,
            nonce: unhex("nonce", &self.nonce)?,
            share_salt: unhex("share_salt", &self.share_salt)?,
            params: self.params,
            share_index,
        })
    }
}

/// Refuses a name or a text of `texts` that would stand for another one in the lines of the integrity.
fn texts(at: &str, texts: &Params) -> Result<(), String> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
    for (name, value) in texts {
        if name.is_empty() || !name.bytes().all(plain) {
            return Err(format!("{at}: a name holds more than letters, digits, _ and -"));
        }
        if value.chars().any(char::is_control) {
            return Err(format!("{at}.{name}: holds a control character"));
        }
    }
    Ok(())
}

/// Refuses params that mean something in version 2. Else a file of version 1 may have more than we know.
pub(super) fn not_in_version_1(params: &Params, newer: &[&str]) -> Result<(), String> {
    match newer.iter().find(|key| params.contains_key(**key)) {
        Some(key) => Err(format!("params.{key}: version 1 has no such param")),
        None => Ok(()),
    }
}

/// The param, which must be there.
pub(super) fn required<'a>(params: &'a Params, key: &str) -> Result<&'a str, String> {
    params.get(key).map(String::as_str).ok_or_else(|| format!("params.{key}: is missing"))
}

/// The param, which must be there, as `N` bytes from lower-case hex.
pub(super) fn hex_param<const N: usize>(params: &Params, key: &str) -> Result<[u8; N], String> {
    unhex(&format!("params.{key}"), required(params, key)?)
}

/// Lower-case hex.
pub(super) fn hex(bytes: &[u8]) -> String {
    base16ct::lower::encode_string(bytes)
}

fn unhex<const N: usize>(field: &str, text: &str) -> Result<[u8; N], String> {
    let mut out = [0; N];
    match base16ct::lower::decode(text, &mut out).map(<[u8]>::len) {
        Ok(length) if length == N => Ok(out),
        _ => Err(format!(
            "{field}: allowed are {} lower-case hex digits; found {} bytes of text",
            2 * N,
            text.len()
        )),
    }
}

/// A number in the one form that it is written in: no sign, no leading zero.
pub(super) fn decimal<T: std::str::FromStr + ToString>(key: &str, text: &str) -> Result<T, String> {
    let number = text.parse().ok().filter(|number: &T| number.to_string() == text);
    number.ok_or_else(|| format!("params.{key}: found {text:?}; allowed is a decimal number"))
}

/// Refuses a text that is empty or holds a control character.
pub(super) fn word(field: &str, text: &str) -> Result<(), String> {
    if text.is_empty() || text.chars().any(char::is_control) {
        return Err(format!("{field}: is empty or holds a control character"));
    }
    Ok(())
}

/// A TOML basic string. Control characters, which would need more escapes, are in no field.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}
