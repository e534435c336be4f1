//! The token in hand: finding it, and a session with it. The only code that talks to hardware.
//!
//! | | |
//! | --- | --- |
//! | `find`, `recognize`, `turn` | waiting for a card, telling whether it is the one, and taking turns at it |
//! | `session`, `facts`, `pins`, `guard/`, `resets` | a session, what is known of its card, of PINs and of its reader |
//! | `scan` | a look at all readers, for people |
//! | `readers`, `pcsc/` | the seam to the readers, and PC/SC |
//! | `piv/` | PIV, the one kind of token that there is so far |

mod facts;
mod fault;
mod find;
pub mod guard;
pub mod names;
mod pcsc;
mod pins;
mod piv;
mod readers;
mod recognize;
mod resets;
mod scan;
mod session;
mod turn;

pub use facts::{Facts, Identity, PinFacts, Place};
pub use fault::{Fault, StatusWord};
pub use find::{Hunt, find};
pub use names::{
    CardName, Fingerprint, Guid, KeySource, PinPolicy, Serial, Slot, TouchPolicy, plain_text,
};
pub use pcsc::{Pcsc, service::other_clients};
pub use pins::{PinState, Pins};
pub use piv::{
    Attestation, Cipher, ManagementKey, ManagementMetadata, Pin, PinTries, Piv, Roots, SlotKey,
    SlotState, Statement, Trust, Verdict, base_point, even_key, fingerprint, is_named_by, same_key,
};
pub use readers::{Readers, Transport, Wait};
pub use recognize::{Enrolled, Wanted};
pub use scan::{CardView, ReaderView, SlotView, scan};
pub use session::Session;
pub use turn::{Turn, Turns};
