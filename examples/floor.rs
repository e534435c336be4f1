//! The least that one key agreement costs on a PIV card: select, PIN, key agreement, reset. For
//! `make bench`; what `nixos-cryptkey apply` takes beyond this is its own.

use std::error::Error;

use pcsc::{Context, Disposition, MAX_BUFFER_SIZE, Protocols, Scope, ShareMode};

const SELECT: &str = "00A4040009A0000003080000100000";
/// The PIN 123456.
const VERIFY: &str = "0020008008313233343536FFFF";
/// Slot 9d, with the generator of P-256 as the peer's point.
const KEY_AGREEMENT: &str = "0087119D477C458200854104\
    6B17D1F2E12C4247F8BCE6E563A440F277037D812DEB33A0F4A13945D898C296\
    4FE342E2FE1A7F9B8EE7EB4A7C0F9E162BCE33576B315ECECBB6406837BF51F500";

fn main() -> Result<(), Box<dyn Error>> {
    let context = Context::establish(Scope::System)?;
    let mut card = context
        .list_readers_owned()?
        .iter()
        .find_map(|reader| context.connect(reader, ShareMode::Shared, Protocols::ANY).ok())
        .ok_or("no card")?;
    let transaction = card.transaction()?;
    for command in [SELECT, VERIFY, KEY_AGREEMENT] {
        let command = base16ct::mixed::decode_vec(command).map_err(|_| "not hex")?;
        let mut buffer = [0; MAX_BUFFER_SIZE];
        let answer = transaction.transmit(&command, &mut buffer)?;
        if !answer.ends_with(&[0x90, 0x00]) {
            return Err(format!("{command:02X?} got {answer:02X?}").into());
        }
    }
    transaction.end(Disposition::ResetCard).map_err(|(_, error)| error)?;
    Ok(())
}
