//! What PC/SC's errors mean, and their classes.

use pcsc::Error as E;

use super::super::{Fault, StatusWord};
use crate::error::Class;

#[test]
fn errors_of_pcsc_have_a_meaning() {
    for (error, fault) in [
        (E::NoSmartcard, Fault::Absent),
        (E::RemovedCard, Fault::Absent),
        (E::NoReadersAvailable, Fault::Absent),
        (E::UnknownReader, Fault::Absent),
        (E::ReaderUnavailable, Fault::Absent),
        (E::NoService, Fault::Absent),
        (E::ServiceStopped, Fault::Absent),
        (E::InvalidHandle, Fault::Absent),
        (E::CommError, Fault::Absent),
        (E::UnresponsiveCard, Fault::Absent),
        (E::UnpoweredCard, Fault::Absent),
        (E::ResetCard, Fault::Reset),
        (E::SharingViolation, Fault::Held),
        (E::SecurityViolation, Fault::Denied),
        (E::NoAccess, Fault::Denied),
        (E::Timeout, Fault::TimedOut),
        (E::NotTransacted, Fault::Lost),
        (E::InternalError, Fault::Pcsc(E::InternalError)),
        (E::NoMemory, Fault::Pcsc(E::NoMemory)),
        (E::ProtoMismatch, Fault::Pcsc(E::ProtoMismatch)),
    ] {
        assert_eq!(Fault::from(error), fault, "{error}");
    }
}

#[test]
fn faults_have_classes_and_only_absence_is_soft() {
    for (fault, class) in [
        (Fault::Absent, Class::NoCard),
        (Fault::Reset, Class::Busy),
        (Fault::Held, Class::Busy),
        (Fault::Denied, Class::Permission),
        (Fault::TimedOut, Class::Card),
        (Fault::Lost, Class::Card),
        (Fault::Status(StatusWord(0x6a80)), Class::Card),
        (Fault::Garbage("x"), Class::Card),
        (Fault::Pcsc(E::InternalError), Class::Card),
    ] {
        let error = fault.error("trying");
        assert_eq!(error.class, class, "{fault:?}");
        assert_eq!(error.class.is_soft(), fault == Fault::Absent);
        assert!(!error.advice.is_empty() && !error.found.ends_with('.'));
    }
}

#[test]
fn status_words_are_written_in_four_digits() {
    assert_eq!(StatusWord(0x6a80).to_string(), "status 6A80");
    assert_eq!(StatusWord(0x63c2).tries_left(), Some(2));
    assert_eq!(StatusWord(0x9000).tries_left(), None);
}
