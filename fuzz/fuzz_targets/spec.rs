//! The spec: any text gives a spec that is written as it was read, or faults that can be shown.
#![no_main]

use cryptkey::spec;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    match spec::read(text) {
        Ok(read) => {
            let again = serde_json::to_string(&read).unwrap();
            assert_eq!(spec::read(&again), Ok(read), "{again}");
        }
        Err(faults) => {
            assert!(!faults.is_empty());
            for fault in faults {
                assert!(!fault.path.is_empty() && !fault.message.is_empty());
                assert!(!fault.to_string().contains(char::is_control), "{fault:?}");
            }
        }
    }
});
