//! Tests of reading `hosts.toml`.

use super::*;

const FULL: &str = r#"
server = "https://registry-1.docker.io"
ca = "own.pem"

[host."https://zz.example/v2/proxy"]
  capabilities = ["pull"]
  override_path = true
  skip_verify = true
  client = [["/c.pem", "k.pem"], "both.pem"]
  dial_timeout = "5s"
  [host."https://zz.example/v2/proxy".header]
    x-one = "1"
    x-two = ["2", "3"]

[host."aa.example:5000"]
  capabilities = ["pull", "resolve", "push"]
  ca = ["a.pem", "b.pem"]
"#;

#[test]
fn reads_everything_in_order() {
    let folder = Path::new("/certs/docker.io");
    let hosts = parse(FULL, &folder.join(FILE), folder).unwrap();
    let addresses: Vec<_> = hosts
        .iter()
        .map(|host| host.address.as_deref().unwrap())
        .collect();
    let expected = [
        "https://zz.example/v2/proxy",
        "https://aa.example:5000",
        "https://registry-1.docker.io",
    ];
    assert_eq!(addresses, expected);
    let first = &hosts[0];
    assert_eq!(first.abilities, [Ability::Pull]);
    assert!(first.override_path && first.trust.skip_verify);
    let key = |certificate: &str, key: &str| Identity {
        certificate: certificate.into(),
        key: key.into(),
    };
    let both = "/certs/docker.io/both.pem";
    assert_eq!(
        first.trust.identities,
        [key("/c.pem", "/certs/docker.io/k.pem"), key(both, both)]
    );
    let headers: Vec<_> = first
        .headers
        .iter()
        .map(|(name, value)| format!("{name}: {value}"))
        .collect();
    assert_eq!(headers, ["x-one: 1", "x-two: 2", "x-two: 3"]);
    assert_eq!(first.dial_timeout, Some(Duration::from_secs(5)));
    assert_eq!(hosts[1].dial_timeout, None);
    assert_eq!(hosts[1].trust.ca.len(), 2);
    assert_eq!(hosts[2].trust.ca, [Path::new("/certs/docker.io/own.pem")]);
}

#[test]
fn says_what_is_wrong() {
    for (text, part) in [
        ("server = 5", "expected a string"),
        (
            "[host.\"h\"]\ncapabilities = [\"fly\"]",
            "unknown capability \"fly\"",
        ),
        (
            "[host.\"h\"]\nclient = [[\"a\", \"b\", \"c\"]]",
            "client must name",
        ),
        ("dial_timeout = \"\"", "dial_timeout \"\" is no time"),
        (
            "[host.\"h\"]\ndial_timeout = \"-1s\"",
            "dial_timeout \"-1s\" is no time",
        ),
        ("dial_timeout = \"5\"", "dial_timeout \"5\" is no time"),
        ("= broken", "TOML"),
    ] {
        let error = parse(text, Path::new("/c/hosts.toml"), Path::new("/c"))
            .unwrap_err()
            .to_string();
        assert!(error.starts_with("hosts.toml: \"/c/hosts.toml\": "), "{error}");
        assert!(error.contains(part) || part == "TOML", "{error}");
    }
}

#[test]
fn times_are_written_as_in_go() {
    for (text, millis) in [
        ("5s", 5000),
        ("1m30s", 90_000),
        ("500ms", 500),
        ("1.5h", 5_400_000),
    ] {
        assert_eq!(dial_timeout(text), Ok(Duration::from_millis(millis)), "{text}");
    }
    for text in ["0s", "s", "1d", "1e99h", "nans", "1h1e30h", "5s "] {
        assert!(dial_timeout(text).is_err(), "{text}");
    }
}

#[test]
fn finds_the_folder() {
    let root = tempfile::tempdir().unwrap();
    let mirror = |name: &str, server: &str| {
        let folder = root.path().join(name);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(FILE), format!("server = \"https://{server}\"")).unwrap();
    };
    let server = |domain: &str| read(Some(root.path()), domain).unwrap().pop().unwrap().address;
    assert_eq!(server("h.example:5000"), None);
    mirror(DEFAULT_FOLDER, "default");
    assert_eq!(server("h.example:5000").as_deref(), Some("https://default"));
    mirror("h.example:5000", "colon");
    assert_eq!(server("h.example:5000").as_deref(), Some("https://colon"));
    mirror("h.example_5000_", "underscores");
    assert_eq!(server("h.example:5000").as_deref(), Some("https://underscores"));
    assert_eq!(server("h.example").as_deref(), Some("https://default"));
    let bare = root.path().join("bare.example");
    fs::create_dir(&bare).unwrap();
    for name in ["ca.crt", "me.cert", "me.key", "notes.txt"] {
        fs::write(bare.join(name), "").unwrap();
    }
    let trust = read(Some(root.path()), "bare.example")
        .unwrap()
        .pop()
        .unwrap()
        .trust;
    assert_eq!((trust.ca.len(), trust.identities.len()), (1, 1));
    assert_eq!(read(None, "h.example").unwrap().len(), 1);
}
