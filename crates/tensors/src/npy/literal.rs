//! The literal in an npy header: the few forms that numpy writes, and no evaluation of anything else.

/// Tuples and lists inside each other.
const MAX_DEPTH: u32 = 32;

/// A value of the literal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    /// A string; its escapes are left as they are.
    Text(String),
    Bool(bool),
    /// A natural number; `None` where it exceeds 64 bits.
    Integer(Option<u64>),
    Tuple(Vec<Value>),
    List(Vec<Value>),
}

/// Where and why the text is not such a literal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stop {
    pub(super) at: usize,
    pub(super) message: &'static str,
}

/// Reads a dictionary with string keys, then white space to the end.
pub(super) fn dictionary(text: &[u8]) -> Result<Vec<(String, Value)>, Stop> {
    let mut reader = Reader { text, at: 0 };
    let mut pairs: Vec<(String, Value)> = Vec::new();
    reader.white_space();
    reader.take(b'{', "expected an opening brace")?;
    loop {
        reader.white_space();
        if reader.byte() == Some(b'}') {
            reader.at += 1;
            break;
        }
        let at = reader.at;
        let key = reader.text()?;
        if pairs.iter().any(|(other, _)| *other == key) {
            return Err(Stop { at, message: "a key stands twice" });
        }
        reader.white_space();
        reader.take(b':', "expected a colon after the key")?;
        let value = reader.value(0)?;
        pairs.push((key, value));
        reader.white_space();
        match reader.byte() {
            Some(b',') => reader.at += 1,
            Some(b'}') => {}
            _ => return reader.stop("expected a comma or a closing brace"),
        }
        // Three keys are all that a header may have, so that a hostile one is not compared key by key for long.
        if pairs.len() > 8 {
            return reader.stop("more keys than a header has");
        }
    }
    reader.white_space();
    if reader.at < text.len() { reader.stop("something follows the dictionary") } else { Ok(pairs) }
}

struct Reader<'a> {
    text: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn stop<T>(&self, message: &'static str) -> Result<T, Stop> {
        Err(Stop { at: self.at, message })
    }

    fn byte(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn white_space(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.byte() {
            self.at += 1;
        }
    }

    fn take(&mut self, expected: u8, message: &'static str) -> Result<(), Stop> {
        if self.byte() != Some(expected) {
            return self.stop(message);
        }
        self.at += 1;
        Ok(())
    }

    fn value(&mut self, depth: u32) -> Result<Value, Stop> {
        self.white_space();
        match self.byte() {
            Some(b'\'' | b'"') => self.text().map(Value::Text),
            Some(b'0'..=b'9') => self.integer(),
            Some(b'T' | b'F') => self.bool(),
            Some(b'(' | b'[') if depth >= MAX_DEPTH => self.stop("nested too deeply"),
            Some(b'(') => self.tuple(depth),
            Some(b'[') => self.members(b']', depth).map(|(list, _)| Value::List(list)),
            _ => self.stop("expected a string, True, False, a natural number, a tuple or a list"),
        }
    }

    fn text(&mut self) -> Result<String, Stop> {
        let Some(quote @ (b'\'' | b'"')) = self.byte() else {
            return self.stop("expected a string");
        };
        self.at += 1;
        let start = self.at;
        loop {
            match self.byte() {
                Some(byte) if byte == quote => break,
                Some(b'\\') => self.at += 2,
                Some(b'\n' | b'\r' | 0) | None => return self.stop("the string does not end"),
                Some(_) => self.at += 1,
            }
        }
        let text = String::from_utf8_lossy(&self.text[start..self.at]).into_owned();
        self.at += 1;
        Ok(text)
    }

    fn integer(&mut self) -> Result<Value, Stop> {
        let start = self.at;
        let mut value = Some(0_u64);
        while let Some(digit @ b'0'..=b'9') = self.byte() {
            value = value.and_then(|value| value.checked_mul(10)?.checked_add(u64::from(digit - b'0')));
            self.at += 1;
        }
        if self.text[start] == b'0' && self.at > start + 1 {
            return self.stop("a number with a leading zero");
        }
        // Python 2 marks long integers.
        if self.byte() == Some(b'L') {
            self.at += 1;
        }
        Ok(Value::Integer(value))
    }

    fn bool(&mut self) -> Result<Value, Stop> {
        for (word, value) in [(&b"True"[..], true), (b"False", false)] {
            if self.text[self.at..].starts_with(word) {
                self.at += word.len();
                return Ok(Value::Bool(value));
            }
        }
        self.stop("expected True or False")
    }

    fn tuple(&mut self, depth: u32) -> Result<Value, Stop> {
        let at = self.at;
        match self.members(b')', depth)? {
            (mut members, false) if members.len() == 1 => match members.pop() {
                Some(member) => Ok(member),
                None => Err(Stop { at, message: "expected a tuple" }),
            },
            (members, _) => Ok(Value::Tuple(members)),
        }
    }

    /// The members up to `close`, and whether the last has a comma after it.
    fn members(&mut self, close: u8, depth: u32) -> Result<(Vec<Value>, bool), Stop> {
        self.at += 1;
        let mut members = Vec::new();
        let mut comma = false;
        loop {
            self.white_space();
            if self.byte() == Some(close) {
                self.at += 1;
                return Ok((members, comma));
            }
            if !members.is_empty() && !comma {
                return self.stop("expected a comma");
            }
            members.push(self.value(depth + 1)?);
            self.white_space();
            comma = self.byte() == Some(b',');
            self.at += usize::from(comma);
        }
    }
}
