//! Tests of the reference grammar.

use super::*;

const HEX: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

fn shown(text: &str) -> String {
    Reference::parse(text).unwrap().to_string()
}

fn reason(text: &str) -> ReferenceError {
    match Reference::parse(text) {
        Err(Error::InvalidReference { reference, reason }) => {
            assert_eq!(reference, text);
            reason
        }
        other => panic!("{text}: {other:?}"),
    }
}

#[test]
fn normalises_like_docker() {
    for (text, full) in [
        ("busybox", "docker.io/library/busybox:latest"),
        ("busybox:1.36", "docker.io/library/busybox:1.36"),
        ("user/app", "docker.io/user/app:latest"),
        ("docker.io/busybox", "docker.io/library/busybox:latest"),
        ("index.docker.io/busybox", "docker.io/library/busybox:latest"),
        ("localhost/app", "localhost/app:latest"),
        ("localhost:5000/app", "localhost:5000/app:latest"),
        ("localhost:5000", "docker.io/library/localhost:5000"),
        ("registry.k8s.io/pause:3.9", "registry.k8s.io/pause:3.9"),
        ("[::1]:5000/a/b:x", "[::1]:5000/a/b:x"),
        ("[fe80::1]/a", "[fe80::1]/a:latest"),
        (
            "127.0.0.1:5000/a__b/c--d/e.f:V1_x.y-z",
            "127.0.0.1:5000/a__b/c--d/e.f:V1_x.y-z",
        ),
        ("Host/app", "Host/app:latest"),
    ] {
        assert_eq!(shown(text), full);
    }
}

#[test]
fn digests_decide_over_tags() {
    let both = Reference::parse(&format!("busybox:1@sha256:{HEX}")).unwrap();
    assert_eq!(both.tag(), Some("1"));
    assert_eq!(both.tag_name(), None);
    assert_eq!(both.digest().unwrap().hex(), HEX);
    let only = Reference::parse(&format!("busybox@sha256:{HEX}")).unwrap();
    assert_eq!(only.tag(), None);
    assert_eq!(
        only.digest_name(&only.digest().unwrap()),
        format!("docker.io/library/busybox@sha256:{HEX}")
    );
}

#[test]
fn says_which_character_is_wrong() {
    assert_eq!(
        reason("busyBox"),
        ReferenceError::Character {
            character: 'B',
            position: 5,
            part: "name"
        }
    );
    assert_eq!(
        reason("a/b c"),
        ReferenceError::Character {
            character: ' ',
            position: 4,
            part: "name"
        }
    );
    assert_eq!(
        reason("a:t%"),
        ReferenceError::Character {
            character: '%',
            position: 4,
            part: "tag"
        }
    );
    assert_eq!(
        reason("ä.b/c").to_string(),
        "character 'ä' at position 1 is not allowed in the registry's host"
    );
    assert_eq!(
        reason("h.x/a..b"),
        ReferenceError::Character {
            character: '.',
            position: 7,
            part: "name"
        }
    );
    assert_eq!(
        reason("a___b"),
        ReferenceError::Character {
            character: '_',
            position: 3,
            part: "name"
        }
    );
}

#[test]
fn refuses_what_the_grammar_refuses() {
    assert_eq!(reason(""), ReferenceError::NoName);
    assert_eq!(reason(":tag"), ReferenceError::NoName);
    assert_eq!(
        reason("a:"),
        ReferenceError::Empty {
            position: 3,
            part: "tag"
        }
    );
    assert_eq!(
        reason("h.x//a"),
        ReferenceError::Empty {
            position: 5,
            part: "name"
        }
    );
    assert_eq!(
        reason("-a"),
        ReferenceError::Separator {
            position: 1,
            part: "name"
        }
    );
    assert_eq!(
        reason("a-"),
        ReferenceError::Separator {
            position: 2,
            part: "name"
        }
    );
    assert_eq!(reason("host:0/a"), ReferenceError::Port);
    assert_eq!(reason("host:66000/a"), ReferenceError::Port);
    assert_eq!(reason(HEX), ReferenceError::LooksLikeId);
    assert_eq!(
        reason("a@sha512:00"),
        ReferenceError::Digest(DigestError::Algorithm)
    );
    assert_eq!(reason("a@sha256:00"), ReferenceError::Digest(DigestError::Hex));
    assert_eq!(
        reason(&"a".repeat(300)),
        ReferenceError::TooLong {
            part: "name",
            limit: 255
        }
    );
    assert_eq!(
        reason(&format!("a:{}", "t".repeat(129))),
        ReferenceError::TooLong {
            part: "tag",
            limit: 128
        }
    );
    assert!(Reference::parse("../a").is_err());
    assert!(Reference::parse("a/../b").is_err());
    assert!(Reference::parse("http://a/b").is_err());
}
