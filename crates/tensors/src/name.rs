//! Names from files: untrusted, so escaped for people and examined for traps.

use std::fmt::Write;

/// `text` in printable ASCII: control and non-ASCII characters become `\x1b`, `\u202e`, `\U0001f600`, a backslash is
/// doubled. What comes out cannot move a cursor, end a line or reverse one.
#[must_use]
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        // Writing to a String cannot fail.
        let _ = match (character, u32::from(character)) {
            ('\\', _) => escaped.write_str("\\\\"),
            ('\n', _) => escaped.write_str("\\n"),
            ('\r', _) => escaped.write_str("\\r"),
            ('\t', _) => escaped.write_str("\\t"),
            (' '..='~', _) => escaped.write_char(character),
            (_, code @ ..=0xff) => write!(escaped, "\\x{code:02x}"),
            (_, code @ ..=0xffff) => write!(escaped, "\\u{code:04x}"),
            (_, code) => write!(escaped, "\\U{code:08x}"),
        };
    }
    escaped
}

/// A name for use inside a sentence: escaped, in quotes, and no longer than a line.
pub(crate) fn quote(name: &str) -> String {
    const LIMIT: usize = 96;
    let shown = crate::defect::cut(name, LIMIT);
    let more = if shown.len() < name.len() { "..." } else { "" };
    format!("\"{}\"{more}", escape(shown))
}
