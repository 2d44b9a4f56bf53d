//! Credentials: which are sent, in which form, and above all where not.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pintle_images::{Auth, Credentials, Error};

use crate::support::TestStore;
use crate::support::build::{Layer, TestImage};
use crate::support::http::{Request, Response, Server};
use crate::support::registry::Registry;

fn image() -> TestImage {
    TestImage::new(vec![Layer::files(&[("f", "f")]), Layer::files(&[("g", "g")])])
}

fn auth(credentials: Credentials) -> Option<Auth> {
    Some(Auth {
        server_address: None,
        credentials,
    })
}

fn basic(password: &str) -> Option<Auth> {
    auth(Credentials::Basic {
        username: "user".into(),
        password: password.into(),
    })
}

fn basic_header(password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("user:{password}")))
}

/// A registry that wants `wanted` in `Authorization` and answers anything else with `challenge`.
fn guarded(registry: &Registry, wanted: &str, challenge: &str) {
    let (wanted, challenge) = (wanted.to_owned(), challenge.to_owned());
    registry.lie(move |request| {
        let welcome = request.header("authorization") == Some(wanted.as_str());
        (!welcome).then(|| Response::new(401).with("www-authenticate", challenge.clone()))
    });
}

#[tokio::test]
async fn basic_authentication() {
    let registry = Registry::start();
    let reference = registry.push("r", "t", &image());
    guarded(&registry, &basic_header("right"), "Basic realm=\"r\"");
    let test = TestStore::new();
    for wrong in [
        None,
        basic("wrong"),
        auth(Credentials::IdentityToken("right".into())),
    ] {
        let error = test.pull_as(&reference, wrong).await.unwrap_err();
        assert!(matches!(&error, Error::Unauthorized { .. }), "{error}");
        assert!(
            error
                .to_string()
                .ends_with("pull access denied: 401 Unauthorized"),
            "{error}"
        );
    }
    test.assert_empty();
    test.pull_as(&reference, basic("right")).await.unwrap();
}

#[tokio::test]
async fn credentials_for_another_server_are_not_sent() {
    let registry = Registry::start();
    let reference = registry.push("r", "t", &image());
    guarded(&registry, &basic_header("right"), "Basic realm=\"r\"");
    let test = TestStore::new();
    let mut other = basic("right").unwrap();
    other.server_address = Some("https://elsewhere.example".into());
    assert!(test.pull_as(&reference, Some(other.clone())).await.is_err());
    assert!(
        registry
            .log()
            .iter()
            .all(|request| request.header("authorization").is_none())
    );
    other.server_address = Some(format!("http://{}/", registry.address()));
    test.pull_as(&reference, Some(other)).await.unwrap();
}

#[tokio::test]
async fn a_registry_token_is_sent_as_it_is() {
    let registry = Registry::start();
    let reference = registry.push("r", "t", &image());
    guarded(
        &registry,
        "Bearer secret",
        "Bearer realm=\"http://127.0.0.1:1/token\"",
    );
    let test = TestStore::new();
    test.pull_as(&reference, auth(Credentials::RegistryToken("secret".into())))
        .await
        .unwrap();
    let error = test
        .pull_as(&reference, auth(Credentials::RegistryToken("other".into())))
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Unauthorized { .. }), "{error}");
}

/// A token server that knows one user, one refresh token, and nobody.
fn token_server() -> Server {
    Server::start(|request: &Request| {
        let scoped =
            |text: &str| text.contains("scope=repository%3Aa%2Fb%3Apull") && text.contains("service=test");
        let body = String::from_utf8_lossy(&request.body).into_owned();
        let token = match (request.method.as_str(), request.header("authorization")) {
            ("GET", None) if scoped(&request.path) => "anonymous",
            ("GET", Some(header)) if header == basic_header("right") && scoped(&request.path) => "user",
            ("POST", None) if scoped(&body) && body.contains("refresh_token=fresh") => "refreshed",
            _ => return Response::new(401),
        };
        let key = if token == "refreshed" {
            "access_token"
        } else {
            "token"
        };
        Response::ok(format!("{{\"{key}\": \"{token}\", \"expires_in\": 300}}"))
    })
}

#[tokio::test]
async fn token_authentication() {
    let tokens = token_server();
    let challenge = format!(
        "Bearer realm=\"http://{}/token\",service=\"test\"",
        tokens.address
    );
    let refresh = |token: &str| auth(Credentials::IdentityToken(token.into()));
    for (token, credentials) in [
        ("anonymous", None),
        ("user", basic("right")),
        ("refreshed", refresh("fresh")),
    ] {
        let registry = Registry::start();
        let reference = registry.push("a/b", "t", &image());
        guarded(&registry, &format!("Bearer {token}"), &challenge);
        TestStore::new().pull_as(&reference, credentials).await.unwrap();
        let refused = registry
            .log()
            .iter()
            .filter(|request| request.header("authorization").is_none())
            .count();
        assert_eq!(refused, 1, "one challenge is enough for a whole pull");
    }
    let registry = Registry::start();
    let reference = registry.push("a/b", "t", &image());
    guarded(&registry, "Bearer user", &challenge);
    let test = TestStore::new();
    for credentials in [None, basic("wrong"), refresh("stale")] {
        let error = test.pull_as(&reference, credentials).await.unwrap_err();
        assert!(matches!(error, Error::Unauthorized { .. }), "{error}");
    }
    test.assert_empty();
}

#[tokio::test]
async fn a_token_that_expires_is_renewed() {
    let registry = Registry::start();
    let reference = registry.push("a/b", "t", &image());
    let issued = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&issued);
    let tokens = Server::start(move |_| {
        let number = counter.fetch_add(1, Ordering::SeqCst);
        Response::ok(format!("{{\"token\": \"t{number}\"}}"))
    });
    let challenge = format!(
        "Bearer realm=\"http://{}/token\",service=\"test\"",
        tokens.address
    );
    registry.lie(move |request| {
        // The manifest's token does not do for blobs.
        let wanted = if request.path.contains("/blobs/") {
            "Bearer t1"
        } else {
            "Bearer t0"
        };
        let welcome = request.header("authorization") == Some(wanted);
        (!welcome).then(|| Response::new(401).with("www-authenticate", challenge.clone()))
    });
    TestStore::new().pull(&reference).await.unwrap();
    assert_eq!(issued.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_host_behind_a_redirect_gets_no_credentials_by_a_challenge() {
    let asked = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&asked);
    let greedy = Server::start(move |request| {
        let own = format!(
            "Bearer realm=\"http://{}/token\"",
            request.header("host").unwrap()
        );
        counter.fetch_add(
            usize::from(request.header("authorization").is_some()),
            Ordering::SeqCst,
        );
        if request.path.starts_with("/token") {
            return Response::ok("{\"token\": \"x\"}");
        }
        Response::new(401).with("www-authenticate", own)
    });
    let registry = Registry::start();
    let reference = registry.push("r", "t", &image());
    let target = greedy.address.clone();
    registry.lie(move |request| {
        let to = format!("http://{target}/blob");
        request
            .path
            .contains("/blobs/")
            .then(|| Response::new(302).with("location", to))
    });
    let test = TestStore::new();
    let error = test.pull_as(&reference, basic("right")).await.unwrap_err();
    assert!(matches!(error, Error::Unauthorized { .. }), "{error}");
    assert_eq!(asked.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn foreign_layers_come_from_where_they_say() {
    let image = image();
    let elsewhere = Registry::start();
    let url = format!(
        "http://{}/v2/far/blobs/{}",
        elsewhere.address(),
        image.layers[0].blob.digest
    );
    elsewhere.serve_blob("far", &image.layers[0].blob);
    let foreign = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip";
    let mut image = TestImage::edited(image.layers, |_, manifest| {
        manifest["layers"][0]["mediaType"] = foreign.into();
        manifest["layers"][0]["urls"] = vec!["ftp://nowhere/x".to_owned(), url].into();
    });
    let absent = image.layers.remove(0);
    let registry = Registry::start();
    let reference = registry.push("r", "t", &image);
    guarded(&registry, &basic_header("right"), "Basic realm=\"r\"");
    let test = TestStore::new();
    test.pull_as(&reference, basic("right")).await.unwrap();
    assert_eq!(
        (registry.fetches(&absent.blob), elsewhere.fetches(&absent.blob)),
        (1, 1)
    );
    assert!(
        elsewhere
            .log()
            .iter()
            .all(|request| request.header("authorization").is_none())
    );
}

#[tokio::test]
async fn credentials_do_not_follow_redirects() {
    let image = image();
    let store = Registry::start();
    store.push("blobs", "t", &image);
    let registry = Registry::start();
    let reference = registry.push("r", "t", &image);
    let target = store.address().to_owned();
    registry.lie(move |request| {
        if request.header("authorization") != Some(basic_header("right").as_str()) {
            return Some(Response::new(401).with("www-authenticate", "Basic realm=\"r\""));
        }
        let digest = request.path.strip_prefix("/v2/r/blobs/")?;
        let location = format!("http://{target}/v2/blobs/blobs/{digest}?signature=x");
        Some(Response::new(307).with("location", location))
    });
    let test = TestStore::new();
    test.pull_as(&reference, basic("right")).await.unwrap();
    let log = store.log();
    assert_eq!(log.len(), 3, "two layers and the configuration");
    assert!(
        log.iter()
            .all(|request| request.header("authorization").is_none())
    );
}
