//! D-Bus messages as bytes: of the specification's types those that systemd's manager is spoken to in.
//!
//! Numbers are written in little endian and aligned to their size, counted from the beginning of the message, or of the
//! body, which itself begins at a multiple of 8.

/// What a message is for (D-Bus specification, "Message Format").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Type {
    Call = 1,
    Return = 2,
    Error = 3,
    Signal = 4,
}

/// Header fields by their codes.
const PATH: u8 = 1;
const INTERFACE: u8 = 2;
const MEMBER: u8 = 3;
const ERROR_NAME: u8 = 4;
const REPLY_SERIAL: u8 = 5;
const DESTINATION: u8 = 6;
const SIGNATURE: u8 = 8;

/// The part of a header before its fields.
pub(super) const FIXED: usize = 16;

/// No message that is of interest here is longer; the bus itself allows 128 MiB.
const LONGEST: usize = 1 << 20;

/// A property's value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    Bool(bool),
    Byte(u8),
    I32(i32),
    U32(u32),
    I64(i64),
    U64(u64),
    Text(String),
    /// `as`
    Texts(Vec<String>),
    /// `au`: processes.
    Numbers(Vec<u32>),
    /// `ay`: a mask of processors or memory nodes.
    Bytes(Vec<u8>),
    /// `a(ss)`: devices, and what may be done with them.
    Pairs(Vec<(String, String)>),
}

impl Value {
    fn signature(&self) -> &'static str {
        match self {
            Self::Bool(_) => "b",
            Self::Byte(_) => "y",
            Self::I32(_) => "i",
            Self::U32(_) => "u",
            Self::I64(_) => "x",
            Self::U64(_) => "t",
            Self::Text(_) => "s",
            Self::Texts(_) => "as",
            Self::Numbers(_) => "au",
            Self::Bytes(_) => "ay",
            Self::Pairs(_) => "a(ss)",
        }
    }
}

/// Bytes in the making.
#[derive(Debug, Default)]
pub(super) struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    pub(super) fn align(&mut self, to: usize) {
        self.bytes.resize(self.bytes.len().next_multiple_of(to), 0);
    }

    pub(super) fn byte(&mut self, n: u8) {
        self.bytes.push(n);
    }

    pub(super) fn u32(&mut self, n: u32) {
        self.align(4);
        self.bytes.extend(n.to_le_bytes());
    }

    fn u64(&mut self, n: u64) {
        self.align(8);
        self.bytes.extend(n.to_le_bytes());
    }

    pub(super) fn boolean(&mut self, yes: bool) {
        self.u32(yes.into());
    }

    /// A string or the path of an object.
    pub(super) fn text(&mut self, text: &str) {
        self.u32(length(text.len()));
        self.bytes.extend(text.as_bytes());
        self.bytes.push(0);
    }

    pub(super) fn signature(&mut self, signature: &str) {
        self.bytes.push(u8::try_from(signature.len()).unwrap_or(u8::MAX));
        self.bytes.extend(signature.as_bytes());
        self.bytes.push(0);
    }

    /// An array of what `elements` writes, each aligned to `to`. Its length doesn't count the padding before the first.
    pub(super) fn array(&mut self, to: usize, elements: impl FnOnce(&mut Self)) {
        self.u32(0);
        let at = self.bytes.len() - 4;
        self.align(to);
        let begin = self.bytes.len();
        elements(self);
        let size = length(self.bytes.len() - begin);
        self.bytes[at..at + 4].copy_from_slice(&size.to_le_bytes());
    }

    /// A value that carries its type.
    fn variant(&mut self, value: &Value) {
        self.signature(value.signature());
        match value {
            Value::Bool(yes) => self.boolean(*yes),
            Value::Byte(n) => self.byte(*n),
            Value::I32(n) => self.u32(n.cast_unsigned()),
            Value::U32(n) => self.u32(*n),
            Value::I64(n) => self.u64(n.cast_unsigned()),
            Value::U64(n) => self.u64(*n),
            Value::Text(text) => self.text(text),
            Value::Texts(texts) => self.array(4, |w| texts.iter().for_each(|text| w.text(text))),
            Value::Numbers(numbers) => self.array(4, |w| numbers.iter().for_each(|n| w.u32(*n))),
            Value::Bytes(bytes) => self.array(1, |w| w.bytes.extend(bytes)),
            Value::Pairs(pairs) => self.array(8, |w| {
                for (a, b) in pairs {
                    w.align(8);
                    w.text(a);
                    w.text(b);
                }
            }),
        }
    }

    /// `a(sv)`: properties by name.
    pub(super) fn properties(&mut self, properties: &[(&str, Value)]) {
        self.array(8, |w| {
            for (name, value) in properties {
                w.align(8);
                w.text(name);
                w.variant(value);
            }
        });
    }

    /// `a(sa(sv))` with nothing in it: the further units that StartTransientUnit could make.
    pub(super) fn no_units(&mut self) {
        self.array(8, |_| {});
    }
}

/// What is written here is far from 4 GiB.
fn length(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

/// Whom a call is for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Address {
    pub(super) destination: &'static str,
    pub(super) path: &'static str,
    pub(super) interface: &'static str,
}

/// A call as it goes out.
pub(super) fn call(to: Address, member: &str, serial: u32, signature: &str, body: &[u8]) -> Vec<u8> {
    let mut w = Writer::default();
    for byte in [b'l', Type::Call as u8, 0, 1] {
        w.byte(byte);
    }
    w.u32(length(body.len()));
    w.u32(serial);
    w.array(8, |w| {
        let texts = [
            (PATH, "o", to.path),
            (INTERFACE, "s", to.interface),
            (MEMBER, "s", member),
            (DESTINATION, "s", to.destination),
        ];
        for (code, kind, text) in texts {
            w.align(8);
            w.byte(code);
            w.signature(kind);
            w.text(text);
        }
        if !signature.is_empty() {
            w.align(8);
            w.byte(SIGNATURE);
            w.signature("g");
            w.signature(signature);
        }
    });
    w.align(8);
    let mut bytes = w.into_bytes();
    bytes.extend(body);
    bytes
}

/// A message that came in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) kind: Type,
    pub(super) reply_to: Option<u32>,
    pub(super) member: String,
    pub(super) error_name: String,
    pub(super) body: Vec<u8>,
}

/// How long a whole message is, by the first [`FIXED`] bytes of it. None: it is no message, or one too long.
pub(super) fn size(fixed: &[u8; FIXED]) -> Option<usize> {
    let number = |at: usize| -> Option<usize> {
        let bytes = fixed.get(at..at + 4)?.try_into().ok()?;
        usize::try_from(u32::from_le_bytes(bytes)).ok()
    };
    if fixed[0] != b'l' || fixed[3] != 1 {
        return None;
    }
    let (body, fields) = (number(4)?, number(12)?);
    let size = (FIXED + fields).next_multiple_of(8).checked_add(body)?;
    (body <= LONGEST && fields <= LONGEST).then_some(size)
}

/// Takes a whole message apart. None: it is none, or one of a type that is of no interest.
pub(super) fn parse(bytes: &[u8]) -> Option<Message> {
    let kind = match bytes.get(1)? {
        1 => Type::Call,
        2 => Type::Return,
        3 => Type::Error,
        4 => Type::Signal,
        _ => return None,
    };
    let body_size = usize::try_from(Reader::at(bytes, 4).u32()?).ok()?;
    let mut message = Message {
        kind,
        reply_to: None,
        member: String::new(),
        error_name: String::new(),
        body: bytes.get(bytes.len().checked_sub(body_size)?..)?.to_vec(),
    };
    let mut r = Reader::at(bytes, 12);
    let end = FIXED + usize::try_from(r.u32()?).ok()?;
    while r.at < end {
        r.align(8);
        let code = r.byte()?;
        match (code, r.signature()?) {
            (MEMBER, "s") => message.member = r.text()?.to_owned(),
            (ERROR_NAME, "s") => message.error_name = r.text()?.to_owned(),
            (REPLY_SERIAL, "u") => message.reply_to = Some(r.u32()?),
            (_, "s" | "o") => drop(r.text()?),
            (_, "g") => drop(r.signature()?),
            (_, "u") => drop(r.u32()?),
            _ => return None,
        }
    }
    Some(message)
}

/// Reads what [`Writer`] writes; nothing where the bytes end too early or aren't what they should be.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(body: &'a [u8]) -> Self {
        Self::at(body, 0)
    }

    fn at(bytes: &'a [u8], at: usize) -> Self {
        Self { bytes, at }
    }

    fn align(&mut self, to: usize) {
        self.at = self.at.next_multiple_of(to);
    }

    fn take(&mut self, size: usize) -> Option<&'a [u8]> {
        let end = self.at.checked_add(size)?;
        let taken = self.bytes.get(self.at..end)?;
        self.at = end;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1).map(|b| b[0])
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.align(4);
        self.take(4)?.try_into().ok().map(u32::from_le_bytes)
    }

    pub(super) fn text(&mut self) -> Option<&'a str> {
        let size = usize::try_from(self.u32()?).ok()?;
        let text = self.take(size)?;
        self.take(1)?;
        str::from_utf8(text).ok()
    }

    /// A signature, or the type of a variant.
    pub(super) fn signature(&mut self) -> Option<&'a str> {
        let size = self.byte()?;
        let text = self.take(size.into())?;
        self.take(1)?;
        str::from_utf8(text).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: Address = Address {
        destination: "a.b",
        path: "/a",
        interface: "a.b",
    };

    /// Byte for byte as the specification has it.
    #[test]
    fn a_call_is_aligned_as_the_specification_says() {
        let mut body = Writer::default();
        body.text("x");
        let bytes = call(HERE, "M", 7, "s", &body.into_bytes());
        let expected: &[&[u8]] = &[
            b"l\x01\0\x01\x06\0\0\0\x07\0\0\0",
            b"\x47\0\0\0",
            b"\x01\x01o\0\x02\0\0\0/a\0\0\0\0\0\0",
            b"\x02\x01s\0\x03\0\0\0a.b\0\0\0\0\0",
            b"\x03\x01s\0\x01\0\0\0M\0\0\0\0\0\0\0",
            b"\x06\x01s\0\x03\0\0\0a.b\0\0\0\0\0",
            b"\x08\x01g\0\x01s\0\0",
            b"\x01\0\0\0x\0",
        ];
        assert_eq!(bytes, expected.concat());
        let mut fixed = [0; FIXED];
        fixed.copy_from_slice(&bytes[..FIXED]);
        assert_eq!(size(&fixed), Some(bytes.len()));
        let message = parse(&bytes).unwrap();
        assert_eq!((message.kind, message.member.as_str()), (Type::Call, "M"));
        assert_eq!(Reader::new(&message.body).text(), Some("x"));
    }

    #[test]
    fn properties_carry_their_types() {
        let mut w = Writer::default();
        w.properties(&[
            ("A", Value::U64(3)),
            ("B", Value::Bool(true)),
            ("C", Value::Numbers(vec![9])),
            ("D", Value::Bytes(vec![5])),
            ("E", Value::Pairs(vec![("p".into(), "rw".into())])),
            ("F", Value::Texts(vec!["x".into(), "y".into()])),
            ("G", Value::I64(-2)),
        ]);
        let bytes = w.into_bytes();
        let expected: &[&[u8]] = &[
            b"\xb8\0\0\0\0\0\0\0",
            b"\x01\0\0\0A\0\x01t\0\0\0\0\0\0\0\0\x03\0\0\0\0\0\0\0",
            b"\x01\0\0\0B\0\x01b\0\0\0\0\x01\0\0\0",
            b"\x01\0\0\0C\0\x02au\0\0\0\x04\0\0\0\x09\0\0\0\0\0\0\0",
            b"\x01\0\0\0D\0\x02ay\0\0\0\x01\0\0\0\x05\0\0\0\0\0\0\0",
            b"\x01\0\0\0E\0\x05a(ss)\0\0\0\0\x0f\0\0\0\0\0\0\0\x01\0\0\0p\0\0\0\x02\0\0\0rw\0",
            b"\0\x01\0\0\0F\0\x02as\0\0\0\x0e\0\0\0\x01\0\0\0x\0\0\0\x01\0\0\0y\0",
            b"\0\0\x01\0\0\0G\0\x01x\0\0\0\0\0\0\0\0\xfe\xff\xff\xff\xff\xff\xff\xff",
        ];
        assert_eq!(bytes, expected.concat());
    }

    #[test]
    fn what_is_no_message_is_told_apart() {
        let bytes = call(HERE, "M", 1, "", &[]);
        for cut in 1..bytes.len() {
            // never a panic, and never text that isn't there
            let _ = parse(&bytes[..cut]);
        }
        let mut long = [0; FIXED];
        long.copy_from_slice(&bytes[..FIXED]);
        long[7] = 0xff;
        assert_eq!(size(&long), None);
        long[0] = b'B';
        assert_eq!(size(&long), None);
        assert_eq!(Reader::new(b"\xff\xff\xff\xff").text(), None);
    }
}
