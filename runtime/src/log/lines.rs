//! Cuts a byte stream into the contents of log records, and holds what of a line hasn't arrived yet.

use memchr::memchr;

/// Whether a record ends its line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tag {
    /// More of the line follows, or the stream ended within it.
    Partial,
    /// The line's end.
    Full,
}

/// One stream's lines.
///
/// A record's content is handed out in two pieces, the first of which was held back from earlier reads: so nothing is
/// copied for a line that arrived whole.
#[derive(Debug)]
pub struct Lines {
    /// The unfinished line; never more than `max` bytes, and one more if that is a CR whose LF may follow.
    held: Vec<u8>,
    max: usize,
    strip_cr: bool,
}

impl Lines {
    /// Records of at most `max` bytes of content. `strip_cr` takes the CR off the line ends that a terminal makes.
    #[must_use]
    pub fn new(max: usize, strip_cr: bool) -> Self {
        Self {
            held: Vec::new(),
            max: max.clamp(1, super::LONGEST_MAX_LINE),
            strip_cr,
        }
    }

    /// Takes what was read and emits the records that it completes.
    pub fn feed(&mut self, mut data: &[u8], mut emit: impl FnMut(Tag, &[u8], &[u8])) {
        while let Some(end) = memchr(b'\n', data) {
            self.end_line(&data[..end], &mut emit);
            data = &data[end + 1..];
        }
        if !data.is_empty() {
            self.hold(data, &mut emit);
        }
    }

    /// The stream has ended: a line without its end is a partial one.
    pub fn finish(&mut self, mut emit: impl FnMut(Tag, &[u8], &[u8])) {
        let held = std::mem::take(&mut self.held);
        let (rest, _) = self.cut(&held, &[], &mut emit);
        if !rest.is_empty() {
            emit(Tag::Partial, rest, &[]);
        }
    }

    fn end_line(&mut self, tail: &[u8], emit: &mut impl FnMut(Tag, &[u8], &[u8])) {
        if self.held.is_empty() && tail.len() <= self.max {
            let tail = if self.strip_cr {
                tail.strip_suffix(b"\r").unwrap_or(tail)
            } else {
                tail
            };
            return emit(Tag::Full, &[], tail);
        }
        let held = std::mem::take(&mut self.held);
        let (head, tail) = if self.strip_cr {
            without_cr(&held, tail)
        } else {
            (&held[..], tail)
        };
        let (head, tail) = self.cut(head, tail, emit);
        emit(Tag::Full, head, tail);
    }

    fn hold(&mut self, tail: &[u8], emit: &mut impl FnMut(Tag, &[u8], &[u8])) {
        let mut held = std::mem::take(&mut self.held);
        let undecided = usize::from(self.strip_cr && tail.last() == Some(&b'\r'));
        if held.len() + tail.len() - undecided > self.max {
            let (decided, cr) = tail.split_at(tail.len() - undecided);
            let (head, rest) = self.cut(&held, decided, emit);
            held = [head, rest, cr].concat();
        } else {
            held.extend_from_slice(tail);
        }
        self.held = held;
    }

    /// Emits partial records until what is left fits into one.
    fn cut<'a>(
        &self,
        mut head: &'a [u8],
        mut tail: &'a [u8],
        emit: &mut impl FnMut(Tag, &[u8], &[u8]),
    ) -> (&'a [u8], &'a [u8]) {
        while head.len() + tail.len() > self.max {
            let from_head = head.len().min(self.max);
            let from_tail = self.max - from_head;
            emit(Tag::Partial, &head[..from_head], &tail[..from_tail]);
            (head, tail) = (&head[from_head..], &tail[from_tail..]);
        }
        (head, tail)
    }
}

fn without_cr<'a>(head: &'a [u8], tail: &'a [u8]) -> (&'a [u8], &'a [u8]) {
    match (head, tail) {
        (_, [rest @ .., b'\r']) => (head, rest),
        ([rest @ .., b'\r'], []) => (rest, tail),
        _ => (head, tail),
    }
}
