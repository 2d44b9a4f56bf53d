//! Certificate and key, read again when the files change.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::error::StreamError;
use crate::config::TlsFiles;

/// When both files were last written; None for one that can't be looked at.
type Stamps = [Option<SystemTime>; 2];

/// The server's identity.
#[derive(Debug)]
pub(super) struct Identity {
    files: TlsFiles,
    loaded: Mutex<Loaded>,
}

#[derive(Debug)]
struct Loaded {
    stamps: Stamps,
    config: Arc<ServerConfig>,
}

impl Identity {
    /// Reads both files. Blocking.
    ///
    /// # Errors
    /// [`StreamError::Tls`].
    pub(super) fn load(files: &TlsFiles) -> Result<Self, StreamError> {
        let stamps = stamps(files);
        let config = Arc::new(read(files)?);
        Ok(Self {
            files: files.clone(),
            loaded: Mutex::new(Loaded { stamps, config }),
        })
    }

    /// For the next connection: what the files say now, or what they said when last they could be used. Blocking.
    pub(super) fn acceptor(&self) -> TlsAcceptor {
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        let stamps = stamps(&self.files);
        if stamps != loaded.stamps {
            match read(&self.files) {
                Ok(config) => loaded.config = Arc::new(config),
                // Said once for each change.
                Err(error) => tracing::warn!(%error, "the streaming server keeps its certificate"),
            }
            loaded.stamps = stamps;
        }
        TlsAcceptor::from(Arc::clone(&loaded.config))
    }
}

fn stamps(files: &TlsFiles) -> Stamps {
    let stamp = |path: &PathBuf| fs::metadata(path).and_then(|meta| meta.modified()).ok();
    [stamp(&files.certificate), stamp(&files.key)]
}

fn read(files: &TlsFiles) -> Result<ServerConfig, StreamError> {
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(&files.certificate)
        .and_then(Iterator::collect)
        .map_err(|e| unusable(&files.certificate, &e))?;
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|e| unusable(&files.key, &e))?;
    ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
        .map_err(|e| unusable(&files.certificate, &e))
}

fn unusable(path: &Path, reason: &dyn std::fmt::Display) -> StreamError {
    StreamError::Tls {
        path: path.to_owned(),
        reason: reason.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(folder: &Path) -> TlsFiles {
        TlsFiles {
            certificate: folder.join("cert.pem"),
            key: folder.join("key.pem"),
        }
    }

    fn write(files: &TlsFiles, age: u64) {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        fs::write(&files.certificate, made.cert.pem()).unwrap();
        fs::write(&files.key, made.signing_key.serialize_pem()).unwrap();
        let then = SystemTime::now() - std::time::Duration::from_secs(age);
        for path in [&files.certificate, &files.key] {
            fs::File::options()
                .append(true)
                .open(path)
                .unwrap()
                .set_modified(then)
                .unwrap();
        }
    }

    #[test]
    fn changed_files_are_read_again_and_broken_ones_change_nothing() {
        let tmp = tempfile::tempdir().unwrap();
        let files = files(tmp.path());
        assert!(Identity::load(&files).is_err(), "there are none yet");
        write(&files, 100);
        let identity = Identity::load(&files).unwrap();
        let config = || Arc::clone(identity.acceptor().config());
        let first = config();
        assert!(Arc::ptr_eq(&first, &config()));
        write(&files, 50);
        let second = config();
        assert!(!Arc::ptr_eq(&first, &second));
        fs::write(&files.key, "no key").unwrap();
        assert!(Arc::ptr_eq(&second, &config()));
        write(&files, 10);
        assert!(!Arc::ptr_eq(&second, &config()));
    }
}
