//! Header blocks: pairs of names and values, deflated with a dictionary and one context for the whole connection.

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use super::Violation;
use super::dictionary::dictionary;

/// Bytes of a block, inflated. Our clients need a few hundred.
pub(super) const MAX_BLOCK: usize = 16 << 10;
/// Pairs in a block.
const MAX_PAIRS: u32 = 64;

/// The headers of a stream. Names are lower-case; a value with a NUL in it stands for several.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::streaming) struct Headers(Vec<(String, String)>);

impl Headers {
    /// The first value of that name, which is lower-case; an empty one counts as none.
    pub(in crate::streaming) fn get(&self, name: &str) -> Option<&str> {
        let (_, value) = self.0.iter().find(|(n, _)| n == name)?;
        value.split('\0').next().filter(|value| !value.is_empty())
    }
}

/// Reads the peer's header blocks. After an error the connection can't go on: the context is lost.
#[derive(Debug)]
pub(super) struct Inflater {
    context: Decompress,
    dictionary: Vec<u8>,
}

impl Inflater {
    /// The beginning of a connection.
    pub(super) fn new() -> Self {
        Self {
            context: Decompress::new(true),
            dictionary: dictionary(),
        }
    }

    /// Reads one block.
    pub(super) fn read(&mut self, block: &[u8]) -> Result<Headers, Violation> {
        parse(&self.inflate(block)?)
    }

    /// A block's text, not yet taken apart.
    pub(super) fn inflate(&mut self, mut block: &[u8]) -> Result<Vec<u8>, Violation> {
        let mut text = Vec::with_capacity(1024);
        // Each turn takes input or gives output, or it is the last.
        loop {
            let (taken, given) = (self.context.total_in(), text.len());
            if text.len() == text.capacity() {
                if text.len() >= MAX_BLOCK {
                    return Err(Violation::HeadersTooLarge);
                }
                text.reserve(text.len());
            }
            match self
                .context
                .decompress_vec(block, &mut text, FlushDecompress::Sync)
            {
                Ok(Status::StreamEnd) => return Err(Violation::BadHeaders),
                Ok(Status::Ok | Status::BufError) => {}
                Err(error) if error.needs_dictionary().is_some() => {
                    self.context
                        .set_dictionary(&self.dictionary)
                        .map_err(|_| Violation::BadHeaders)?;
                    let taken = usize::try_from(self.context.total_in() - taken).unwrap_or(usize::MAX);
                    block = block.get(taken..).ok_or(Violation::BadHeaders)?;
                    continue;
                }
                Err(_) => return Err(Violation::BadHeaders),
            }
            let taken = usize::try_from(self.context.total_in() - taken).unwrap_or(usize::MAX);
            block = block.get(taken..).ok_or(Violation::BadHeaders)?;
            if taken == 0 && text.len() == given {
                break;
            }
        }
        if block.is_empty() && text.len() <= MAX_BLOCK {
            Ok(text)
        } else {
            Err(Violation::HeadersTooLarge)
        }
    }
}

fn parse(mut text: &[u8]) -> Result<Headers, Violation> {
    let count = number(&mut text)?;
    if count > MAX_PAIRS {
        return Err(Violation::HeadersTooLarge);
    }
    let mut pairs = Vec::new();
    for _ in 0..count {
        let name = word(&mut text)?.to_ascii_lowercase();
        pairs.push((name, word(&mut text)?));
    }
    if text.is_empty() {
        Ok(Headers(pairs))
    } else {
        Err(Violation::BadHeaders)
    }
}

fn number(text: &mut &[u8]) -> Result<u32, Violation> {
    let (number, rest) = text.split_first_chunk().ok_or(Violation::BadHeaders)?;
    *text = rest;
    Ok(u32::from_be_bytes(*number))
}

fn word(text: &mut &[u8]) -> Result<String, Violation> {
    let length = usize::try_from(number(text)?).unwrap_or(usize::MAX);
    let (word, rest) = text.split_at_checked(length).ok_or(Violation::BadHeaders)?;
    *text = rest;
    String::from_utf8(word.to_vec()).map_err(|_| Violation::BadHeaders)
}

/// Writes our header blocks, in the order in which their frames are sent.
#[derive(Debug)]
pub(super) struct Deflater(Compress);

impl Deflater {
    /// The beginning of a connection.
    pub(super) fn new() -> Self {
        let mut context = Compress::new(Compression::fast(), true);
        // Only a context that has been used refuses a dictionary; without one the peer would still understand.
        let _ = context.set_dictionary(&dictionary());
        Self(context)
    }

    /// One block.
    pub(super) fn write(&mut self, headers: &[(&str, &str)]) -> Vec<u8> {
        let mut text = Vec::new();
        let length = |n: usize| u32::try_from(n).unwrap_or(u32::MAX).to_be_bytes();
        text.extend(length(headers.len()));
        for part in headers.iter().flat_map(|(name, value)| [name, value]) {
            text.extend(length(part.len()));
            text.extend(part.as_bytes());
        }
        let begin = self.0.total_in();
        // Deflate adds a few bytes to what it can't shrink; the flush adds five.
        let mut block = Vec::with_capacity(text.len() + 128);
        loop {
            let taken = usize::try_from(self.0.total_in() - begin).unwrap_or(usize::MAX);
            let rest = text.get(taken..).unwrap_or_default();
            // It fails only for a context that has been finished, which this one never is.
            let done = self.0.compress_vec(rest, &mut block, FlushCompress::Sync);
            if done.is_err() || block.len() < block.capacity() {
                return block;
            }
            block.reserve(128);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&str, &str)]) -> Headers {
        Headers(
            pairs
                .iter()
                .map(|(n, v)| ((*n).to_owned(), (*v).to_owned()))
                .collect(),
        )
    }

    #[test]
    fn blocks_share_a_context_and_come_back_as_they_went() {
        let (mut out, mut back) = (Deflater::new(), Inflater::new());
        for round in 0..50 {
            let id = round.to_string();
            let sent = [
                ("streamtype", "data"),
                ("port", "8080"),
                ("requestid", id.as_str()),
            ];
            let block = out.write(&sent);
            assert!(
                round == 0 || block.len() < 40,
                "the context is used: {}",
                block.len()
            );
            assert_eq!(back.read(&block).unwrap(), headers(&sent));
        }
        let long = "x".repeat(9000);
        let block = out.write(&[("a", &long)]);
        assert_eq!(back.read(&block).unwrap().get("a"), Some(long.as_str()));
        assert_eq!(back.read(&out.write(&[])).unwrap(), Headers::default());
    }

    #[test]
    fn a_clients_first_block_begins_with_the_dictionarys_name() {
        let block = Deflater::new().write(&[("a", "b")]);
        assert_eq!(block[2..6], 0xe3c6_a7c2_u32.to_be_bytes());
    }

    #[test]
    fn names_are_lower_case_and_the_first_of_several_values_counts() {
        let mut out = Deflater::new();
        let read = Inflater::new()
            .read(&out.write(&[("StreamType", "error\0data"), ("port", "")]))
            .unwrap();
        assert_eq!(read.get("streamtype"), Some("error"));
        assert_eq!(read.get("port"), None);
        assert_eq!(read.get("absent"), None);
    }

    fn refused(text: &[u8]) -> Violation {
        let mut context = Compress::new(Compression::fast(), true);
        context.set_dictionary(&dictionary()).unwrap();
        let mut block = Vec::with_capacity(1 << 20);
        context
            .compress_vec(text, &mut block, FlushCompress::Sync)
            .unwrap();
        Inflater::new().read(&block).unwrap_err()
    }

    #[test]
    fn hostile_blocks_are_refused() {
        assert_eq!(refused(&[]), Violation::BadHeaders);
        assert_eq!(refused(&[0, 0, 0, 1]), Violation::BadHeaders);
        assert_eq!(
            refused(&[0, 0, 0, 1, 255, 255, 255, 255, b'a']),
            Violation::BadHeaders
        );
        assert_eq!(refused(&[0, 0, 0, 0, 7]), Violation::BadHeaders);
        assert_eq!(
            refused(&[0, 0, 0, 1, 0, 0, 0, 1, 0xff, 0, 0, 0, 0]),
            Violation::BadHeaders
        );
        assert_eq!(refused(&u32::MAX.to_be_bytes()), Violation::HeadersTooLarge);
        assert_eq!(refused(&vec![0; 8 << 20]), Violation::HeadersTooLarge, "a bomb");
    }

    #[test]
    fn what_is_not_deflated_is_refused() {
        for block in [
            &b"\x78\xbb\xe3\xc6\xa7\xc3"[..],
            b"garbage",
            b"\x78\xbb\xe3\xc6\xa7\xc2\xff\xff\xff",
        ] {
            assert!(Inflater::new().read(block).is_err(), "{block:?}");
        }
        // A block that ends its stream, and one whose dictionary isn't SPDY's.
        let mut ended = Vec::with_capacity(1000);
        let mut context = Compress::new(Compression::fast(), true);
        context
            .compress_vec(&[0; 4], &mut ended, FlushCompress::Finish)
            .unwrap();
        assert_eq!(Inflater::new().read(&ended), Err(Violation::BadHeaders));
    }
}
