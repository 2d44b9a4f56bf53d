//! Mirrors, certificates and headers from `hosts.toml`.

use std::fs;

use pintle_images::{Auth, Credentials, Error};

use crate::support::TestStore;
use crate::support::build::{Layer, TestImage};
use crate::support::docker::DockerRegistry;
use crate::support::http::Response;
use crate::support::registry::Registry;

/// A store with a folder of registry configurations.
struct Configured {
    test: TestStore,
    certs: tempfile::TempDir,
}

impl Configured {
    fn new() -> Configured {
        let certs = tempfile::tempdir().unwrap();
        let path = certs.path().to_owned();
        Configured {
            test: TestStore::with(|config| config.certs_dir = Some(path)),
            certs,
        }
    }

    fn write(&self, domain: &str, text: &str) {
        let folder = self.certs.path().join(domain);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("hosts.toml"), text).unwrap();
    }
}

fn image() -> TestImage {
    TestImage::new(vec![Layer::files(&[("f", "f")])])
}

fn paths(registry: &Registry) -> Vec<String> {
    registry
        .log()
        .iter()
        .map(|request| request.path.split('?').next().unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn a_mirror_serves_and_the_name_stays() {
    let mirror = Registry::start();
    let image = image();
    mirror.push("library/app", "v1", &image);
    let configured = Configured::new();
    configured.write("docker.io", &format!("[host.\"http://{}\"]\n", mirror.address()));
    let auth = Auth {
        server_address: None,
        credentials: Credentials::Basic {
            username: "u".into(),
            password: "secret".into(),
        },
    };
    let pulled = configured.test.pull_as("app:v1", Some(auth)).await.unwrap();
    assert_eq!(pulled.repo_tags, ["docker.io/library/app:v1"]);
    assert!(
        mirror
            .log()
            .iter()
            .all(|request| request.path.ends_with("?ns=docker.io"))
    );
    assert!(
        mirror
            .log()
            .iter()
            .all(|request| request.header("authorization").is_none())
    );
}

#[tokio::test]
async fn what_a_mirror_lacks_comes_from_the_registry() {
    let (broken, empty, registry) = (Registry::start(), Registry::start(), Registry::start());
    broken.lie(|_| Some(Response::new(500)));
    let down = Registry::start().address().to_owned();
    let image = image();
    let reference = registry.push("app", "v1", &image);
    let configured = Configured::new();
    let hosts: Vec<String> = [down.as_str(), broken.address(), empty.address()]
        .map(|address| format!("[host.\"http://{address}\"]\n"))
        .into();
    configured.write(registry.address(), &hosts.concat());
    configured.test.pull(&reference).await.unwrap();
    assert_eq!(registry.log().len(), empty.log().len());
    assert_eq!(registry.fetches(&image.layers[0].blob), 1);
    // Without a certificate's file, and re-read at each pull.
    configured.write(registry.address(), "ca = \"missing.pem\"\n");
    let error = configured.test.pull(&reference).await.unwrap_err();
    assert!(matches!(error, Error::Io { verb: "read", .. }), "{error}");
    configured.write(registry.address(), "nonsense");
    let error = configured.test.pull(&reference).await.unwrap_err();
    assert!(
        matches!(
            error,
            Error::Config {
                key: "hosts.toml",
                ..
            }
        ),
        "{error}"
    );
}

/// Runs this test in a process of its own, whose environment names the proxy.
#[tokio::test]
async fn a_proxy_of_the_environment_is_used_but_not_for_loopback() {
    const MARK: &str = "PINTLE_TEST_PROXY";
    if std::env::var_os(MARK).is_none() {
        let proxy = Registry::start();
        proxy.push("app", "v1", &image());
        let output = std::process::Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "hosts::a_proxy_of_the_environment_is_used_but_not_for_loopback",
            ])
            .env(MARK, "1")
            .env("http_proxy", format!("http://{}", proxy.address()))
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stdout)
        );
        let hosts: Vec<_> = proxy
            .log()
            .iter()
            .map(|r| r.header("host").map(str::to_owned))
            .collect();
        assert!(
            !hosts.is_empty() && hosts.iter().all(|h| h.as_deref() == Some("registry.example")),
            "{hosts:?}"
        );
        return;
    }
    let configured = Configured::new();
    // A name that nobody but the proxy knows.
    configured.write("registry.example", "server = \"http://registry.example\"\n");
    configured.test.pull("registry.example/app:v1").await.unwrap();
    let near = Registry::start();
    let reference = near.push("app", "v2", &TestImage::new(vec![Layer::files(&[("g", "g")])]));
    configured.test.pull(&reference).await.unwrap();
    assert!(!near.log().is_empty());
}

#[tokio::test]
async fn abilities_paths_and_headers() {
    let (mirror, registry) = (Registry::start(), Registry::start());
    let image = image();
    let reference = registry.push("app", "v1", &image);
    for path in ["manifests/v1", &format!("manifests/{}", image.manifest.digest)] {
        mirror.serve(
            &format!("proxy/app/{path}"),
            image.media_type,
            &image.manifest.bytes,
        );
    }
    mirror.serve_blob("proxy/app", &image.config);
    mirror.serve_blob("proxy/app", &image.layers[0].blob);
    let configured = Configured::new();
    configured.write(
        registry.address(),
        &format!(
            "[host.\"http://{}/v2/proxy\"]\ncapabilities = [\"pull\"]\noverride_path = true\n\
             [host.\"http://{}/v2/proxy\".header]\nx-token = \"t\"\n",
            mirror.address(),
            mirror.address()
        ),
    );
    configured.test.pull(&reference).await.unwrap();
    assert_eq!(
        paths(&registry),
        ["/v2/app/manifests/v1"],
        "only the registry says what a tag is"
    );
    assert_eq!(mirror.log().len(), 3);
    assert!(
        mirror
            .log()
            .iter()
            .all(|request| request.header("x-token") == Some("t"))
    );
    assert!(
        paths(&mirror)
            .iter()
            .all(|path| path.starts_with("/v2/proxy/app/"))
    );
}

#[tokio::test]
async fn tls_with_an_authority_of_our_own() {
    let folder = tempfile::tempdir().unwrap();
    let made =
        rcgen::generate_simple_self_signed(vec!["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
    let (certificate, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
    fs::write(&certificate, made.cert.pem()).unwrap();
    fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let registry = DockerRegistry::with_tls(&certificate, &key);
    let reference = format!("{}/app:v1", registry.address);
    let configured = Configured::new();

    let server = format!("server = \"https://{}\"\n", registry.address);
    configured.write(&registry.address, &server);
    let error = configured.test.pull(&reference).await.unwrap_err();
    assert!(error.to_string().starts_with("RegistryUnavailable: "), "{error}");
    assert!(error.to_string().contains("certificate"), "{error}");

    for trust in [
        format!("ca = {certificate:?}\n"),
        "skip_verify = true\n".to_owned(),
    ] {
        configured.write(&registry.address, &(trust + &server));
        let error = configured.test.pull(&reference).await.unwrap_err();
        assert!(matches!(error, Error::NotFound { .. }), "{error}");
    }
}
