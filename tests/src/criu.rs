//! Whether criu can work here, the daemon's configuration with it, and what tests of checkpoints share.

use std::io::Write as _;
use std::path::Path;
use std::process::Command;

use k8s_cri::v1::{CheckpointContainerRequest, ContainerConfig};
use tonic::Status;

use crate::cri;
use crate::server::Setup;
use crate::world::World;

/// Another criu than that on `PATH`, for hosts whose kernel is too new for the packaged one.
const VARIABLE: &str = "PINTLE_TEST_CRIU";

/// The program criu.
pub fn program() -> String {
    std::env::var(VARIABLE).unwrap_or_else(|_| "criu".to_owned())
}

/// The daemon with that criu.
///
/// # Errors
/// What the environment asks for isn't known.
pub fn setup() -> anyhow::Result<Setup> {
    let mut setup = Setup::from_env()?;
    setup.extra_config = format!("[checkpoint]\ncriu = \"{}\"", program());
    Ok(setup)
}

/// Whether criu says that it can work on this host. Where it can't the reason is printed: the test that asks is skipped.
pub fn works(test: &str) -> bool {
    let output = Command::new(program()).arg("check").output();
    let why = match output {
        Ok(output) if output.status.success() => return true,
        Ok(output) => String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        Err(error) => error.to_string(),
    };
    // not by the macro, whose output a test that passes keeps to itself
    let _ = writeln!(
        std::io::stderr(),
        "\n*** SKIPPED: {test}: `{} check` fails on this host ({VARIABLE} names another criu):\n*** {}\n",
        program(),
        why.replace('\n', "\n*** ")
    );
    false
}

/// The same container, of another image or of a checkpoint.
pub fn made_of(config: &ContainerConfig, image: &str) -> ContainerConfig {
    ContainerConfig {
        image: Some(cri::spec(image)),
        ..config.clone()
    }
}

/// `CheckpointContainer`.
pub async fn checkpoint(w: &World, container: &str, location: &Path) -> Result<(), Status> {
    let request = CheckpointContainerRequest {
        container_id: container.to_owned(),
        location: location.display().to_string(),
        timeout: 60,
    };
    w.cri
        .runtime
        .clone()
        .checkpoint_container(request)
        .await
        .map(drop)
}
