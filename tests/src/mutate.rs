//! Changes messages at random and keeps them messages: a tree of what is on the wire, in which numbers become extreme,
//! texts hostile, and fields are lost, emptied or repeated. All from one seed, so that what failed can be had again.

use prost::bytes::Buf;
use prost::encoding::{WireType, decode_key, decode_varint, encode_key, encode_varint};

/// Numbers that are at the edge of something, in the wire's form: also enums that don't exist, and negative ones.
const NUMBERS: [u64; 14] = [
    0,
    1,
    2,
    3,
    99,
    65_535,
    65_536,
    i32::MAX as u64,
    1 << 31,
    i64::MAX as u64,
    // i64::MIN, i32::MIN, -1 and -1000, which the wire has as their two's complement.
    1 << 63,
    (i32::MIN as i64).cast_unsigned(),
    u64::MAX,
    (-1000_i64).cast_unsigned(),
];

/// How often a repeated field is repeated further.
const REPEATS: usize = 100;

/// Numbers that look random and are the same for the same seed (splitmix64).
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// The beginning of a seed's numbers.
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`, which is not 0.
    pub fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end as u64).unwrap_or_default()
    }

    /// One of them; there must be one.
    pub fn pick<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len())]
    }

    /// Bytes without any sense, fewer than `end`.
    pub fn bytes(&mut self, end: usize) -> Vec<u8> {
        (0..self.below(end))
            .map(|_| self.next().to_le_bytes()[0])
            .collect()
    }

    /// The same bytes, but for some that are flipped, and the end, which may be cut off. Texts are left as they are, since
    /// they may be names of things outside; keys and lengths around them are not.
    pub fn damaged(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut damaged = bytes.to_vec();
        if self.below(2) == 0 {
            damaged.truncate(self.below(bytes.len() + 1));
        }
        let is_text = |byte: &u8| (b' '..=b'~').contains(byte);
        let places: Vec<usize> = (0..damaged.len()).filter(|&at| !is_text(&damaged[at])).collect();
        if !places.is_empty() {
            for _ in 0..self.below(4) {
                damaged[*self.pick(&places)] ^= 1 << self.below(8);
            }
        }
        damaged
    }
}

#[derive(Debug, Clone, PartialEq)]
struct Field {
    number: u32,
    value: Value,
}

#[derive(Debug, Clone, PartialEq)]
enum Value {
    Number(u64),
    Text(Vec<u8>),
    Message(Vec<Field>),
}

/// The message with one to three changes; `texts` are what texts become. None for what is no message, or is empty.
pub fn mutate(message: &[u8], texts: &[String], random: &mut Random) -> Option<Vec<u8>> {
    let mut fields = parse(message)?;
    for _ in 0..=random.below(3) {
        let count = count(&fields);
        if count == 0 {
            break;
        }
        change(&mut fields, &mut random.below(count), texts, random);
    }
    let mut bytes = Vec::new();
    write(&fields, &mut bytes);
    Some(bytes)
}

/// A message of texts, as field number and content: for messages that nobody here has a type for.
pub fn message(texts: &[(u32, &str)]) -> Vec<u8> {
    let fields: Vec<Field> = texts
        .iter()
        .map(|&(number, text)| Field {
            number,
            value: Value::Text(text.into()),
        })
        .collect();
    let mut bytes = Vec::new();
    write(&fields, &mut bytes);
    bytes
}

fn parse(mut bytes: &[u8]) -> Option<Vec<Field>> {
    let mut fields = Vec::new();
    while bytes.has_remaining() {
        let (number, wire) = decode_key(&mut bytes).ok()?;
        let value = match wire {
            WireType::Varint => Value::Number(decode_varint(&mut bytes).ok()?),
            WireType::LengthDelimited => {
                let length = usize::try_from(decode_varint(&mut bytes).ok()?).ok()?;
                let (content, rest) = bytes.split_at_checked(length)?;
                bytes = rest;
                inner(content)
            }
            _ => return None,
        };
        fields.push(Field { number, value });
    }
    Some(fields)
}

/// The wire tells texts and messages not apart. The keys of CRI's messages begin with control characters.
fn inner(content: &[u8]) -> Value {
    let is_text = content.iter().all(|byte| (b' '..=b'~').contains(byte));
    match parse(content) {
        Some(fields) if !is_text => Value::Message(fields),
        _ => Value::Text(content.to_vec()),
    }
}

fn write(fields: &[Field], to: &mut Vec<u8>) {
    for field in fields {
        let content = match &field.value {
            Value::Number(number) => {
                encode_key(field.number, WireType::Varint, to);
                encode_varint(*number, to);
                continue;
            }
            Value::Text(text) => text.clone(),
            Value::Message(fields) => {
                let mut content = Vec::new();
                write(fields, &mut content);
                content
            }
        };
        encode_key(field.number, WireType::LengthDelimited, to);
        encode_varint(content.len() as u64, to);
        to.extend(content);
    }
}

/// All fields, with those inside.
fn count(fields: &[Field]) -> usize {
    let inside = |field: &Field| match &field.value {
        Value::Message(fields) => count(fields),
        _ => 0,
    };
    fields.iter().map(|field| 1 + inside(field)).sum()
}

/// Changes the field that comes `at` that place, counted with those inside. Whether it was here.
fn change(fields: &mut Vec<Field>, at: &mut usize, texts: &[String], random: &mut Random) -> bool {
    for place in 0..fields.len() {
        if *at == 0 {
            change_one(fields, place, texts, random);
            return true;
        }
        *at -= 1;
        if let Value::Message(inside) = &mut fields[place].value
            && change(inside, at, texts, random)
        {
            return true;
        }
    }
    false
}

fn change_one(fields: &mut Vec<Field>, place: usize, texts: &[String], random: &mut Random) {
    match random.below(10) {
        0 => drop(fields.remove(place)),
        1 => {
            let same = fields[place].clone();
            fields.extend(std::iter::repeat_n(same, REPEATS));
        }
        _ => match &mut fields[place].value {
            Value::Number(number) => *number = *random.pick(&NUMBERS),
            Value::Text(text) => *text = random.pick(texts).clone().into_bytes(),
            Value::Message(inside) => inside.clear(),
        },
    }
}

#[cfg(test)]
mod tests {
    use k8s_cri::v1::{ContainerConfig, CreateContainerRequest};
    use prost::Message;

    use super::*;

    fn request() -> CreateContainerRequest {
        let config = crate::pod::with_mount(crate::pod::idle("one", "image"), "/a", "/b", true);
        CreateContainerRequest {
            pod_sandbox_id: "id".into(),
            config: Some(config),
            sandbox_config: None,
        }
    }

    #[test]
    fn a_message_is_written_as_it_was_read() {
        let bytes = request().encode_to_vec();
        let fields = parse(&bytes).expect("a message");
        let mut back = Vec::new();
        write(&fields, &mut back);
        assert_eq!(back, bytes);
        assert!(count(&fields) > 20, "{fields:?}");
    }

    #[test]
    fn changed_messages_are_messages_and_reach_every_corner() {
        let bytes = request().encode_to_vec();
        let texts = ["hostile".to_owned()];
        let mut random = Random::new(1);
        let changed: Vec<ContainerConfig> = (0..2000)
            .filter_map(|_| mutate(&bytes, &texts, &mut random))
            .filter_map(|bytes| CreateContainerRequest::decode(&bytes[..]).ok()?.config)
            .collect();
        assert!(changed.len() > 1500, "{}", changed.len());
        assert!(changed.iter().any(|c| c.metadata.is_none()));
        assert!(changed.iter().any(|c| c.mounts.len() > REPEATS));
        assert!(
            changed
                .iter()
                .any(|c| c.mounts.iter().any(|m| m.host_path == "hostile"))
        );
        let resources = |c: &ContainerConfig| Some(c.linux.as_ref()?.resources.as_ref()?.cpu_shares);
        assert!(
            changed
                .iter()
                .any(|c| resources(c).is_some_and(|shares| shares < 0))
        );
        let again = mutate(&bytes, &texts, &mut Random::new(7));
        assert_eq!(again, mutate(&bytes, &texts, &mut Random::new(7)));
    }
}
