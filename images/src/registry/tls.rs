//! Whom to trust, and who we are, where the system's certificates don't do.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use crate::error::{Error, IoContext as _, Result};

/// What differs from the default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(super) struct Trust {
    /// Files of further authorities.
    pub(super) ca: Vec<PathBuf>,
    /// Certificates of our own; the first is used.
    pub(super) identities: Vec<Identity>,
    /// Trust whatever answers.
    pub(super) skip_verify: bool,
}

/// A certificate of our own.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Identity {
    pub(super) certificate: PathBuf,
    pub(super) key: PathBuf,
}

impl Trust {
    /// Whether nothing differs from the default.
    pub(super) fn is_default(&self) -> bool {
        *self == Trust::default()
    }

    /// The contents of all files it names: a client made of the same contents can be used again.
    pub(super) fn contents(&self) -> Result<Vec<Vec<u8>>> {
        let identities = self
            .identities
            .iter()
            .flat_map(|identity| [&identity.certificate, &identity.key]);
        self.ca
            .iter()
            .chain(identities)
            .map(|path| fs::read(path).at("read", path))
            .collect()
    }

    /// The configuration of a TLS client.
    pub(super) fn client(&self) -> Result<ClientConfig> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider));
        let builder = builder
            .with_safe_default_protocol_versions()
            .map_err(|error| unusable("TLS", &error))?;
        let builder = if self.skip_verify {
            builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(TrustAll(provider)))
        } else {
            builder.with_root_certificates(self.roots()?)
        };
        let Some(identity) = self.identities.first() else {
            return Ok(builder.with_no_client_auth());
        };
        let chain = certificates(&identity.certificate)?;
        let key = PrivateKeyDer::from_pem_slice(&fs::read(&identity.key).at("read", &identity.key)?)
            .map_err(|error| bad_file("client", &identity.key, &error))?;
        let config = builder.with_client_auth_cert(chain, key);
        config.map_err(|error| bad_file("client", &identity.certificate, &error))
    }

    /// The system's authorities and the configured ones. Having none is no error: plain HTTP works without.
    fn roots(&self) -> Result<RootCertStore> {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        for path in &self.ca {
            for certificate in certificates(path)? {
                roots
                    .add(certificate)
                    .map_err(|error| bad_file("ca", path, &error))?;
            }
        }
        Ok(roots)
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let bytes = fs::read(path).at("read", path)?;
    let parsed: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    match parsed {
        Ok(certificates) if certificates.is_empty() => Err(bad_file("ca", path, &"it holds no certificate")),
        Ok(certificates) => Ok(certificates),
        Err(error) => Err(bad_file("ca", path, &error)),
    }
}

fn bad_file(key: &'static str, path: &Path, reason: &dyn std::fmt::Display) -> Error {
    Error::Config {
        key,
        value: path.display().to_string(),
        reason: reason.to_string(),
    }
}

fn unusable(key: &'static str, reason: &dyn std::fmt::Display) -> Error {
    Error::Config {
        key,
        value: String::new(),
        reason: reason.to_string(),
    }
}

/// Asks for nothing but a signature by whoever answers (`skip_verify`).
#[derive(Debug)]
struct TrustAll(Arc<CryptoProvider>);

impl ServerCertVerifier for TrustAll {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
