//! What a container is made of: an image, and perhaps a checkpoint on top of it.

use std::path::Path;
use std::sync::Arc;

use oci_spec::runtime::Spec;
use pintle_images::{Image, PullRequest};
use pintle_runtime::checkpoint::Restore;
use pintle_runtime::protocol::{CreateContainer, Overlay};

use crate::checkpoint::{CONNECTIONS, Source, Staged, criu};
use crate::core::Core;
use crate::error::{Error, IoContext as _, Result};
use crate::task::blocking;

/// A checkpoint that a container is to be made of.
#[derive(Debug)]
pub(crate) struct FromCheckpoint {
    /// Where it is.
    pub(crate) source: Source,
    /// The request must name the same image and the same process.
    pub(crate) strict: bool,
}

/// Image and checkpoint, both at hand.
#[derive(Debug)]
pub(super) struct Origin {
    pub(super) image: Arc<Image>,
    staged: Option<(Staged, bool)>,
}

/// Finds the image, and unpacks the checkpoint where there is one: `from`, or what the image's name leads to.
pub(super) async fn find(
    core: &Arc<Core>,
    id: &str,
    wanted: &str,
    found: Option<Arc<Image>>,
    from: Option<FromCheckpoint>,
) -> Result<Origin> {
    let of_image = || {
        let source = Source::of(wanted, found.as_ref())?;
        Some(FromCheckpoint {
            source,
            strict: false,
        })
    };
    let Some(from) = from.or_else(of_image) else {
        let image = found.ok_or_else(|| Error::ImageNotLocal(wanted.to_owned()))?;
        return Ok(Origin { image, staged: None });
    };
    criu(core)?;
    let (at, id, strict) = (Arc::clone(core), id.to_owned(), from.strict);
    let staged = blocking("unpacking a checkpoint", move || {
        Staged::unpack(&at, &id, &from.source)
    })
    .await?;
    let base = base(core, &staged, !strict).await?;
    if strict && found.is_none_or(|found| found.id != base.id) {
        let reason = format!("{wanted:?} is not the image of the checkpoint");
        return Err(Error::invalid("container_configs.image.image", reason));
    }
    Ok(Origin {
        image: base,
        staged: Some((staged, strict)),
    })
}

/// The image under a checkpoint: one that is here, else one that can be pulled.
async fn base(core: &Core, staged: &Staged, pulls: bool) -> Result<Arc<Image>> {
    for name in staged.images_of_base() {
        // a name that another runtime gives may be none here
        if let Ok(Some(image)) = core.images.get(name) {
            return Ok(image);
        }
    }
    let reference = staged.pullable();
    if !pulls || reference.is_empty() {
        let name = staged.images_of_base().next().unwrap_or_default();
        return Err(Error::ImageNotLocal(name.to_owned()));
    }
    let request = PullRequest {
        reference: reference.to_owned(),
        auth: None,
    };
    Ok(core.images.pull(request).await?)
}

impl Origin {
    /// Whether it is more than an image.
    pub(super) fn is_checkpoint(&self) -> bool {
        self.staged.is_some()
    }

    /// Fails where the checkpoint doesn't fit what the request makes, once that has what only another engine had given.
    pub(super) fn check(&self, spec: &mut Spec, bundle: &Path) -> Result<()> {
        match &self.staged {
            Some((staged, strict)) => staged.check(spec, bundle, *strict),
            None => Ok(()),
        }
    }

    /// Puts the checkpoint's files into the container's root.
    pub(super) fn fill(&self, rootfs: &Overlay) -> Result<()> {
        self.staged
            .as_ref()
            .map_or(Ok(()), |(staged, _)| staged.apply(rootfs))
    }

    /// Where the container's processes come from, if not from its image.
    pub(super) fn restore(&self, core: &Core, create: &CreateContainer) -> Result<Option<Restore>> {
        let Some((staged, _)) = &self.staged else {
            return Ok(None);
        };
        let work = create.bundle.join("restore");
        std::fs::create_dir(&work).io("create folder", &work)?;
        Ok(Some(Restore {
            images: staged.images(),
            work,
            criu: criu(core)?,
            connections: CONNECTIONS,
            foreign: !staged.is_ours(),
        }))
    }
}
