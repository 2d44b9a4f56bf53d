//! Calls in both directions, and peers that misbehave.

use super::*;
use crate::proto::nri::{ConfigureRequest, ConfigureResponse, Empty};

const LONG: Duration = Duration::from_secs(60);

/// The plugin's end of a socket.
struct Peer {
    demux: Demux<ReadHalf<UnixStream>>,
    writing: WriteHalf<UnixStream>,
}

fn connect() -> (Arc<Link>, mpsc::Receiver<Inbound>, Peer) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let (link, calls) = Link::open(ours);
    let (reading, writing) = tokio::io::split(theirs);
    let demux = Demux::new(reading);
    (link, calls, Peer { demux, writing })
}

impl Peer {
    async fn next(&mut self) -> (u32, Message) {
        self.demux.next().await.unwrap().unwrap()
    }

    async fn send(&mut self, connection: u32, message: &Message) {
        self.writing
            .write_all(&mux::frames(connection, message))
            .await
            .unwrap();
    }
}

fn configure(
    link: &Arc<Link>,
    limit: Duration,
) -> tokio::task::JoinHandle<Result<ConfigureResponse, CallError>> {
    let link = Arc::clone(link);
    tokio::spawn(async move {
        let request = ConfigureRequest::default();
        link.call("service", "Configure", &request, limit).await
    })
}

#[tokio::test]
async fn answers_find_their_calls_in_any_order() {
    let (link, _calls, mut peer) = connect();
    let (one, two) = (configure(&link, LONG), configure(&link, LONG));
    let mut asked = vec![peer.next().await.1, peer.next().await.1];
    assert!(
        asked.iter().all(|m| m.stream % 2 == 1),
        "a client's streams are odd"
    );
    asked.reverse();
    for message in &asked {
        let events = i32::try_from(message.stream).unwrap();
        let answer = Response::of(&ConfigureResponse { events });
        peer.send(
            mux::PLUGIN,
            &Message::new(message.stream, Kind::Response, &answer),
        )
        .await;
    }
    let mut events = [
        one.await.unwrap().unwrap().events,
        two.await.unwrap().unwrap().events,
    ];
    events.sort_unstable();
    assert_eq!(events, [1, 3]);
    // an answer to nobody
    peer.send(
        mux::PLUGIN,
        &Message::new(99, Kind::Response, &Response::default()),
    )
    .await;
    let three = configure(&link, LONG);
    let stream = peer.next().await.1.stream;
    let refusal = Response::failure(5, "no");
    peer.send(mux::PLUGIN, &Message::new(stream, Kind::Response, &refusal))
        .await;
    let refused = three.await.unwrap().unwrap_err();
    assert!(matches!(refused, CallError::Refused { code: 5, .. }));
}

#[tokio::test(start_paused = true)]
async fn a_call_ends_with_its_time_or_with_the_plugin() {
    let (link, _calls, mut peer) = connect();
    let call = configure(&link, Duration::from_secs(2));
    peer.next().await;
    assert!(matches!(call.await.unwrap(), Err(CallError::TimedOut(_))));
    let call = configure(&link, LONG);
    peer.next().await;
    drop(peer);
    assert_eq!(call.await.unwrap(), Err(CallError::Closed));
    assert_eq!(configure(&link, LONG).await.unwrap(), Err(CallError::Closed));
    link.wait_closed().await;
}

#[tokio::test]
async fn a_flood_of_calls_is_answered_with_refusals() {
    let (_link, mut calls, mut peer) = connect();
    let request = Request {
        method: "UpdateContainers".into(),
        ..Request::default()
    };
    for stream in 0..20_u32 {
        peer.send(
            mux::RUNTIME,
            &Message::new(2 * stream + 1, Kind::Request, &request),
        )
        .await;
    }
    for _ in 0..20 - INBOUND {
        let (connection, answer) = peer.next().await;
        assert_eq!(connection, mux::RUNTIME);
        let status = answer.content::<Response>().unwrap().status.unwrap();
        assert_eq!(status.code, ttrpc::RESOURCE_EXHAUSTED);
    }
    let mut waiting = 0;
    while calls.try_recv().is_ok() {
        waiting += 1;
    }
    assert_eq!(waiting, INBOUND);
}

#[tokio::test]
async fn a_plugin_that_reads_nothing_is_cut_off() {
    let (link, mut calls, mut peer) = connect();
    let big = Response {
        payload: vec![0; 1 << 20],
        ..Response::default()
    };
    peer.send(mux::RUNTIME, &Message::new(1, Kind::Request, &Request::default()))
        .await;
    let call = calls.recv().await.unwrap();
    for _ in 0..OUTBOUND + 2 {
        link.answer(&call, &big);
    }
    link.wait_closed().await;
}

#[tokio::test]
async fn nonsense_ends_the_connection() {
    let streams_are_unknown = Message {
        stream: 1,
        kind: Kind::Data,
        data: Vec::new(),
    };
    let wrong_way = Message::new(1, Kind::Request, &Request::default());
    for (connection, message) in [(mux::RUNTIME, streams_are_unknown), (mux::PLUGIN, wrong_way)] {
        let (link, _calls, mut peer) = connect();
        peer.send(connection, &message).await;
        link.wait_closed().await;
    }
    let (link, _calls, mut peer) = connect();
    peer.writing.write_all(&[0xff; 64]).await.unwrap();
    link.wait_closed().await;
}

#[tokio::test]
async fn a_request_that_is_too_long_is_not_sent() {
    let (link, _calls, mut peer) = connect();
    let request = ConfigureRequest {
        config: "x".repeat(5 << 20),
        ..ConfigureRequest::default()
    };
    let answer: Result<Empty, _> = link.call("s", "m", &request, LONG).await;
    assert!(matches!(answer, Err(CallError::TooLong(_))));
    link.close();
    assert_eq!(peer.demux.next().await.unwrap(), None, "nothing came");
}
