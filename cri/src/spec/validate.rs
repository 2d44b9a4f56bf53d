//! What is refused when a container is created, besides what each step refuses for itself.

use std::path::{Component, Path};

use super::{SpecError, SpecInput};

/// Checks that concern the config as a whole.
pub(super) fn validate(input: &SpecInput<'_>) -> Result<(), SpecError> {
    let metadata = input.config.metadata.as_ref().ok_or(SpecError::Missing {
        field: "config.metadata",
    })?;
    if metadata.name.is_empty() {
        return Err(SpecError::Missing {
            field: "config.metadata.name",
        });
    }
    if super::security_context(input.config).privileged && !sandbox_is_privileged(input) {
        return Err(SpecError::NotPermitted {
            field: "security_context.privileged",
            reason: "the sandbox isn't privileged",
        });
    }
    log_path(&input.config.log_path)
}

/// Relative to the sandbox's log directory, which it must not leave.
fn log_path(path: &str) -> Result<(), SpecError> {
    let inside = |part| matches!(part, Component::Normal(_) | Component::CurDir);
    if path.contains('\0') || !Path::new(path).components().all(inside) {
        let reason = "expected a path below the sandbox's log_directory";
        return Err(SpecError::invalid("config.log_path", path, reason));
    }
    Ok(())
}

fn sandbox_is_privileged(input: &SpecInput<'_>) -> bool {
    let linux = input.sandbox.config.linux.as_ref();
    linux
        .and_then(|l| l.security_context.as_ref())
        .is_some_and(|s| s.privileged)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logs_stay_in_their_folder() {
        for path in ["", "a.log", "a/0.log", "./a"] {
            assert!(log_path(path).is_ok(), "{path}");
        }
        for path in ["/a", "../a", "a/../../b", "a\0"] {
            assert!(log_path(path).is_err(), "{path}");
        }
    }
}
