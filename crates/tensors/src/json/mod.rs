//! A strict JSON reader over bytes that keeps positions.
//!
//! `serde_json` hands over values and forgets where they stood, takes the last of two equal keys, and turns every number
//! into a value. Findings need offsets, duplicates are attacks, and `-0`, `2e0` and `02` are not the integer that a
//! loader elsewhere may read. So this reads RFC 8259 and nothing else, in one pass, without building a tree.

mod keys;
mod number;
mod scan;
mod unescape;

pub(crate) use keys::Keys;

use std::cmp::Ordering;

use scan::plain_len;
use unescape::{Unescape, unit};

/// Objects and arrays inside each other, the outermost included. The reference reader gives up one level deeper.
pub(crate) const MAX_DEPTH: u32 = 127;

/// What ends the reading of a text: beyond it, nothing can be said with certainty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stop {
    /// Position in the text, in bytes.
    pub(crate) at: usize,
    /// In words; `None` for nesting beyond [`MAX_DEPTH`].
    pub(crate) message: Option<&'static str>,
}

/// A string's place, between its quotes. Its escapes are known to be well formed.
///
/// Eight bytes, ordered by position: a header can hold a string in two bytes, and the highest bit of a length that
/// never reaches it says whether there are escapes at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Text {
    start: u32,
    len: u32,
}

const ESCAPED: u32 = 1 << 31;

impl Text {
    #[expect(clippy::cast_possible_truncation, reason = "a text has fewer than 2^31 bytes")]
    fn new(start: usize, end: usize, escaped: bool) -> Self {
        Self { start: start as u32, len: (end - start) as u32 | if escaped { ESCAPED } else { 0 } }
    }

    /// Where it begins in the text, in bytes.
    pub(crate) fn start(self) -> u32 {
        self.start
    }

    fn is_escaped(self) -> bool {
        self.len & ESCAPED != 0
    }

    fn range(self) -> std::ops::Range<usize> {
        self.start as usize..(self.start + (self.len & !ESCAPED)) as usize
    }
}

/// The kind of the value that begins at the reader's position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Object,
    Array,
    String,
    Number,
    /// `true`, `false` or `null`.
    Word,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Object => "an object",
            Self::Array => "an array",
            Self::String => "a string",
            Self::Number => "a number",
            Self::Word => "true, false or null",
        }
    }
}

/// Called with each key that stands a second time in its object.
pub(crate) type Twin<'t> = &'t mut dyn FnMut(&Reader<'_>, Text);

/// A position in a text of fewer than 2^31 bytes.
pub(crate) struct Reader<'a> {
    bytes: &'a [u8],
    /// The same bytes where they are UTF-8, so that no string is examined twice.
    utf8: Option<&'a str>,
    at: usize,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        debug_assert!(bytes.len() < ESCAPED as usize, "lengths are kept in 31 bits");
        Self { bytes, utf8: std::str::from_utf8(bytes).ok(), at: 0 }
    }

    /// Passes over a byte order mark, and tells whether there was one.
    pub(crate) fn byte_order_mark(&mut self) -> bool {
        let marked = self.at == 0 && self.bytes.starts_with(b"\xef\xbb\xbf");
        self.at += if marked { 3 } else { 0 };
        marked
    }

    /// The first byte that is not UTF-8.
    pub(crate) fn not_utf8(&self) -> Option<usize> {
        match self.utf8 {
            Some(_) => None,
            None => std::str::from_utf8(self.bytes).err().map(|error| error.valid_up_to()),
        }
    }

    pub(crate) fn at(&self) -> usize {
        self.at
    }

    fn stop<T>(&self, message: &'static str) -> Result<T, Stop> {
        Err(Stop { at: self.at, message: Some(message) })
    }

    fn byte(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    /// Passes over space, tab, line feed and carriage return.
    pub(crate) fn white_space(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.byte() {
            self.at += 1;
        }
    }

    /// What kind of value comes next.
    pub(crate) fn kind(&mut self) -> Result<Kind, Stop> {
        self.white_space();
        match self.byte() {
            Some(b'{') => Ok(Kind::Object),
            Some(b'[') => Ok(Kind::Array),
            Some(b'"') => Ok(Kind::String),
            Some(b'-' | b'0'..=b'9') => Ok(Kind::Number),
            Some(b't' | b'f' | b'n') => Ok(Kind::Word),
            Some(_) => self.stop("expected a value"),
            None => self.stop("the text ends where a value should stand"),
        }
    }

    /// Enters an object or array, whose opening byte [`kind`](Self::kind) has seen, and tells whether it has members.
    pub(crate) fn open(&mut self, close: u8) -> bool {
        self.at += 1;
        self.white_space();
        if self.byte() == Some(close) {
            self.at += 1;
            return false;
        }
        true
    }

    /// After a member: whether another one follows.
    pub(crate) fn more(&mut self, close: u8) -> Result<bool, Stop> {
        self.white_space();
        match self.byte() {
            Some(b',') => {
                self.at += 1;
                self.white_space();
                if self.byte() == Some(close) {
                    return self.stop("a comma without a member after it");
                }
                Ok(true)
            }
            Some(byte) if byte == close => {
                self.at += 1;
                Ok(false)
            }
            Some(_) => self.stop("expected a comma or the end of the object or array"),
            None => self.stop("the text ends inside an object or array"),
        }
    }

    /// A member's key, and the colon after it.
    pub(crate) fn key(&mut self) -> Result<Text, Stop> {
        self.white_space();
        if self.byte() != Some(b'"') {
            return self.stop("expected a key in double quotes");
        }
        let text = self.string()?;
        self.white_space();
        if self.byte() != Some(b':') {
            return self.stop("expected a colon after the key");
        }
        self.at += 1;
        Ok(text)
    }

    /// A string, whose opening quote was seen.
    pub(crate) fn string(&mut self) -> Result<Text, Stop> {
        self.at += 1;
        let start = self.at;
        let mut escaped = false;
        loop {
            self.at += plain_len(&self.bytes[self.at..]);
            match self.byte() {
                Some(b'"') => {
                    let text = Text::new(start, self.at, escaped);
                    self.at += 1;
                    return Ok(text);
                }
                Some(b'\\') => {
                    escaped = true;
                    self.escape()?;
                }
                Some(_) => return self.stop("a raw control character in a string"),
                None => return self.stop("the text ends inside a string"),
            }
        }
    }

    fn escape(&mut self) -> Result<(), Stop> {
        match self.bytes.get(self.at + 1) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => {
                self.at += 2;
                Ok(())
            }
            Some(b'u') => match self.unit(self.at) {
                Some(0xd800..=0xdbff) => match self.unit(self.at + 6) {
                    Some(0xdc00..=0xdfff) => {
                        self.at += 12;
                        Ok(())
                    }
                    _ => self.stop("half of a surrogate pair"),
                },
                Some(0xdc00..=0xdfff) => self.stop("half of a surrogate pair"),
                Some(_) => {
                    self.at += 6;
                    Ok(())
                }
                None => self.stop("expected four hexadecimal digits"),
            },
            Some(_) => self.stop("an escape that JSON does not have"),
            None => self.stop("the text ends inside a string"),
        }
    }

    /// The UTF-16 unit that `\uXXXX` at `at` stands for.
    fn unit(&self, at: usize) -> Option<u32> {
        unit(self.bytes.get(at..)?)
    }

    /// `true`, `false` or `null`, whose first byte was seen.
    pub(crate) fn word(&mut self) -> Result<&'static str, Stop> {
        for word in ["true", "false", "null"] {
            if self.bytes[self.at..].starts_with(word.as_bytes()) {
                self.at += word.len();
                return Ok(word);
            }
        }
        self.stop("expected a value")
    }

    /// Passes over one value of any kind that has `depth` objects and arrays around it.
    pub(crate) fn skip(&mut self, depth: u32, twin: Twin<'_>) -> Result<(), Stop> {
        match self.kind()? {
            Kind::String => self.string().map(drop),
            Kind::Number => self.number().map(drop),
            Kind::Word => self.word().map(drop),
            Kind::Object | Kind::Array if depth >= MAX_DEPTH => Err(Stop { at: self.at, message: None }),
            Kind::Array => {
                let mut more = self.open(b']');
                while more {
                    self.skip(depth + 1, twin)?;
                    more = self.more(b']')?;
                }
                Ok(())
            }
            Kind::Object => {
                let mut keys = Keys::default();
                let mut more = self.open(b'}');
                while more {
                    let key = self.key()?;
                    keys.push(self, key);
                    self.skip(depth + 1, twin)?;
                    more = self.more(b'}')?;
                }
                keys.twins(self, twin);
                Ok(())
            }
        }
    }

    /// The number of members of the array that begins here, at least if the array is flat: commas up to the next
    /// bracket, and one.
    pub(crate) fn count_flat(&self) -> usize {
        let rest = &self.bytes[self.at..];
        1 + rest.iter().take_while(|&&byte| byte != b']').filter(|&&byte| byte == b',').count()
    }

    /// What has not been read yet.
    pub(crate) fn rest(&self) -> &'a [u8] {
        &self.bytes[self.at..]
    }

    /// What was read from `start` on.
    pub(crate) fn since(&self, start: usize) -> &'a [u8] {
        &self.bytes[start..self.at]
    }

    /// A string as the file spells it.
    pub(crate) fn raw(&self, text: Text) -> &'a [u8] {
        &self.bytes[text.range()]
    }

    /// A string's meaning; bytes that are not UTF-8 become U+FFFD.
    pub(crate) fn text(&self, text: Text) -> String {
        if text.is_escaped() {
            let bytes: Vec<u8> = Unescape::new(self.raw(text)).collect();
            return String::from_utf8_lossy(&bytes).into_owned();
        }
        match self.utf8.and_then(|utf8| utf8.get(text.range())) {
            Some(text) => text.to_owned(),
            None => String::from_utf8_lossy(self.raw(text)).into_owned(),
        }
    }

    /// The one of `words` that a string means.
    pub(crate) fn find(&self, text: Text, words: &[&str]) -> Option<usize> {
        let raw = self.raw(text);
        words.iter().position(|word| {
            raw == word.as_bytes() || (text.is_escaped() && Unescape::new(raw).eq(word.bytes()))
        })
    }

    /// Orders two strings by their meaning, without building them.
    pub(crate) fn compare(&self, left: Text, right: Text) -> Ordering {
        let escaped = left.is_escaped() || right.is_escaped();
        let (left, right) = (self.raw(left), self.raw(right));
        if escaped { Unescape::new(left).cmp(Unescape::new(right)) } else { left.cmp(right) }
    }
}
