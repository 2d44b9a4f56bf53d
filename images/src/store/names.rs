//! Names of images: adding one, taking one away.

use std::sync::Arc;

use super::{Inner, Store, lookup};
use crate::error::{Error, Result};
use crate::image::Image;
use crate::reference::Reference;

impl Store {
    /// Gives an image one more tag; whatever had it before loses it. Blocking.
    ///
    /// # Errors
    /// [`Error::NoSuchImage`], a name that is no tag, and what goes wrong with the records.
    pub fn tag(&self, image: &str, name: &str) -> Result<Arc<Image>> {
        let name = tag_name(name)?;
        let missing = || Error::NoSuchImage {
            key: image.to_owned(),
        };
        let id = lookup::find(&self.inner.state(), image)?.ok_or_else(missing)?;
        self.inner.name_image(&id, &[name])?.ok_or_else(missing)
    }

    /// Takes a tag away; the image stays, with its other names or without any. `false` if nothing had this name.
    /// Blocking.
    ///
    /// # Errors
    /// A name that is no tag, and what goes wrong with the records.
    pub fn untag(&self, name: &str) -> Result<bool> {
        self.inner.untag(&tag_name(name)?)
    }
}

fn tag_name(name: &str) -> Result<String> {
    let reference = Reference::parse(name)?;
    reference.tag_name().ok_or_else(|| Error::NotATag {
        name: name.to_owned(),
    })
}

impl Inner {
    fn untag(&self, name: &str) -> Result<bool> {
        let _commit = self.lock_commit();
        let Some(id) = self.id_by_name(name) else {
            return Ok(false);
        };
        self.records.change(|change| change.drop_name(name))?;
        let mut state = self.state();
        state.names.remove(name);
        state.refresh(&id);
        Ok(true)
    }
}
