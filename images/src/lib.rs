//! The image service of Pintle: references, registry client, layer store, unpacking, snapshots.
//!
//! [`Store::pull`] streams an image from its registry into the store, all layers side by side, verified on the way;
//! [`Store::snapshot`] gives a container its overlayfs folders. See the headers of `store` for the layout on disk,
//! of `pull::layer` for the pipeline, and of `unpack` for what a hostile layer can't do.

mod auth;
mod config;
mod crash;
mod digest;
mod error;
mod image;
mod manifest;
mod pull;
mod reference;
mod registry;
mod store;
mod unpack;

pub use auth::{Auth, AuthFields, Credentials};
pub use config::StoreConfig;
pub use digest::{Digest, DigestError};
pub use error::{Error, Result};
pub use image::{Image, Usage};
pub use pull::PullRequest;
pub use reference::{Reference, ReferenceError};
pub use store::{Snapshot, Store};
pub use unpack::{EntryError, LayerError};
