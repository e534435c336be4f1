//! What the memory of the release binary holds once a passphrase and a recovery code were typed, and
//! what Argon2 leaves of the memory that it worked in.

use std::collections::{BTreeMap, BTreeSet};

use argon2::{Algorithm, Argon2, Block, Params, Version};
use cryptkey::profile::{Profile, ProviderKind};
use nix::libc;
use serde_json::json;

use crate::{
    extent::tell,
    memory::{Map, Moment, Needles, snapshot},
    support::{
        TestCard as _,
        sealed::{PASSPHRASE, Sealed},
    },
    tracer::{Then, trace},
};

/// How many bytes Argon2 works in here.
const WORK: u64 = 19456 * 1024;

#[test]
fn nothing_of_what_was_typed_is_left() {
    let sealed = Sealed::new("memory-typed", 2, 1, &["passphrase-1", "recovery-1"]);
    sealed.cards[0].remove();
    sealed.declare(json!({ "cardTimeoutSec": 0 }));
    let needles = needles(&sealed);
    let _person = sealed.person(&[PASSPHRASE, &sealed.code]);

    let mut memory: BTreeMap<Moment, Vec<Map>> = BTreeMap::new();
    let mut given_back = Vec::new();
    let ended = trace(&sealed.machine.command(&["apply"]), |stop| {
        let [address, length, ..] = stop.arguments;
        let is_work = (WORK..WORK + (1 << 16)).contains(&length);
        if stop.call == libc::SYS_munmap && !stop.done && is_work {
            let bytes = stop.read(address, usize::try_from(length).unwrap());
            // What the allocator keeps before the first block is not Argon2's.
            given_back.push(bytes[4096..].iter().all(|byte| *byte == 0));
        }
        if let Some(moment) = Moment::of(stop) {
            let parts = snapshot(stop.process, moment != Moment::Working);
            memory.entry(moment).or_default().extend(parts);
        }
        Then::GoOn
    });
    assert_eq!(ended.code(), Some(0), "{ended:?}");
    sealed.is_open();
    // The first one comes from the kernel and goes back there; later ones may stay with the allocator.
    assert!(!given_back.is_empty() && !given_back.contains(&false), "{given_back:?}");

    let found = |moment| needles.found_in(&memory[&moment]);
    let working = found(Moment::Working);
    for what in ["the secret of passphrase-1", "the output in hex"] {
        let is_found = working.iter().any(|found| found.starts_with(what));
        assert!(is_found, "{what} was in use, and not found: {working:?}");
    }
    let told = |moment| {
        let mut found = found(moment);
        // What may well be there shows that the search finds it.
        let (id, rest): (BTreeSet<_>, _) = found.iter().cloned().partition(|it| it.starts_with(ID));
        assert!(moment == Moment::Exit || !id.is_empty(), "{found:?}");
        found = rest;
        found
    };
    for moment in [Moment::Telling, Moment::Exit] {
        assert_eq!(told(moment), BTreeSet::new(), "{moment:?}");
    }
    tell(
        "memory: a passphrase and a recovery code were typed; when the result is told and at exit, \
         nothing is left of them, of what Argon2 made of them, or of the blocks that it worked in",
    );
}

const ID: &str = "the profile's id";

/// All that is looked for.
fn needles(sealed: &Sealed) -> Needles {
    let mut needles = Needles::default();
    let profile = Profile::parse(&sealed.profile()).unwrap();
    needles.add(ID, &base16ct::mixed::decode_vec(profile.id()).unwrap());
    needles.add("the output", &base16ct::mixed::decode_vec(&sealed.secret).unwrap());
    for provider in profile.providers() {
        let (typed, params) = match provider.kind() {
            ProviderKind::Passphrase(params) => (PASSPHRASE.to_owned(), params),
            ProviderKind::Recovery(params) => (sealed.code.replace('-', ""), params),
            _ => continue,
        };
        let id = provider.id();
        needles.add(&format!("what was typed for {id}"), typed.as_bytes());
        let secret = params.secret(typed.as_bytes()).unwrap();
        needles.add(&format!("the secret of {id}"), secret.as_bytes());
        let work = Params::new(params.memory_kib, params.time, params.threads, Some(32)).unwrap();
        let mut blocks = vec![Block::new(); work.block_count()];
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, work);
        let mut same = [0; 32];
        argon2
            .hash_password_into_with_memory(typed.as_bytes(), &params.salt, &mut same, &mut blocks)
            .unwrap();
        assert_eq!(&same, secret.as_bytes());
        // All of them would take too long to look for: the first and the last, and some between.
        let last = blocks.len() - 1;
        for at in (0..last).step_by(97).chain([last]) {
            let words: &[u64] = blocks[at].as_ref();
            let bytes: Vec<u8> = words[..4].iter().flat_map(|word| word.to_le_bytes()).collect();
            needles.add_as_it_is(&format!("a block of {id}"), &bytes);
        }
    }
    // With its dashes, as it was typed.
    needles.add("the code with dashes", sealed.code.as_bytes());
    needles
}
