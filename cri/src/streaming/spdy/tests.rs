//! A connection against a client that speaks in raw frames, well-behaved and hostile.

mod windows;

use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::time::timeout;

use super::connection::{Connection, Limits, MAX_STREAMS};
use super::frame::{self, Head};
use super::headers::Deflater;
use super::sender::Stream;
use super::shared::LARGE;
use crate::streaming::error::StreamError;
use crate::streaming::inbox::{End, Taken};
use crate::streaming::link::Link;

const SYN_REPLY: u16 = 2;
const RST_STREAM: u16 = 3;
const PING: u16 = 6;
const GOAWAY: u16 = 7;
const WINDOW_UPDATE: u16 = 9;

struct Client {
    io: DuplexStream,
    deflater: Deflater,
}

fn start_with(stuck: Option<Duration>) -> (Connection, Client) {
    let (near, far) = tokio::io::duplex(4096);
    let limits = Limits {
        idle: Duration::from_secs(3600),
        stuck,
    };
    let client = Client {
        io: far,
        deflater: Deflater::new(),
    };
    (Connection::start(near, Link::new(), limits), client)
}

fn start() -> (Connection, Client) {
    start_with(None)
}

fn control(kind: u16, body: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x80, 3];
    frame.put_u16(kind);
    frame.put_u32(u32::try_from(body.len()).unwrap());
    frame.extend(body);
    frame
}

fn numbers(numbers: &[u32]) -> Vec<u8> {
    numbers.iter().flat_map(|n| n.to_be_bytes()).collect()
}

impl Client {
    async fn raw(&mut self, bytes: &[u8]) {
        self.io.write_all(bytes).await.unwrap();
    }

    fn syn_stream(&mut self, id: u32, headers: &[(&str, &str)]) -> Vec<u8> {
        let mut body = numbers(&[id, 0]);
        body.extend([0, 0]);
        body.extend(self.deflater.write(headers));
        control(1, &body)
    }

    async fn open(&mut self, id: u32) {
        let frame = self.syn_stream(id, &[("streamtype", "data")]);
        self.raw(&frame).await;
    }

    async fn data(&mut self, id: u32, fin: bool, content: &[u8]) {
        let mut frame = BytesMut::new();
        frame.put_u32(id);
        frame.put_u8(u8::from(fin));
        frame.put_uint(content.len() as u64, 3);
        frame.put_slice(content);
        self.raw(&frame).await;
    }

    async fn frame(&mut self) -> Option<(Head, Vec<u8>)> {
        let mut head = [0; 8];
        self.io.read_exact(&mut head).await.ok()?;
        let head = frame::head(head).unwrap();
        let (Head::Control { length, .. } | Head::Data { length, .. }) = head;
        let mut body = vec![0; length];
        self.io.read_exact(&mut body).await.unwrap();
        Some((head, body))
    }

    async fn expect(&mut self, kind: u16) -> Vec<u8> {
        let (head, body) = self.frame().await.unwrap();
        assert!(
            matches!(head, Head::Control { kind: k, .. } if k == kind),
            "{head:?}, not {kind}"
        );
        body
    }

    /// Reads data frames of a stream until `count` bytes came.
    async fn read(&mut self, id: u32, count: usize) -> Vec<u8> {
        let mut all = Vec::new();
        while all.len() < count {
            let (head, body) = self.frame().await.unwrap();
            assert!(
                matches!(head, Head::Data { stream, fin: false, .. } if stream == id),
                "{head:?}"
            );
            all.extend(body);
        }
        assert_eq!(all.len(), count);
        all
    }

    /// Whether nothing comes. The clock is paused in such tests: it stands for "not until something else happens".
    async fn hears_nothing(&mut self) -> bool {
        timeout(Duration::from_secs(5), self.frame()).await.is_err()
    }
}

async fn opened(connection: &mut Connection, client: &mut Client, id: u32) -> Stream {
    client.open(id).await;
    let stream = connection.accept().await.unwrap();
    stream.reply();
    assert_eq!(client.expect(SYN_REPLY).await[..4], id.to_be_bytes());
    stream
}

#[tokio::test]
async fn bytes_go_both_ways_and_each_way_ends_by_itself() {
    let (mut connection, mut client) = start();
    let mut stream = opened(&mut connection, &mut client, 1).await;
    assert_eq!(stream.headers.get("streamtype"), Some("data"));
    client.data(1, false, b"to ").await;
    client.data(1, true, b"you").await;
    let mut got = Vec::new();
    while let Taken::Data(data) = stream.input.next().await {
        got.extend_from_slice(&data);
    }
    assert_eq!(got, b"to you");
    stream.output.send(Bytes::from_static(b"back")).await.unwrap();
    assert_eq!(client.read(1, 4).await, b"back");
    stream.output.finish().await.unwrap();
    assert!(matches!(
        client.frame().await,
        Some((
            Head::Data {
                stream: 1,
                fin: true,
                length: 0
            },
            _
        ))
    ));
    assert!(stream.output.send(Bytes::from_static(b"late")).await.is_err());
}

#[tokio::test]
async fn pings_of_the_client_are_answered_and_answers_are_not() {
    let (_connection, mut client) = start();
    client.raw(&control(PING, &numbers(&[2]))).await;
    client.raw(&control(PING, &numbers(&[77]))).await;
    assert_eq!(client.expect(PING).await, numbers(&[77]));
}

#[tokio::test]
async fn a_reset_breaks_one_stream_and_no_other() {
    let (mut connection, mut client) = start();
    let mut first = opened(&mut connection, &mut client, 1).await;
    let mut second = opened(&mut connection, &mut client, 3).await;
    client.raw(&control(RST_STREAM, &numbers(&[1, 5]))).await;
    assert_eq!(first.input.next().await, Taken::End(End::Broken));
    assert!(matches!(
        first.output.send(Bytes::from_static(b"x")).await,
        Err(StreamError::Closed)
    ));
    second.output.send(Bytes::from_static(b"fine")).await.unwrap();
    assert_eq!(client.read(3, 4).await, b"fine");
    // Dropped unfinished, it is reset by us; the first one is over already.
    drop(first);
    drop(second);
    assert_eq!(client.expect(RST_STREAM).await[..4], 3_u32.to_be_bytes());
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_nobody_reads_is_reset_where_others_share_the_connection() {
    let (mut connection, mut client) = start_with(Some(Duration::from_secs(60)));
    let mut stuck = opened(&mut connection, &mut client, 1).await;
    let _its_errors = opened(&mut connection, &mut client, 3).await;
    let mut other = opened(&mut connection, &mut client, 5).await;
    let sender = tokio::spawn(async move {
        client.data(1, false, &vec![0; 3 * LARGE]).await;
        client.data(5, true, b"through").await;
        client
    });
    assert_eq!(
        other.input.next().await,
        Taken::Data(Bytes::from_static(b"through"))
    );
    assert_eq!(stuck.input.next().await, Taken::End(End::Broken));
    drop(sender.await.unwrap());
}

#[tokio::test]
async fn streams_beyond_the_limit_are_refused() {
    let (mut connection, mut client) = start();
    let count = u32::try_from(MAX_STREAMS).unwrap();
    let mut held = Vec::new();
    for n in 0..count {
        client.open(2 * n + 1).await;
        held.push(connection.accept().await.unwrap());
    }
    client.open(2 * count + 1).await;
    assert_eq!(client.expect(RST_STREAM).await, numbers(&[2 * count + 1, 3]));
    // Room for another once one is over.
    client.raw(&control(RST_STREAM, &numbers(&[1, 5]))).await;
    client.open(2 * count + 3).await;
    assert_eq!(connection.accept().await.unwrap().id, 2 * count + 3);
}

#[tokio::test]
async fn whoever_breaks_the_protocol_is_told_and_left() {
    let mut broken = Client {
        io: tokio::io::duplex(1).0,
        deflater: Deflater::new(),
    };
    let hostile = [
        ("another version", vec![0x80, 2, 0, 1, 0, 0, 0, 0]),
        ("a huge control frame", vec![0x80, 3, 0, 1, 0, 0xff, 0xff, 0xff]),
        ("data of stream 0", vec![0, 0, 0, 0, 0, 0, 0, 1, 7]),
        ("an even stream", broken.syn_stream(2, &[])),
        ("no headers", control(1, &numbers(&[3, 0, 0]))),
        (
            "bad deflate",
            control(1, &[0, 0, 0, 3, 0, 0, 0, 0, 0, 0, b'x', 1, 2, 3]),
        ),
        ("a short frame", control(WINDOW_UPDATE, &[1])),
        ("a window of nothing", control(WINDOW_UPDATE, &numbers(&[1, 0]))),
        (
            "a window too large",
            control(WINDOW_UPDATE, &numbers(&[0, 0x7fff_ffff])),
        ),
    ];
    for (what, bytes) in hostile {
        let (mut connection, mut client) = start();
        let mut stream = opened(&mut connection, &mut client, 1).await;
        client.raw(&bytes).await;
        assert_eq!(client.expect(GOAWAY).await, numbers(&[1, 1]), "{what}");
        assert!(client.frame().await.is_none(), "{what}");
        assert_eq!(stream.input.next().await, Taken::End(End::Broken), "{what}");
        assert!(connection.accept().await.is_none(), "{what}");
    }
}

#[tokio::test]
async fn a_stream_id_may_not_come_twice() {
    let (mut connection, mut client) = start();
    let _stream = opened(&mut connection, &mut client, 5).await;
    client.open(5).await;
    assert_eq!(client.expect(GOAWAY).await, numbers(&[5, 1]));
}

#[tokio::test]
async fn wherever_a_client_breaks_off_its_streams_are_broken() {
    let whole = {
        let mut client = Client {
            io: tokio::io::duplex(1).0,
            deflater: Deflater::new(),
        };
        let mut bytes = client.syn_stream(1, &[("streamtype", "data")]);
        bytes.extend([0, 0, 0, 1, 0, 0, 0, 9]);
        bytes.extend(b"123456");
        bytes
    };
    for cut in 0..whole.len() {
        let (mut connection, mut client) = start();
        client.raw(&whole[..cut]).await;
        drop(client);
        while let Some(mut stream) = connection.accept().await {
            while let Taken::Data(_) = stream.input.next().await {}
            assert_eq!(stream.input.next().await, Taken::End(End::Broken), "{cut}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_floods_and_does_not_read_is_not_read_from_either() {
    let (_connection, client) = start();
    let (mut from, mut to) = tokio::io::split(client.io);
    let count = 20_000;
    let mut flood = tokio::spawn(async move {
        let ping = control(PING, &numbers(&[1]));
        for _ in 0..count {
            to.write_all(&ping).await.unwrap();
        }
    });
    assert!(
        timeout(Duration::from_secs(5), &mut flood).await.is_err(),
        "all of it was taken"
    );
    let mut answers = vec![0; count * 12];
    from.read_exact(&mut answers).await.unwrap();
    flood.await.unwrap();
}

#[tokio::test]
async fn the_end_comes_behind_all_that_was_sent_and_waits_for_the_client() {
    let (mut connection, mut client) = start();
    let mut stream = opened(&mut connection, &mut client, 1).await;
    let ending = tokio::spawn(async move {
        stream.output.send(Bytes::from(vec![1; 100_000])).await.unwrap();
        stream.output.finish().await.unwrap();
        connection.close().await;
    });
    client.read(1, 100_000).await;
    assert!(matches!(
        client.frame().await,
        Some((
            Head::Data {
                stream: 1,
                fin: true,
                length: 0
            },
            _
        ))
    ));
    assert_eq!(client.expect(GOAWAY).await, numbers(&[1, 0]));
    assert!(client.frame().await.is_none());
    assert!(!ending.is_finished(), "the client has not left yet");
    drop(client);
    ending.await.unwrap();
}
