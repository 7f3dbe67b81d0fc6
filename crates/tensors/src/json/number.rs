//! Numbers as literals: a value would hide whether `-0`, `2e0` or `02` stood there.

use super::{Reader, Stop};

/// A number's literal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Number<'a>(pub(crate) &'a [u8]);

impl Number<'_> {
    /// The value of a plain integer literal from 0 to 2^64 - 1: no sign, fraction or exponent.
    pub(crate) fn as_u64(self) -> Option<u64> {
        let mut value = 0_u64;
        for &byte in self.0 {
            let digit = byte.wrapping_sub(b'0');
            if digit > 9 {
                return None;
            }
            value = value.checked_mul(10)?.checked_add(u64::from(digit))?;
        }
        Some(value)
    }
}

impl<'a> Reader<'a> {
    /// A number, whose first byte was seen.
    pub(crate) fn number(&mut self) -> Result<Number<'a>, Stop> {
        let start = self.at;
        if self.byte() == Some(b'-') {
            self.at += 1;
        }
        match self.byte() {
            Some(b'0') => {
                self.at += 1;
                if let Some(b'0'..=b'9') = self.byte() {
                    return self.stop("a number with a leading zero");
                }
            }
            _ => self.digits()?,
        }
        let mut plain = true;
        if self.byte() == Some(b'.') {
            plain = false;
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.byte() {
            plain = false;
            self.at += 1;
            if let Some(b'+' | b'-') = self.byte() {
                self.at += 1;
            }
            self.digits()?;
        }
        let literal = &self.bytes[start..self.at];
        // 308 digits stay below the largest double, so only longer or scaled literals need a look.
        if !plain || literal.len() > 308 {
            let value = std::str::from_utf8(literal).ok().and_then(|literal| literal.parse::<f64>().ok());
            // One part in 10^9 below the largest double: readers that round on the way reject the rest.
            if value.is_none_or(|value| value.abs() > 1.797_693_133e308) {
                self.at = start;
                return self.stop("a number beyond the range of a double");
            }
        }
        Ok(Number(literal))
    }

    /// A number, whose first byte was seen, if it is a plain integer literal from 0 to 2^64 - 1.
    pub(crate) fn integer(&mut self) -> Result<Option<u64>, Stop> {
        // Sizes and offsets have up to 19 digits, which cannot overflow, and end at a comma or a bracket.
        let (mut value, mut len) = (0_u64, 0);
        for byte in self.bytes[self.at..].iter().take(20) {
            match byte {
                b'0'..=b'9' if len < 19 => value = value * 10 + u64::from(byte - b'0'),
                b',' | b']' if len == 1 || (len > 1 && self.bytes[self.at] != b'0') => {
                    self.at += len;
                    return Ok(Some(value));
                }
                _ => break,
            }
            len += 1;
        }
        self.number().map(Number::as_u64)
    }

    fn digits(&mut self) -> Result<(), Stop> {
        let start = self.at;
        while let Some(b'0'..=b'9') = self.byte() {
            self.at += 1;
        }
        if self.at == start { self.stop("expected a digit") } else { Ok(()) }
    }
}
