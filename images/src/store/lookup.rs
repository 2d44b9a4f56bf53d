//! Finds images by id, prefix of an id, tag and digest.

use std::path::PathBuf;
use std::sync::Arc;

use super::state::{Stack, State};
use super::{Inner, Store};
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::image::Image;
use crate::reference::Reference;

impl Store {
    /// Finds an image by its id with or without `sha256:`, a prefix of the id that fits no other, a tag or a digest
    /// reference. `None` if it is not here.
    ///
    /// # Errors
    /// [`Error::InvalidReference`] if `key` can be none of these, [`Error::AmbiguousId`] if a prefix fits several.
    pub fn get(&self, key: &str) -> Result<Option<Arc<Image>>> {
        let state = self.inner.state();
        let id = find(&state, key)?;
        Ok(id
            .and_then(|id| state.images.get(&id))
            .map(|entry| Arc::clone(&entry.image)))
    }

    /// The folders of an image's layers, the topmost first, for reading only.
    ///
    /// # Errors
    /// [`Error::NoSuchImage`], and those of [`Store::get`].
    pub fn layers_of(&self, image: &str) -> Result<Vec<PathBuf>> {
        let view = view_of(&self.inner.state(), image)?;
        Ok(self.inner.lower_paths(&view.lowers))
    }
}

impl Inner {
    /// The image that has exactly this name.
    pub(crate) fn id_by_name(&self, name: &str) -> Option<Digest> {
        self.state().names.get(name).copied()
    }
}

/// How the layers of the image that `key` means lie upon one another.
pub(super) fn view_of(state: &State, key: &str) -> Result<Stack> {
    let id = find(state, key)?;
    let entry = id.and_then(|id| state.images.get(&id));
    let entry = entry.ok_or_else(|| Error::NoSuchImage { key: key.to_owned() })?;
    Ok(entry.view.clone())
}

/// The id of the image that `key` means.
pub(super) fn find(state: &State, key: &str) -> Result<Option<Digest>> {
    let hex = key.strip_prefix("sha256:").unwrap_or(key);
    if let Some(id) = Digest::from_hex(hex) {
        return Ok(state.images.contains_key(&id).then_some(id));
    }
    let parsed = Reference::parse(key);
    if let Ok(reference) = &parsed
        && let Some(id) = find_name(state, reference)
    {
        return Ok(Some(id));
    }
    let found = find_prefix(state, hex, key)?;
    match parsed {
        Err(error) if found.is_none() && !is_hex(hex) => Err(error),
        _ => Ok(found),
    }
}

fn find_name(state: &State, reference: &Reference) -> Option<Digest> {
    let name = match reference.digest() {
        Some(digest) => reference.digest_name(&digest),
        None => reference.tag_name()?,
    };
    if let Some(id) = state.names.get(&name) {
        return Some(*id);
    }
    // Pulled by tag or index, asked for by the digest of its manifest.
    let digest = reference.digest()?;
    let repository = reference.repository();
    let in_repository = |name: &String| {
        let rest = name.strip_prefix(&repository);
        rest.is_some_and(|rest| rest.starts_with(['@', ':']) && !rest.contains('/'))
    };
    let entry = state.images.values().find(|entry| {
        let names = || entry.image.repo_tags.iter().chain(&entry.image.repo_digests);
        entry.record.content.contains(&digest) && entry.record.id != digest && names().any(in_repository)
    });
    entry.map(|entry| entry.record.id)
}

fn is_hex(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 64
        && text
            .bytes()
            .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

fn find_prefix(state: &State, hex: &str, key: &str) -> Result<Option<Digest>> {
    if !is_hex(hex) {
        return Ok(None);
    }
    let mut fitting = state.images.keys().filter(|id| id.hex().starts_with(hex));
    match (fitting.next(), fitting.next()) {
        (Some(_), Some(_)) => Err(Error::AmbiguousId {
            prefix: key.to_owned(),
        }),
        (found, _) => Ok(found.copied()),
    }
}
