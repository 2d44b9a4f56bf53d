//! A small WebSocket client with channels.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::io::DuplexStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;

use super::http::{self, Io};
use crate::wait::{PATIENCE, scaled};

/// A connection.
pub struct Ws {
    socket: WebSocketStream<Box<dyn Io>>,
    /// The subprotocol that the server chose.
    pub protocol: Option<String>,
}

impl Ws {
    /// Upgrades a connection to a URL, offering this subprotocol.
    pub async fn connect(url: &str, protocol: &str) -> Result<Ws> {
        let headers = [
            ("Connection", "Upgrade"),
            ("Upgrade", "websocket"),
            ("Sec-WebSocket-Version", "13"),
            ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
            ("Sec-WebSocket-Protocol", protocol),
        ];
        let answer = http::request(http::connect(url, None).await?, "GET", url, &headers).await?;
        ensure!(answer.status == 101, "status {}", answer.status);
        let accept = answer.header("sec-websocket-accept");
        ensure!(accept == Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{accept:?}");
        let protocol = answer.header("sec-websocket-protocol").map(str::to_owned);
        Ok(Ws {
            socket: WebSocketStream::from_raw_socket(answer.io, Role::Client, None).await,
            protocol,
        })
    }

    /// Sends a message.
    pub async fn send(&mut self, message: Message) -> Result<()> {
        Ok(self.socket.send(message).await?)
    }

    /// Sends content on a channel.
    pub async fn write(&mut self, channel: u8, content: &[u8]) -> Result<()> {
        for piece in content.chunks(32 << 10) {
            let mut message = vec![channel];
            message.extend(piece);
            self.send(Message::binary(message)).await?;
        }
        Ok(())
    }

    /// The next message with content; None at the end of the connection.
    pub async fn next(&mut self) -> Result<Option<Message>> {
        loop {
            let message = tokio::time::timeout(scaled(PATIENCE), self.socket.next()).await;
            match message.context("no message comes")?.transpose()? {
                Some(Message::Ping(_) | Message::Pong(_)) => {}
                None | Some(Message::Close(_)) => return Ok(None),
                Some(message) => return Ok(Some(message)),
            }
        }
    }

    /// The next message on whichever channel; None at the end.
    pub async fn read(&mut self) -> Result<Option<(u8, Vec<u8>)>> {
        match self.next().await? {
            None => Ok(None),
            Some(Message::Binary(content)) => {
                let (channel, content) = content.split_first().context("a channel's number")?;
                Ok(Some((*channel, content.to_vec())))
            }
            Some(other) => bail!("{other:?}"),
        }
    }

    /// Reads to the end; what came, by channel.
    pub async fn read_to_end(&mut self) -> Result<BTreeMap<u8, Vec<u8>>> {
        let mut all: BTreeMap<u8, Vec<u8>> = BTreeMap::new();
        while let Some((channel, content)) = self.read().await? {
            all.entry(channel).or_default().extend(content);
        }
        Ok(all)
    }

    /// The bytes in the messages, for a protocol that is tunnelled.
    pub fn tunnel(self) -> DuplexStream {
        let (near, far) = tokio::io::duplex(32 << 10);
        let (mut from_user, mut to_user) = tokio::io::split(far);
        let (mut to_server, mut from_server) = self.socket.split();
        tokio::spawn(async move {
            use tokio::io::AsyncReadExt as _;
            let mut buffer = vec![0; 16 << 10];
            while let Ok(count @ 1..) = from_user.read(&mut buffer).await {
                if to_server
                    .send(Message::binary(buffer[..count].to_vec()))
                    .await
                    .is_err()
                {
                    return;
                }
            }
            drop(to_server.close().await);
        });
        tokio::spawn(async move {
            use tokio::io::AsyncWriteExt as _;
            while let Some(Ok(message)) = from_server.next().await {
                if let Message::Binary(content) = message
                    && to_user.write_all(&content).await.is_err()
                {
                    return;
                }
            }
            drop(to_user.shutdown().await);
        });
        near
    }
}
