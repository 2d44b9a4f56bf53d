//! Debian's docker-registry, run for one test on a free port of loopback.

use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::build::{Blob, TestImage};

/// A running registry; killed when dropped.
pub struct DockerRegistry {
    pub address: String,
    child: Child,
    _folder: tempfile::TempDir,
}

impl DockerRegistry {
    pub fn start() -> DockerRegistry {
        DockerRegistry::with_auth("")
    }

    /// `auth` is the `auth:` section of its configuration.
    pub fn with_auth(auth: &str) -> DockerRegistry {
        DockerRegistry::configured(auth, "")
    }

    /// Serves HTTPS.
    pub fn with_tls(certificate: &std::path::Path, key: &std::path::Path) -> DockerRegistry {
        DockerRegistry::configured(
            "",
            &format!(", tls: {{certificate: {certificate:?}, key: {key:?}}}"),
        )
    }

    fn configured(auth: &str, tls: &str) -> DockerRegistry {
        let folder = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let address = format!("127.0.0.1:{port}");
        let storage = folder.path().join("storage");
        let config = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {storage:?}}}}}\n\
             http: {{addr: \"{address}\"{tls}}}\n{auth}",
        );
        let path = folder.path().join("config.yml");
        std::fs::write(&path, config).unwrap();
        let child = Command::new("docker-registry")
            .arg("serve")
            .arg(&path)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("Debian's docker-registry must be installed");
        let registry = DockerRegistry {
            address,
            child,
            _folder: folder,
        };
        for _ in 0..200 {
            if TcpStream::connect(&registry.address).is_ok() {
                return registry;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("docker-registry does not listen on {}", registry.address);
    }

    /// Pushes an image; gives back its reference.
    pub async fn push(
        &self,
        repository: &str,
        tag: &str,
        image: &TestImage,
        login: Option<(&str, &str)>,
    ) -> String {
        for layer in &image.layers {
            self.push_blob(repository, &layer.blob, login).await;
        }
        self.push_blob(repository, &image.config, login).await;
        self.push_manifest(repository, tag, image.media_type, &image.manifest, login)
            .await;
        format!("{}/{repository}:{tag}", self.address)
    }

    async fn push_blob(&self, repository: &str, blob: &Blob, login: Option<(&str, &str)>) {
        let url = format!("http://{}/v2/{repository}/blobs/uploads/", self.address);
        let response = request(reqwest::Method::POST, &url, login).send().await.unwrap();
        assert_eq!(response.status(), 202, "begin upload");
        let location = response.headers()["location"].to_str().unwrap().to_owned();
        let separator = if location.contains('?') { '&' } else { '?' };
        let url = format!("{location}{separator}digest={}", blob.digest);
        let put = request(reqwest::Method::PUT, &url, login).body(blob.bytes.clone());
        assert_eq!(put.send().await.unwrap().status(), 201, "upload blob");
    }

    pub async fn push_manifest(
        &self,
        repository: &str,
        tag: &str,
        media_type: &str,
        manifest: &Blob,
        login: Option<(&str, &str)>,
    ) {
        let url = format!("http://{}/v2/{repository}/manifests/{tag}", self.address);
        let put = request(reqwest::Method::PUT, &url, login).header("content-type", media_type);
        let response = put.body(manifest.bytes.clone()).send().await.unwrap();
        assert_eq!(response.status(), 201, "upload manifest");
    }
}

fn request(method: reqwest::Method, url: &str, login: Option<(&str, &str)>) -> reqwest::RequestBuilder {
    // TLS needs some configuration even where only plain HTTP is spoken.
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap();
    let tls = tls
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    let client = reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .no_proxy()
        .build()
        .unwrap();
    let request = client.request(method, url);
    match login {
        Some((user, password)) => request.basic_auth(user, Some(password)),
        None => request,
    }
}

impl Drop for DockerRegistry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
