//! A registry of our own that serves what it is given, counts what is asked, and lies where it is told to.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use super::build::{Blob, TestImage};
use super::http::{Body, Request, Response, Server};

type Lie = dyn Fn(&Request) -> Option<Response> + Send + Sync;

#[derive(Default)]
struct Content {
    /// By path below `/v2/`, with the media type.
    served: BTreeMap<String, (String, Vec<u8>)>,
    log: Vec<Request>,
    lie: Option<Arc<Lie>>,
}

/// See the module's text.
pub struct Registry {
    server: Server,
    content: Arc<Mutex<Content>>,
}

impl Registry {
    pub fn start() -> Registry {
        let content = Arc::new(Mutex::new(Content::default()));
        let shared = Arc::clone(&content);
        let server = Server::start(move |request| answer(&shared, request));
        Registry { server, content }
    }

    pub fn address(&self) -> &str {
        &self.server.address
    }

    /// A reference to a tag or `@digest` of a repository here.
    pub fn reference(&self, repository: &str, target: &str) -> String {
        let separator = if target.starts_with("sha256:") { '@' } else { ':' };
        format!("{}/{repository}{separator}{target}", self.address())
    }

    pub fn serve(&self, path: &str, media_type: &str, bytes: &[u8]) {
        let mut content = self.content.lock().unwrap();
        content
            .served
            .insert(format!("/v2/{path}"), (media_type.to_owned(), bytes.to_vec()));
    }

    pub fn serve_blob(&self, repository: &str, blob: &Blob) {
        self.serve(
            &format!("{repository}/blobs/{}", blob.digest),
            "application/octet-stream",
            &blob.bytes,
        );
    }

    pub fn serve_manifest(&self, repository: &str, tag: &str, media_type: &str, manifest: &Blob) {
        for target in [tag, &manifest.digest.to_string()] {
            self.serve(
                &format!("{repository}/manifests/{target}"),
                media_type,
                &manifest.bytes,
            );
        }
    }

    /// Serves an image under a tag; gives back the reference.
    pub fn push(&self, repository: &str, tag: &str, image: &TestImage) -> String {
        self.serve_manifest(repository, tag, image.media_type, &image.manifest);
        self.serve_blob(repository, &image.config);
        for layer in &image.layers {
            self.serve_blob(repository, &layer.blob);
        }
        self.reference(repository, tag)
    }

    /// From now on `lie` answers, where it gives an answer.
    pub fn lie(&self, lie: impl Fn(&Request) -> Option<Response> + Send + Sync + 'static) {
        self.content.lock().unwrap().lie = Some(Arc::new(lie));
    }

    pub fn log(&self) -> Vec<Request> {
        self.content.lock().unwrap().log.clone()
    }

    /// How often a blob was asked for.
    pub fn fetches(&self, blob: &Blob) -> usize {
        let end = format!("/blobs/{}", blob.digest);
        self.log()
            .iter()
            .filter(|request| request.method == "GET" && request.path.ends_with(&end))
            .count()
    }
}

fn answer(content: &Mutex<Content>, request: &Request) -> Response {
    let lie = {
        let mut content = content.lock().unwrap();
        content.log.push(request.clone());
        content.lie.clone()
    };
    if let Some(response) = lie.and_then(|lie| lie(request)) {
        return response;
    }
    let content = content.lock().unwrap();
    let path = request.path.split('?').next().unwrap();
    let Some((media_type, bytes)) = content.served.get(path) else {
        return Response::new(404);
    };
    whole_or_range(request, bytes)
        .with("content-type", media_type.clone())
        .with(
            "docker-content-digest",
            pintle_images::Digest::of(bytes).to_string(),
        )
}

/// The bytes, from where the request wants them.
pub fn whole_or_range(request: &Request, bytes: &[u8]) -> Response {
    let range = request
        .header("range")
        .and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-'));
    match range.and_then(|start| start.parse::<usize>().ok()) {
        Some(start) => Response::new(206)
            .with(
                "content-range",
                format!("bytes {start}-{}/{}", bytes.len() - 1, bytes.len()),
            )
            .body(Body::Whole(bytes[start..].to_vec())),
        None => Response::ok(bytes),
    }
}
