//! SELECT, serial, GUID.

use virtual_card::Options;

use super::{
    super::{Fault, Piv, StatusWord, Transport, Wait},
    support::{Bench, legacy, put, scripted},
};

#[test]
fn a_card_tells_its_serial_and_its_guid() {
    let bench = Bench::new(Options { serial: 4_000_000_001, ..Options::default() });
    let mut piv = bench.piv();
    assert_eq!(piv.serial().unwrap().unwrap().to_string(), "4000000001");
    let guid = bench.card.borrow().state().guid.clone();
    assert_eq!(piv.guid().unwrap().unwrap().to_string(), String::from(guid));
}

#[test]
fn a_serial_of_0_and_a_card_without_the_command_have_none() {
    let none = Bench::new(Options { serial: 0, ..Options::default() });
    assert_eq!(none.piv().serial(), Ok(None));
    assert_eq!(Bench::new(legacy(Options::default())).piv().serial(), Ok(None));
    // Three bytes are no serial.
    assert_eq!(scripted(|_| vec![1, 2, 3, 0x90, 0]).serial(), Ok(None));
}

#[test]
fn a_card_without_a_usable_chuid_has_no_guid() {
    let missing = Bench::with_state(Options::default(), |state| {
        state.objects.remove("5fc102");
    });
    assert_eq!(missing.piv().guid(), Ok(None));
    let zeros = [&[0x34, 16][..], &[0; 16]].concat();
    for chuid in [&zeros[..], &[0x34, 2, 1, 2], &[0x30, 1, 1], &[]] {
        let bench = Bench::with_state(Options::default(), |state| put(state, "5fc102", chuid));
        assert_eq!(bench.piv().guid(), Ok(None), "{chuid:02x?}");
    }
}

#[test]
fn a_chuid_that_cannot_be_read_is_a_fault_and_not_a_card_without_guid() {
    let denied = scripted(|_| vec![0x69, 0x82]).guid();
    assert_eq!(denied, Err(Fault::Status(StatusWord::SECURITY_STATUS)));
    for garbage in [&[0x90, 0][..], &[0x54, 0, 0x90, 0], &[0x53, 9, 1, 0x90, 0]] {
        let guid = scripted(|_| garbage.to_vec()).guid();
        assert!(matches!(guid, Err(Fault::Garbage(_))), "{garbage:02x?}");
    }
}

#[test]
fn a_card_without_piv_is_told_by_its_status_word() {
    struct NoPiv;
    impl Transport for NoPiv {
        fn transmit(&mut self, _: &[u8], _: Wait) -> Result<zeroize::Zeroizing<Vec<u8>>, Fault> {
            Ok(vec![0x6a, 0x82].into())
        }
        fn reset(&mut self) -> Result<(), Fault> {
            Ok(())
        }
        fn reset_at_end(&mut self) {}
    }
    let fault = Piv::select(Box::new(NoPiv)).err();
    assert_eq!(fault, Some(Fault::Status(StatusWord::NOT_FOUND)));
}
