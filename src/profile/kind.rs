//! The kinds of providers. All that a profile knows of a kind is in the kind's own file, as a [`Kind`]:
//! a new one is such a file and a line in the list here.

use super::{
    Version, format::Params as RawParams, passphrase, piv, recovery, seal::ProviderSecret,
};
use crate::error::Error;

/// What there is to know of a kind of provider.
pub(super) trait Kind {
    /// What the params say.
    type Params;

    /// Its name in the file.
    const TYPE: &'static str;

    /// How the secret comes of what a person types; none where nothing is typed for it.
    const TYPED: Option<Typed<Self::Params>> = None;

    /// What it is with a fresh salt; none for a kind whose salt needs a proof.
    const RENEWED: Option<Renewed<Self::Params>> = None;

    /// Reads the params of a file of `version`. The error says which param is wrong, and how.
    fn parse(version: Version, raw: &RawParams) -> Result<Self::Params, String>;

    /// The params as version 2 writes them, without `share_index`; none for what is never written.
    fn to_raw(params: &Self::Params) -> Option<RawParams>;
}

/// What draws fresh params.
pub(super) type Renewed<Params> = fn() -> Result<Params, Error>;

/// What makes a provider's secret of what was typed.
pub(super) type Typed<Params> = fn(&Params, &[u8]) -> Result<ProviderSecret, Wrong>;

/// Why what was typed gives no secret.
#[derive(Debug)]
pub enum Wrong {
    /// It can't be what was asked for, so it may be typed again: what is wrong with it, as a phrase
    /// ("it has 41 characters, and a recovery code has 42") that repeats none of it.
    Malformed(String),
    /// The secret could not be computed from it.
    Fault(Error),
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident($params:ty) = $kind:ty;)*) => {
        /// What a provider is, and what its params say.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub enum ProviderKind {
            $($(#[$doc])* $name($params),)*
            /// A type that only cryptkey knows, or a later version of this program, by its name.
            Unknown(String),
        }

        impl ProviderKind {
            /// The type's name in the file.
            #[must_use]
            pub fn type_name(&self) -> &str {
                match self {
                    $(Self::$name(_) => <$kind as Kind>::TYPE,)*
                    Self::Unknown(name) => name,
                }
            }

            /// Whether a person opens it, by typing.
            #[must_use]
            pub fn is_typed(&self) -> bool {
                match self {
                    $(Self::$name(_) => <$kind as Kind>::TYPED.is_some(),)*
                    Self::Unknown(_) => false,
                }
            }

            /// The provider's secret, from what a person typed (as it came, with its line ending, if
            /// any); none for a kind that is not typed. Takes a second, and the memory that the params
            /// say.
            pub fn typed(&self, typed: &[u8]) -> Option<Result<ProviderSecret, Wrong>> {
                match self {
                    $(Self::$name(params) => <$kind as Kind>::TYPED.map(|read| read(params, typed)),)*
                    Self::Unknown(_) => None,
                }
            }

            /// The same kind with a fresh salt; none for a kind that is not typed.
            pub(crate) fn renewed(&self) -> Result<Option<Self>, Error> {
                match self {
                    $(Self::$name(_) => <$kind as Kind>::RENEWED
                        .map(|renewed| renewed().map(Self::$name))
                        .transpose(),)*
                    Self::Unknown(_) => Ok(None),
                }
            }

            /// Reads the params of a type; none where there is no such type.
            pub(super) fn parse(
                name: &str,
                version: Version,
                raw: &RawParams,
            ) -> Option<Result<Self, String>> {
                match name {
                    $(<$kind as Kind>::TYPE => {
                        Some(<$kind as Kind>::parse(version, raw).map(Self::$name))
                    })*
                    _ => None,
                }
            }

            /// The params as version 2 writes them, without `share_index`; none for what is never
            /// written.
            pub(super) fn to_raw(&self) -> Option<RawParams> {
                match self {
                    $(Self::$name(params) => <$kind as Kind>::to_raw(params),)*
                    Self::Unknown(_) => None,
                }
            }
        }
    };
}

kinds! {
    /// A PIV card.
    Piv(Box<piv::Params>) = piv::Piv;
    /// A passphrase, through Argon2id.
    Passphrase(super::Argon2Params) = passphrase::Passphrase;
    /// A recovery code, through Argon2id.
    Recovery(super::Argon2Params) = recovery::Recovery;
}
