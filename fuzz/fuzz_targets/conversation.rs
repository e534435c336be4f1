//! A whole conversation with a card whose every answer is the fuzzer's.
#![no_main]

use cryptkey_fuzz::{
    script::played,
    steps::{ask, enroll, is_careful},
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some((&first, answers)) = bytes.split_first() else { return };
    let Some((mut piv, sent)) = played(answers) else { return };
    if first < 128 {
        // A key may even be proven: the fuzzer's card may multiply.
        let _ = enroll(&mut piv);
    } else {
        for step in 0..4 {
            ask(&mut piv, first.wrapping_add(step * 5));
        }
    }
    is_careful(&sent);
});
