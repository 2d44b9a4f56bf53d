//! Signatures of images by cosign: who must have signed what, and whether they did.
//!
//! A policy file says it, by repository (see [`policy`]). Looked at are both forms that cosign writes: signatures of
//! old, below the tag `sha256-<hex>.sig`, and sigstore bundles among the referrers of the image. A signature counts
//! if it is by one of the policy's keys and over the very digest that is pulled. Certificates of a public authority
//! ("keyless") are not looked at.

mod bundle;
mod key;
mod policy;
mod simple;

use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::reference::Reference;
use crate::registry::Session;

pub(crate) use policy::{Mode, Policy, policy};

/// The most signatures of an image that are looked at.
const MAX_SIGNATURES: usize = 64;

/// What one look for signatures found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Found {
    /// None at all.
    Nothing,
    /// None that counts.
    Wrong,
    /// One that counts.
    Good,
}

/// Asks for the signatures of `digest` and applies the policy.
///
/// # Errors
/// [`Error::SignatureRefused`] where the policy rejects, and whatever keeps the signatures from being read.
pub(crate) async fn check(
    policy: &Policy,
    session: &Session,
    reference: &Reference,
    digest: &Digest,
) -> Result<()> {
    let mut found = simple::look(policy, session, digest).await?;
    if found != Found::Good {
        found = found.max(bundle::look(policy, session, digest).await?);
    }
    let reason = match found {
        Found::Good => return Ok(()),
        Found::Nothing => "it has no signature",
        Found::Wrong => "none of its signatures is by a key of the policy",
    };
    if policy.mode == Mode::Warn {
        tracing::warn!(%reference, reason, "an image without a good signature is pulled");
        return Ok(());
    }
    Err(Error::SignatureRefused {
        reference: reference.to_string(),
        reason: reason.to_owned(),
    })
}

/// A missing manifest is no error here, just no signature.
fn or_nothing<T>(result: Result<T>) -> Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(Error::NotFound { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}
