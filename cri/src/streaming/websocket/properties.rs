//! What holds whatever a client sends: nothing panics, content comes through whole, and every connection ends.

use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::{Strategy, any};
use proptest::sample::Index;
use proptest::test_runner::Config;
use proptest::{prop_assert, prop_assert_eq, proptest};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_tungstenite::tungstenite::Message;

use super::{Channel, Connection, accept, codec, tunnel};
use crate::streaming::inbox::Taken;
use crate::streaming::link::Link;
use crate::streaming::negotiate::Codec;

const IDLE: Duration = Duration::from_secs(3600);

fn config() -> Config {
    Config {
        cases: 96,
        failure_persistence: None,
        ..Config::default()
    }
}

fn codecs() -> impl Strategy<Value = Codec> {
    any::<bool>().prop_map(|binary| if binary { Codec::Binary } else { Codec::Base64 })
}

/// A client's frame: final, masked, of an opcode that may not exist.
fn frame(opcode: u8, content: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x80 | opcode];
    match u16::try_from(content.len()) {
        Ok(length) if length < 126 => bytes.push(0x80 | length.to_be_bytes()[1]),
        Ok(length) => {
            bytes.push(0x80 | 126);
            bytes.extend(length.to_be_bytes());
        }
        Err(_) => unreachable!("the tests' messages are short"),
    }
    // A mask of zeros leaves the content as it is.
    bytes.extend([0; 4]);
    bytes.extend(content);
    bytes
}

fn damaged() -> impl Strategy<Value = Vec<u8>> {
    let frames = vec((0..16_u8, vec(any::<u8>(), 0..1000)), 0..20);
    let flips = vec((any::<Index>(), any::<u8>()), 0..3);
    (frames, flips).prop_map(|(frames, flips)| {
        // Binary and text messages more often than what ends a connection.
        let opcode = |kind: u8| if kind < 12 { 1 + kind % 2 } else { kind - 4 };
        let mut bytes: Vec<u8> = frames
            .iter()
            .flat_map(|(kind, content)| frame(opcode(*kind), content))
            .collect();
        for (place, bits) in flips {
            if !bytes.is_empty() {
                let place = place.index(bytes.len());
                bytes[place] ^= bits;
            }
        }
        bytes
    })
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap()
}

/// The server's end of a connection whose client sends these bytes and closes, and takes what comes.
fn client(bytes: Vec<u8>) -> tokio::io::DuplexStream {
    let (near, far) = tokio::io::duplex(4096);
    let (mut from, mut to) = tokio::io::split(far);
    tokio::spawn(async move {
        let mut answers = Vec::new();
        drop(from.read_to_end(&mut answers).await);
    });
    tokio::spawn(async move {
        drop(to.write_all(&bytes).await);
        drop(to.shutdown().await);
    });
    near
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn messages_come_through(codec in codecs(), channel in 0..10_u8, content in vec(any::<u8>(), 0..2000)) {
        let (back, bytes) = codec::decode(codec, codec::encode(codec, channel, &content)).unwrap();
        prop_assert_eq!(back, channel);
        prop_assert_eq!(&bytes[..], &content[..]);
    }

    #[test]
    fn messages_of_any_kind_are_taken_apart_or_not(codec in codecs(), text in ".{0,200}", bytes in vec(any::<u8>(), 0..200)) {
        let messages = [Message::text(text), Message::binary(bytes.clone()), Message::Ping(bytes.into())];
        for message in messages {
            let length = message.len();
            if let Some((_, content)) = codec::decode(codec, message) {
                prop_assert!(content.len() < length);
            }
        }
    }

    #[test]
    fn connections_end_with_their_client(codec in codecs(), bytes in damaged()) {
        let length = bytes.len();
        let taken = runtime().block_on(async move {
            let (channels, mut inputs): (Vec<_>, Vec<_>) = [0, 1, 4].map(Channel::new).into_iter().unzip();
            let socket = accept(client(bytes)).await;
            let connection = Connection::start(socket, Link::new(), codec, channels, IDLE);
            let mut taken = 0;
            // All at once: one that nobody takes holds up the others.
            let readers: Vec<_> = inputs
                .drain(..)
                .map(|mut input| {
                    tokio::spawn(async move {
                        let mut taken = 0;
                        while let Taken::Data(data) = input.next().await {
                            taken += data.len();
                        }
                        taken
                    })
                })
                .collect();
            for reader in readers {
                taken += reader.await.unwrap();
            }
            connection.close().await;
            taken
        });
        prop_assert!(taken <= length, "{taken} of {length}");
    }

    #[test]
    fn tunnels_end_with_their_client(bytes in damaged(), noise in vec(any::<u8>(), 0..500)) {
        for bytes in [bytes, noise] {
            let length = bytes.len();
            let taken = runtime().block_on(async move {
                let link = Link::new();
                let mut near = tunnel(accept(client(bytes)).await, link.clone());
                let mut content = Vec::new();
                drop(near.read_to_end(&mut content).await);
                link.close();
                content.len()
            });
            prop_assert!(taken <= length, "{taken} of {length}");
        }
    }
}
