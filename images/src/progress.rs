//! How far a pull, push or import is, for whoever wants to show it.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::digest::Digest;

/// What happens to the layers of an image.
#[derive(Debug, Default)]
pub struct Progress(Mutex<Vec<Arc<LayerProgress>>>);

/// What happens to one layer.
#[derive(Debug)]
pub struct LayerProgress {
    /// Of the layer as it is moved, mostly compressed.
    pub digest: Digest,
    /// Bytes to move.
    pub total: u64,
    moved: AtomicU64,
    step: AtomicU8,
}

/// Where a layer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// It waits for its turn.
    Waiting,
    /// It is being moved.
    Moving,
    /// It was there already.
    Known,
    /// It has arrived.
    Done,
}

impl Progress {
    pub(crate) fn add(&self, digest: Digest, total: u64) -> Arc<LayerProgress> {
        let layer = Arc::new(LayerProgress {
            digest,
            total,
            moved: AtomicU64::new(0),
            step: AtomicU8::new(Step::Waiting as u8),
        });
        let mut layers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        layers.push(Arc::clone(&layer));
        layer
    }

    /// The layers that are known so far, the base first.
    #[must_use]
    pub fn layers(&self) -> Vec<Arc<LayerProgress>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl LayerProgress {
    pub(crate) fn moved(&self, bytes: u64) {
        self.moved.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn enter(&self, step: Step) {
        self.step.store(step as u8, Ordering::Relaxed);
    }

    /// Bytes moved, and where it is.
    #[must_use]
    pub fn now(&self) -> (u64, Step) {
        let step = match self.step.load(Ordering::Relaxed) {
            step if step == Step::Moving as u8 => Step::Moving,
            step if step == Step::Known as u8 => Step::Known,
            step if step == Step::Done as u8 => Step::Done,
            _ => Step::Waiting,
        };
        (self.moved.load(Ordering::Relaxed), step)
    }
}
