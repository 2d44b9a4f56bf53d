//! Addresses: what may be given to pods, and who has which.

pub(crate) mod lock;
pub(crate) mod pool;
pub(crate) mod range;
pub(crate) mod record;
pub(crate) mod store;
