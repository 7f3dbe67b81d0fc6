//! What a string means once its escapes are resolved.

/// The UTF-16 unit that a leading `\uXXXX` stands for.
pub(super) fn unit(bytes: &[u8]) -> Option<u32> {
    let digits = bytes.strip_prefix(b"\\u")?.get(..4)?;
    digits.iter().try_fold(0, |value, &digit| Some(value << 4 | char::from(digit).to_digit(16)?))
}

/// The bytes that a string means: UTF-8, its escapes resolved.
pub(crate) struct Unescape<'a> {
    rest: &'a [u8],
    pending: [u8; 4],
    pending_len: usize,
}

impl<'a> Unescape<'a> {
    /// `raw` has passed [`Reader::string`].
    pub(crate) fn new(raw: &'a [u8]) -> Self {
        Self { rest: raw, pending: [0; 4], pending_len: 0 }
    }

    fn character(&mut self) -> char {
        let (plain, len) = match self.rest.get(1) {
            Some(b'b') => ('\u{8}', 2),
            Some(b'f') => ('\u{c}', 2),
            Some(b'n') => ('\n', 2),
            Some(b'r') => ('\r', 2),
            Some(b't') => ('\t', 2),
            Some(b'u') => match (unit(self.rest), self.rest.get(6..).and_then(unit)) {
                (Some(high @ 0xd800..=0xdbff), Some(low)) => {
                    let code = 0x1_0000 + ((high & 0x3ff) << 10 | low & 0x3ff);
                    (char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER), 12)
                }
                (Some(code), _) => (char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER), 6),
                (None, _) => (char::REPLACEMENT_CHARACTER, self.rest.len()),
            },
            Some(&other) => (char::from(other), 2),
            None => (char::REPLACEMENT_CHARACTER, self.rest.len()),
        };
        self.rest = self.rest.get(len..).unwrap_or_default();
        plain
    }
}

impl Iterator for Unescape<'_> {
    type Item = u8;

    fn next(&mut self) -> Option<u8> {
        if self.pending_len > 0 {
            self.pending_len -= 1;
            return Some(self.pending[self.pending_len]);
        }
        let (&first, rest) = self.rest.split_first()?;
        if first != b'\\' {
            self.rest = rest;
            return Some(first);
        }
        let character = self.character();
        let len = character.encode_utf8(&mut self.pending).len();
        self.pending[..len].reverse();
        self.pending_len = len - 1;
        Some(self.pending[len - 1])
    }
}
