//! Windows: ours and the client's.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_client_without_windows_is_slowed_down_and_loses_nothing() {
    let (mut connection, mut client) = start();
    let mut stream = opened(&mut connection, &mut client, 1).await;
    let content: Vec<u8> = (0..1_000_000_u32).map(|n| (n % 251) as u8).collect();
    let sent = content.clone();
    let mut sender = tokio::spawn(async move {
        client.data(1, true, &sent).await;
        client
    });
    // What the stream holds, and what lies in the buffers on the way.
    assert!(timeout(Duration::from_secs(5), &mut sender).await.is_err());
    let mut got = Vec::new();
    while let Taken::Data(data) = stream.input.next().await {
        assert!(data.len() <= LARGE, "{} bytes at once", data.len());
        got.extend_from_slice(&data);
    }
    assert!(got == content);
    let mut client = sender.await.unwrap();
    // nor is it told of windows that it has ignored
    client.raw(&control(PING, &numbers(&[79]))).await;
    assert_eq!(client.expect(PING).await, numbers(&[79]));
}

#[tokio::test(start_paused = true)]
async fn windows_are_opened_for_a_client_that_stays_within_them() {
    let (mut connection, mut client) = start();
    let mut stream = opened(&mut connection, &mut client, 1).await;
    for _ in 0..4 {
        client.data(1, false, &[7; 40_000]).await;
        let mut got = 0;
        while got < 40_000 {
            let Taken::Data(data) = stream.input.next().await else {
                panic!("{got} bytes came");
            };
            got += data.len();
        }
        for id in [0, 1] {
            let grown = client.expect(WINDOW_UPDATE).await;
            assert_eq!(grown[..4], numbers(&[id]));
            assert!(u32::from_be_bytes(grown[4..].try_into().unwrap()) >= 32 << 10);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_keeps_windows_gets_no_more_than_they_allow() {
    let (mut connection, mut client) = start();
    // SETTINGS: the initial window is 10.
    client.raw(&control(4, &numbers(&[1, 7, 10]))).await;
    let mut stream = opened(&mut connection, &mut client, 1).await;
    let sender = tokio::spawn(async move {
        stream
            .output
            .send(Bytes::from(vec![7; 25]))
            .await
            .map(|()| stream)
    });
    client.read(1, 10).await;
    assert!(client.hears_nothing().await);
    client.raw(&control(WINDOW_UPDATE, &numbers(&[1, 8]))).await;
    client.read(1, 8).await;
    assert!(client.hears_nothing().await);
    client.raw(&control(4, &numbers(&[1, 7, 100]))).await;
    client.read(1, 7).await;
    sender.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_connections_own_window_binds_all_streams() {
    let (mut connection, mut client) = start();
    client.raw(&control(4, &numbers(&[1, 7, 1 << 20]))).await;
    let mut stream = opened(&mut connection, &mut client, 1).await;
    let sender = tokio::spawn(async move {
        stream
            .output
            .send(Bytes::from(vec![7; 70_000]))
            .await
            .map(|()| stream)
    });
    client.read(1, 64 << 10).await;
    assert!(client.hears_nothing().await);
    client.raw(&control(WINDOW_UPDATE, &numbers(&[0, 1 << 20]))).await;
    client.read(1, 70_000 - (64 << 10)).await;
    sender.await.unwrap().unwrap();
}
