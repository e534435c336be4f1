//! The trussed backends that the PIV application needs beside the core: PINs (auth), and chunked
//! files, key sealing and key wrapping (staging). The Nitrokey's firmware joins them like this.

use trussed::{
    Platform,
    backend::BackendId,
    serde_extensions::{ExtensionDispatch, ExtensionId, ExtensionImpl},
    service::ServiceResources,
    types::Context,
};
use trussed_auth::AuthExtension;
use trussed_auth_backend::{AuthBackend, AuthContext, FilesystemLayout};
use trussed_chunked::ChunkedExtension;
use trussed_core::{
    Error,
    api::{reply::SerdeExtension as Reply, request::SerdeExtension as Request},
    types::Location,
};
use trussed_hpke::HpkeExtension;
use trussed_staging::{StagingBackend, StagingContext};
use trussed_wrap_key_to_file::WrapKeyToFileExtension;

/// The backends beside trussed's own.
pub enum Backend {
    Auth,
    Staging,
}

/// The order in which a request is offered.
pub const BACKENDS: &[BackendId<Backend>] =
    &[BackendId::Custom(Backend::Staging), BackendId::Custom(Backend::Auth), BackendId::Core];

/// What the backends remember between two requests.
#[derive(Default)]
pub struct Contexts {
    auth: AuthContext,
    staging: StagingContext,
}

pub struct Backends {
    auth: AuthBackend,
    staging: StagingBackend,
}

impl Default for Backends {
    fn default() -> Self {
        Self {
            auth: AuthBackend::new(Location::Internal, FilesystemLayout::V1),
            staging: StagingBackend::new(),
        }
    }
}

/// The extensions of trussed's interface; the numbers are ours.
#[repr(u8)]
pub enum Extension {
    Auth,
    Chunked,
    Hpke,
    WrapKeyToFile,
}

impl From<Extension> for u8 {
    fn from(extension: Extension) -> u8 {
        extension as u8
    }
}

impl TryFrom<u8> for Extension {
    type Error = Error;

    fn try_from(number: u8) -> Result<Self, Error> {
        [Self::Auth, Self::Chunked, Self::Hpke, Self::WrapKeyToFile]
            .into_iter()
            .nth(number.into())
            .ok_or(Error::FunctionNotSupported)
    }
}

impl ExtensionId<AuthExtension> for Backends {
    type Id = Extension;
    const ID: Extension = Extension::Auth;
}

impl ExtensionId<ChunkedExtension> for Backends {
    type Id = Extension;
    const ID: Extension = Extension::Chunked;
}

impl ExtensionId<HpkeExtension> for Backends {
    type Id = Extension;
    const ID: Extension = Extension::Hpke;
}

impl ExtensionId<WrapKeyToFileExtension> for Backends {
    type Id = Extension;
    const ID: Extension = Extension::WrapKeyToFile;
}

impl ExtensionDispatch for Backends {
    type BackendId = Backend;
    type Context = Contexts;
    type ExtensionId = Extension;

    fn extension_request<P: Platform>(
        &mut self,
        backend: &Backend,
        extension: &Extension,
        ctx: &mut Context<Contexts>,
        request: &Request,
        resources: &mut ServiceResources<P>,
    ) -> Result<Reply, Error> {
        macro_rules! forward {
            ($extension:ty, $backend:ident) => {
                ExtensionImpl::<$extension>::extension_request_serialized(
                    &mut self.$backend,
                    &mut ctx.core,
                    &mut ctx.backends.$backend,
                    request,
                    resources,
                )
            };
        }
        match (backend, extension) {
            (Backend::Auth, Extension::Auth) => forward!(AuthExtension, auth),
            (Backend::Staging, Extension::Chunked) => forward!(ChunkedExtension, staging),
            (Backend::Staging, Extension::Hpke) => forward!(HpkeExtension, staging),
            (Backend::Staging, Extension::WrapKeyToFile) => {
                forward!(WrapKeyToFileExtension, staging)
            }
            _ => Err(Error::RequestNotAvailable),
        }
    }
}
