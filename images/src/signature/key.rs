//! Public keys: ECDSA on P-256 and P-384, Ed25519, RSA; each with SHA-256 where the kind leaves a choice, as cosign does.

use ring::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P384_SHA256_ASN1, ED25519, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey,
    VerificationAlgorithm,
};
use rustls::pki_types::SubjectPublicKeyInfoDer;
use rustls::pki_types::pem::PemObject as _;

/// What stands before the key itself in a SubjectPublicKeyInfo (RFC 5280): of these kinds it is always the same bytes.
const P256: &[u8] = &[
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86,
    0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];
const P384: &[u8] = &[
    0x30, 0x76, 0x30, 0x10, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x05, 0x2b, 0x81,
    0x04, 0x00, 0x22, 0x03, 0x62, 0x00,
];
const EDWARDS: &[u8] = &[
    0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00,
];
/// Of RSA the length of the whole varies; this follows it.
const RSA: &[u8] = &[
    0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00, 0x03, 0x82,
];
const UNKNOWN: &str =
    "the kind of key is unknown: P-256, P-384, Ed25519 and RSA (2048 bits or more) are known";

/// A key that signatures are checked with.
pub(super) struct PublicKey {
    kind: &'static dyn VerificationAlgorithm,
    bytes: Vec<u8>,
}

impl std::fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PublicKey").finish_non_exhaustive()
    }
}

impl PublicKey {
    /// Reads a key as `cosign generate-key-pair` and openssl write it.
    pub(super) fn from_pem(pem: &[u8]) -> Result<PublicKey, &'static str> {
        let info =
            SubjectPublicKeyInfoDer::from_pem_slice(pem).map_err(|_| "it holds no public key (PEM)")?;
        let info: &[u8] = info.as_ref();
        let known: [(&[u8], usize, &'static dyn VerificationAlgorithm); 3] = [
            (P256, 65, &ECDSA_P256_SHA256_ASN1),
            (P384, 97, &ECDSA_P384_SHA256_ASN1),
            (EDWARDS, 32, &ED25519),
        ];
        for (prefix, length, kind) in known {
            if let Some(bytes) = info.strip_prefix(prefix).filter(|bytes| bytes.len() == length) {
                return Ok(PublicKey {
                    kind,
                    bytes: bytes.to_vec(),
                });
            }
        }
        // SEQUENCE, its length, the algorithm, BIT STRING, its length, no unused bits, the key.
        let rest = info
            .strip_prefix(&[0x30, 0x82])
            .and_then(|rest| rest.get(2..))
            .and_then(|rest| rest.strip_prefix(RSA));
        match rest.and_then(|rest| rest.get(2..)) {
            Some([0, bytes @ ..]) => Ok(PublicKey {
                kind: &RSA_PKCS1_2048_8192_SHA256,
                bytes: bytes.to_vec(),
            }),
            _ => Err(UNKNOWN),
        }
    }

    /// Whether `signature` is this key's over `message`.
    pub(super) fn signed(&self, message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(self.kind, &self.bytes)
            .verify(message, signature)
            .is_ok()
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    fn openssl(folder: &std::path::Path, arguments: &[&str]) {
        let status = Command::new("openssl")
            .args(arguments)
            .current_dir(folder)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .unwrap();
        assert!(status.success(), "openssl {arguments:?}");
    }

    /// Keys and signatures by openssl, which knows nothing of the code here.
    #[test]
    fn keys_of_every_kind() {
        let kinds: [&[&str]; 3] = [
            &["EC", "-pkeyopt", "ec_paramgen_curve:P-256"],
            &["EC", "-pkeyopt", "ec_paramgen_curve:P-384"],
            &["RSA", "-pkeyopt", "rsa_keygen_bits:2048"],
        ];
        for kind in kinds {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path();
            openssl(path, &[&["genpkey", "-out", "key", "-algorithm"], kind].concat());
            openssl(path, &["pkey", "-in", "key", "-pubout", "-out", "pub"]);
            std::fs::write(path.join("message"), "signed").unwrap();
            openssl(
                path,
                &["dgst", "-sha256", "-sign", "key", "-out", "signature", "message"],
            );
            let key = PublicKey::from_pem(&std::fs::read(path.join("pub")).unwrap()).unwrap();
            let signature = std::fs::read(path.join("signature")).unwrap();
            assert!(key.signed(b"signed", &signature), "{kind:?}");
            assert!(
                !key.signed(b"forged", &signature) && !key.signed(b"signed", b""),
                "{kind:?}"
            );
        }
    }

    #[test]
    fn edwards_keys_and_what_is_no_key() {
        use ring::signature::KeyPair as _;
        let pair = ring::signature::Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
        let info = [EDWARDS, pair.public_key().as_ref()].concat();
        let encoded = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, &info);
        let pem = format!("-----BEGIN PUBLIC KEY-----\n{encoded}\n-----END PUBLIC KEY-----\n");
        let key = PublicKey::from_pem(pem.as_bytes()).unwrap();
        assert!(key.signed(b"signed", pair.sign(b"signed").as_ref()));
        assert!(!key.signed(b"forged", pair.sign(b"signed").as_ref()));
        for bad in [
            "",
            "x",
            "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n",
        ] {
            assert!(PublicKey::from_pem(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
