//! Images in tar archives: OCI image layouts and what `docker save` writes. What is written here is both at once.

mod export;
mod import;
mod read;

pub use export::Exported;
pub use import::ImportRequest;
