//! What holds whatever a client sends: nothing panics, nothing grows beyond its bounds, and every connection ends.

use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::{Just, Strategy, any, prop_oneof};
use proptest::sample::Index;
use proptest::test_runner::Config;
use proptest::{prop_assert, proptest};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::connection::{Connection, Limits, MAX_STREAMS};
use super::frame::{self, Control, Head, MAX_CONTROL};
use super::headers::{Deflater, Inflater, MAX_BLOCK};
use crate::streaming::inbox::Taken;
use crate::streaming::link::Link;

fn config() -> Config {
    Config {
        cases: 256,
        failure_persistence: None,
        ..Config::default()
    }
}

/// A header block's pairs, some of them those that our streams have.
fn pairs() -> impl Strategy<Value = Vec<(String, String)>> {
    let name = prop_oneof![
        Just("streamtype".to_owned()),
        Just("port".to_owned()),
        Just("requestid".to_owned()),
        ".{0,20}",
    ];
    vec((name, ".{0,200}"), 0..8)
}

fn control(kind: u16, flags: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x80, 3];
    bytes.extend(kind.to_be_bytes());
    bytes.push(flags);
    bytes.extend(&u32::try_from(body.len()).unwrap().to_be_bytes()[1..]);
    bytes.extend(body);
    bytes
}

/// Frames in which only the content is random.
#[derive(Debug, Clone)]
enum Sent {
    Open(bool, Vec<(String, String)>),
    Data(u32, bool, Vec<u8>),
    Control(u16, u8, Vec<u8>),
}

fn sent() -> impl Strategy<Value = Sent> {
    prop_oneof![
        (any::<bool>(), pairs()).prop_map(|(fin, pairs)| Sent::Open(fin, pairs)),
        (0..12_u32, any::<bool>(), vec(any::<u8>(), 0..3000)).prop_map(|(id, fin, c)| Sent::Data(id, fin, c)),
        (0..12_u16, any::<u8>(), vec(any::<u8>(), 0..40)).prop_map(|(k, f, body)| Sent::Control(k, f, body)),
    ]
}

fn written(frames: &[Sent]) -> Vec<u8> {
    let (mut bytes, mut deflater, mut next) = (Vec::new(), Deflater::new(), 1_u32);
    for frame in frames {
        match frame {
            Sent::Open(fin, pairs) => {
                let pairs: Vec<(&str, &str)> = pairs.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
                let mut body = next.to_be_bytes().to_vec();
                body.extend([0; 6]);
                body.extend(deflater.write(&pairs));
                bytes.extend(control(1, u8::from(*fin), &body));
                next += 2;
            }
            Sent::Data(id, fin, content) => {
                bytes.extend(id.to_be_bytes());
                bytes.push(u8::from(*fin));
                bytes.extend(&u32::try_from(content.len()).unwrap().to_be_bytes()[1..]);
                bytes.extend(content);
            }
            Sent::Control(kind, flags, body) => bytes.extend(control(*kind, *flags, body)),
        }
    }
    bytes
}

fn flipped(mut bytes: Vec<u8>, flips: &[(Index, u8)]) -> Vec<u8> {
    for (place, bits) in flips.iter().filter(|_| !bytes.is_empty()).collect::<Vec<_>>() {
        let place = place.index(bytes.len());
        bytes[place] ^= bits;
    }
    bytes
}

/// A connection that is sent these bytes and then closed; how many streams it gave, and how many bytes on them.
fn serve(bytes: Vec<u8>) -> (usize, usize) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(async move {
        let (near, far) = tokio::io::duplex(4096);
        let limits = Limits {
            idle: Duration::from_secs(3600),
            stuck: Some(Duration::from_secs(60)),
        };
        let mut connection = Connection::start(near, Link::new(), limits);
        let (mut from, mut to) = tokio::io::split(far);
        tokio::spawn(async move {
            let mut answers = Vec::new();
            drop(from.read_to_end(&mut answers).await);
        });
        tokio::spawn(async move {
            drop(to.write_all(&bytes).await);
            drop(to.shutdown().await);
        });
        let (mut streams, mut readers, mut held) = (0, Vec::new(), Vec::new());
        while let Some(mut stream) = connection.accept().await {
            streams += 1;
            match stream.id % 3 {
                0 => drop(stream),
                1 => held.push(stream),
                _ => readers.push(tokio::spawn(async move {
                    let mut bytes = 0;
                    while let Taken::Data(data) = stream.input.next().await {
                        bytes += data.len();
                    }
                    bytes
                })),
            }
        }
        let mut bytes = 0;
        for reader in readers {
            bytes += reader.await.unwrap();
        }
        (streams, bytes)
    })
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn heads_are_bounded(bytes: [u8; 8]) {
        match frame::head(bytes) {
            Ok(Head::Control { length, .. }) => prop_assert!(length <= MAX_CONTROL),
            Ok(Head::Data { stream, length, .. }) => prop_assert!(stream > 0 && length < 1 << 24),
            Err(_) => {}
        }
    }

    #[test]
    fn control_frames_name_streams(kind in 0..12_u16, flags: u8, body in vec(any::<u8>(), 0..200)) {
        match frame::control(kind, flags, &body) {
            Ok(Control::SynStream { stream, block, .. } | Control::Headers { stream, block, .. }) => {
                prop_assert!(stream > 0 && stream < 1 << 31 && block.len() < body.len());
            }
            Ok(Control::WindowUpdate { delta, .. }) => prop_assert!(delta > 0 && delta < 1 << 31),
            Ok(Control::InitialWindow(size)) => prop_assert!(size < 1 << 31),
            _ => {}
        }
    }

    #[test]
    fn header_blocks_inflate_to_no_more_than_they_may(
        all in vec(pairs(), 1..6),
        flips in vec((any::<Index>(), any::<u8>()), 0..4),
        noise in vec(any::<u8>(), 0..300),
    ) {
        let (mut out, mut back) = (Deflater::new(), Inflater::new());
        for pairs in &all {
            let pairs: Vec<(&str, &str)> = pairs.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
            let block = flipped(out.write(&pairs), &flips);
            match back.inflate(&block) {
                Ok(text) => prop_assert!(text.len() <= MAX_BLOCK && text.capacity() <= 2 * MAX_BLOCK),
                Err(_) => break,
            }
        }
        if let Ok(text) = Inflater::new().inflate(&noise) {
            prop_assert!(text.len() <= MAX_BLOCK);
        }
        drop(back.read(&noise));
    }
}

proptest! {
    #![proptest_config(Config { cases: 96, ..config() })]

    #[test]
    fn connections_end_after_noise(bytes in vec(any::<u8>(), 0..2000)) {
        serve(bytes);
    }

    #[test]
    fn connections_end_after_damaged_frames(
        frames in vec(sent(), 0..40),
        flips in vec((any::<Index>(), any::<u8>()), 0..3),
    ) {
        let bytes = flipped(written(&frames), &flips);
        let length = bytes.len();
        let (streams, data) = serve(bytes);
        prop_assert!(streams <= MAX_STREAMS && data <= length, "{streams} streams, {data} bytes");
    }
}
