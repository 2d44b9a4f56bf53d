//! Debian's `docker-registry` on a free loopback port, with storage of its own.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::child::Child;
use crate::image::Image;
use crate::{http, wait};

/// A running registry; ended when dropped.
pub struct Registry {
    host: String,
    _process: Child,
}

impl Registry {
    /// Starts a registry that keeps everything under `dir`.
    pub fn start(dir: &Path) -> Result<Registry> {
        fs::create_dir_all(dir.join("storage"))?;
        for _ in 0..5 {
            if let Some(registry) = Registry::try_start(dir)? {
                return Ok(registry);
            }
        }
        bail!("docker-registry did not start; see {}", dir.join("log").display())
    }

    /// One try: between finding a free port and taking it, somebody else may take it.
    fn try_start(dir: &Path) -> Result<Option<Registry>> {
        let host = format!("127.0.0.1:{}", free_port()?);
        let config = dir.join("config.yml");
        fs::write(&config, config_text(dir, &host))?;
        let mut process = Child::spawn(
            "docker-registry",
            &["serve".as_ref(), config.as_os_str()],
            &dir.join("log"),
        )
        .context("docker-registry comes from Debian's package of that name (hack/setup)")?;
        let mut ended = false;
        wait::until("docker-registry to answer", wait::PATIENCE, || {
            ended = process.try_wait().is_some();
            ended || http::request(&host, "GET", "/v2/", "", b"").is_ok_and(|r| r.status == 200)
        })?;
        Ok((!ended).then_some(Registry {
            host,
            _process: process,
        }))
    }

    /// `127.0.0.1:port`, the first part of a reference to an image here.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Pushes an image under `repository:tag`; answers with the full reference.
    pub fn push(&self, image: &Image, repository: &str, tag: &str) -> Result<String> {
        for blob in &image.blobs {
            self.push_blob(repository, &blob.digest, &blob.bytes)?;
        }
        for manifest in &image.manifests {
            self.push_manifest(
                repository,
                &manifest.digest,
                &manifest.media_type,
                &manifest.bytes,
            )?;
        }
        let top = image.top();
        self.push_manifest(repository, tag, &top.media_type, &top.bytes)?;
        Ok(format!("{}/{repository}:{tag}", self.host))
    }

    fn push_blob(&self, repository: &str, digest: &str, bytes: &[u8]) -> Result<()> {
        let begun = http::request(
            &self.host,
            "POST",
            &format!("/v2/{repository}/blobs/uploads/"),
            "",
            b"",
        )?;
        let location = begun.header("location").context("an upload's location")?;
        let path = location.split_once(&self.host).map_or(location, |(_, path)| path);
        let path = format!(
            "{path}{}digest={digest}",
            if path.contains('?') { '&' } else { '?' }
        );
        let done = http::request(&self.host, "PUT", &path, "application/octet-stream", bytes)?;
        ensure!(
            done.status == 201,
            "push blob {digest}: {} {}",
            done.status,
            String::from_utf8_lossy(&done.body)
        );
        Ok(())
    }

    fn push_manifest(&self, repository: &str, reference: &str, media_type: &str, bytes: &[u8]) -> Result<()> {
        let path = format!("/v2/{repository}/manifests/{reference}");
        let done = http::request(&self.host, "PUT", &path, media_type, bytes)?;
        ensure!(
            done.status == 201,
            "push {path}: {} {}",
            done.status,
            String::from_utf8_lossy(&done.body)
        );
        Ok(())
    }
}

fn config_text(dir: &Path, host: &str) -> String {
    format!(
        "version: 0.1\n\
         log: {{level: warn, accesslog: {{disabled: true}}}}\n\
         storage:\n  cache: {{blobdescriptor: inmemory}}\n  filesystem: {{rootdirectory: {}}}\n  delete: {{enabled: true}}\n\
         http: {{addr: \"{host}\"}}\n",
        dir.join("storage").display()
    )
}

/// A port of loopback that nobody listens on now.
pub fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// How long a pull from loopback may take at most.
pub const PULL_LIMIT: Duration = Duration::from_secs(60);
