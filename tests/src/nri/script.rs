//! What most scripts of plugins have in common, and the world that they play in.

use std::path::PathBuf;

use anyhow::Result;

use super::{Answer, Asked};
use crate::server::{Kind, Setup};
use crate::slot::Slot;
use crate::world::{self, World};

/// Runs a test in a world whose daemon has more settings in `[nri]`. It is ours: other runtimes' sockets lie elsewhere.
pub async fn test(settings: &str, body: impl AsyncFnOnce(&mut World) -> Result<()>) {
    let mut setup = Setup::new(Kind::Pintle);
    setup.extra_config = settings.to_owned();
    world::test_with(setup, body).await;
}

/// Where the slot's daemon waits for plugins.
pub fn socket(slot: &Slot) -> PathBuf {
    slot.state().join("nri.sock")
}

/// Says yes to everything.
pub fn yes(_: &Asked) -> Answer {
    Answer::Yes
}

/// Says yes to all but one method.
pub fn but(
    method: &'static str,
    mut answer: impl FnMut() -> Answer + Send,
) -> impl FnMut(&Asked) -> Answer + Send {
    move |asked| {
        if asked.method == method {
            answer()
        } else {
            Answer::Yes
        }
    }
}
