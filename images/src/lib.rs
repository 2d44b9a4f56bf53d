//! The image service of Pintle: references, registry client, layer store, unpacking, snapshots.
//!
//! [`Store::pull`] streams an image from its registry into the store, all layers side by side, verified on the way;
//! [`Store::snapshot`] gives a container its overlayfs folders. See the headers of `store` for the layout on disk,
//! of `pull::layer` for the pipeline, and of `unpack` for what a hostile layer can't do.

mod archive;
mod auth;
mod config;
mod crash;
mod digest;
mod error;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod image;
mod manifest;
mod progress;
mod pull;
mod push;
mod reference;
mod registry;
mod signature;
mod store;
mod unpack;
mod usage;
mod verify;

pub use archive::{Exported, ImportRequest};
pub use auth::{Auth, AuthFields, Credentials};
pub use config::StoreConfig;
pub use digest::{Digest, DigestError};
pub use error::{Error, Result};
pub use image::{Image, Usage};
pub use progress::{LayerProgress, Progress, Step};
pub use pull::PullRequest;
pub use push::{PushRequest, Pushed};
pub use reference::{Reference, ReferenceError};
pub use store::{Snapshot, Store, View};
pub use unpack::{EntryError, LayerError};
pub use usage::usage_of;
pub use verify::{LayerState, Verified};
