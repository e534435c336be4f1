//! Age files: whatever is read is refused or opened, and what opens is what was encrypted.
#![no_main]

use cryptkey::secret::age::{Identity, check, decrypt};
use libfuzzer_sys::fuzz_target;

/// The scalar to which the seeds `own` and `armored` are encrypted.
const SCALAR: [u8; 32] = [7; 32];
/// What those hold.
const PLAIN: &[u8] = b"what is in the seeds";

fuzz_target!(|file: &[u8]| {
    let checked = check(file);
    if let Ok(plain) = decrypt(file, &Identity::new(&SCALAR)) {
        assert!(checked.is_ok());
        assert_eq!(&**plain, PLAIN);
    }
});
