//! What another runtime is able to do, by its own word (`PROGRAM features`, features.md of the OCI runtime specification).

use serde::Deserialize;

use super::SHORT;
use super::call::{Call, Streams};
use crate::error::{Error, Result};
use crate::protocol::ForeignRuntime;

/// What matters to whoever gives it containers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Features {
    /// Mounts can be made read-only with all below them (`rro`).
    pub recursive_read_only: bool,
    /// Mounts can be shown through a user namespace (`idmap`).
    pub idmap: bool,
}

/// Asks a runtime. Blocking, for some seconds at the most. For callers with several threads.
///
/// # Errors
/// It can't be run, or doesn't know the command, as older ones don't: it is to be taken to have no features.
pub fn features(runtime: &ForeignRuntime) -> Result<Features> {
    let call = Call {
        runtime,
        folder: None,
        limit: SHORT,
        streams: Streams::Captured,
    };
    parse(&call.run_threaded(&["features".as_ref()])?)
        .map_err(|source| Error::invalid("features", source.to_string()))
}

fn parse(text: &str) -> serde_json::Result<Features> {
    #[derive(Default, Deserialize)]
    #[serde(default, rename_all = "camelCase")]
    struct Said {
        mount_options: Vec<String>,
        linux: Linux,
    }
    #[derive(Default, Deserialize)]
    #[serde(default, rename_all = "camelCase")]
    struct Linux {
        mount_extensions: Extensions,
    }
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Extensions {
        idmap: Idmap,
    }
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Idmap {
        enabled: Option<bool>,
    }
    let said: Said = serde_json::from_str(text)?;
    Ok(Features {
        recursive_read_only: said.mount_options.iter().any(|option| option == "rro"),
        idmap: said.linux.mount_extensions.idmap.enabled == Some(true),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn features_are_read() {
        let text = r#"{"ociVersionMin":"1.0.0","mountOptions":["bind","rro"],
            "linux":{"namespaces":["user"],"mountExtensions":{"idmap":{"enabled":true}}}}"#;
        let all = Features {
            recursive_read_only: true,
            idmap: true,
        };
        assert_eq!(parse(text).unwrap(), all);
        assert_eq!(parse("{}").unwrap(), Features::default());
        assert!(parse("unknown command").is_err());
    }
}
