//! Writable layers that are never synced.

use std::path::PathBuf;

use nix::errno::Errno;

use crate::error::Result;
use crate::protocol::Overlay;

/// Once more without [`Overlay::VOLATILE`] where overlayfs refuses that: while nobody has heard yet of a failed write to
/// the disk below, which the next sync there tells.
pub(super) fn synced_if_it_must_be<T>(overlay: &Overlay, mount: impl Fn(&Overlay) -> Result<T>) -> Result<T> {
    match mount(overlay) {
        Err(e) if e.errno() == Some(Errno::EIO) && is_volatile(overlay) => {
            let mut synced = overlay.clone();
            synced.options.retain(|option| option != Overlay::VOLATILE);
            mount(&synced)
        }
        other => other,
    }
}

fn is_volatile(overlay: &Overlay) -> bool {
    overlay.options.iter().any(|option| option == Overlay::VOLATILE)
}

/// By this folder a volatile overlay says that its layer may be incomplete, so that it is never mounted again.
pub(super) fn volatile_mark(overlay: &Overlay) -> Option<PathBuf> {
    let work = overlay.work.as_ref().filter(|_| is_volatile(overlay))?;
    Some(work.join("work/incompat/volatile"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;

    #[test]
    fn where_volatile_is_refused_there_is_another_way() {
        let volatile = Overlay {
            options: vec!["index=off".to_owned(), Overlay::VOLATILE.to_owned()],
            ..Overlay::default()
        };
        let refused = |errno| {
            move |overlay: &Overlay| match is_volatile(overlay) {
                true => Err(Error::sys("mount", errno)),
                false => Ok(overlay.options.clone()),
            }
        };
        let options = synced_if_it_must_be(&volatile, refused(Errno::EIO));
        assert_eq!(options.unwrap(), ["index=off"]);
        assert!(synced_if_it_must_be(&volatile, refused(Errno::EPERM)).is_err());
    }
}
