//! A message and the channel it belongs to.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::{BufMut as _, Bytes, BytesMut};
use tokio_tungstenite::tungstenite::Message;

use crate::streaming::negotiate::Codec;

/// Base64 names channels by digits, so there are no more.
pub(in crate::streaming) const BASE64_CHANNELS: usize = 10;

/// Puts content into a message of a channel.
pub(super) fn encode(codec: Codec, channel: u8, content: &[u8]) -> Message {
    match codec {
        Codec::Binary => {
            let mut message = BytesMut::with_capacity(1 + content.len());
            message.put_u8(channel);
            message.put_slice(content);
            Message::Binary(message.freeze())
        }
        Codec::Base64 => Message::text(format!(
            "{}{}",
            char::from(b'0'.saturating_add(channel)),
            BASE64_STANDARD.encode(content)
        )),
    }
}

/// Takes a message apart; None for what is no message of that codec.
pub(super) fn decode(codec: Codec, message: Message) -> Option<(u8, Bytes)> {
    match (codec, message) {
        (Codec::Binary, Message::Binary(mut content)) if !content.is_empty() => {
            let channel = content.split_to(1);
            Some((channel[0], content))
        }
        (Codec::Base64, Message::Text(text)) => {
            let (digit, content) = text.as_bytes().split_first()?;
            let channel = digit.is_ascii_digit().then(|| digit - b'0')?;
            Some((channel, BASE64_STANDARD.decode(content).ok()?.into()))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways() {
        for codec in [Codec::Binary, Codec::Base64] {
            for content in [&b""[..], b"hello", &[0, 255, 128]] {
                let (channel, back) = decode(codec, encode(codec, 3, content)).unwrap();
                assert_eq!((channel, &back[..]), (3, content));
            }
        }
        assert_eq!(encode(Codec::Base64, 1, b"hi"), Message::text("1aGk="));
        assert_eq!(encode(Codec::Binary, 1, b"hi"), Message::binary(&b"\x01hi"[..]));
    }

    #[test]
    fn what_is_no_message() {
        let none = |codec, message| assert_eq!(decode(codec, message), None);
        none(Codec::Binary, Message::binary(&b""[..]));
        none(Codec::Binary, Message::text("0x"));
        none(Codec::Base64, Message::text(""));
        none(Codec::Base64, Message::text("xaGk="));
        none(Codec::Base64, Message::text("0a%k="));
        none(Codec::Base64, Message::binary(&b"0aGk="[..]));
    }
}
