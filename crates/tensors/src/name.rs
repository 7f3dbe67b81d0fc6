//! Names from files: untrusted, so escaped for people and examined for traps.

use std::fmt::Write;

use unicode_normalization::UnicodeNormalization;

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

/// Names longer than this, in bytes, are in no real checkpoint.
pub(crate) const MAX_LEN: usize = 1024;

/// Why a tensor name can mislead a person, a terminal, a spreadsheet, a page or a path; empty for a plain name.
pub(crate) fn hazards(name: &str) -> Vec<&'static str> {
    if is_plain(name.as_bytes()) {
        return Vec::new();
    }
    let mut found = Vec::new();
    let mut note = |hazard| {
        if !found.contains(&hazard) {
            found.push(hazard);
        }
    };
    if name.is_empty() {
        note("empty");
    }
    for character in name.chars() {
        if let Some(hazard) = character_hazard(character) {
            note(hazard);
        }
    }
    if name.starts_with(['/', '~']) || name.contains('\\') || name.split('/').any(|part| part == "..") {
        note("path-like");
    }
    if let [drive, b':', b'/', ..] = name.as_bytes()
        && drive.is_ascii_alphabetic()
    {
        note("path-like");
    }
    if name.contains(['<', '>']) || name.contains("&#") || name.contains("&lt;") {
        note("markup");
    }
    if name.starts_with(['=', '+', '-', '@']) {
        note("begins like a formula");
    }
    if resembles_metadata(name) {
        note("resembles __metadata__");
    }
    found
}

/// Whether a name holds only letters, digits and the separators of ordinary names, in no order that is a hazard; some
/// harmless names are not plain.
fn is_plain(name: &[u8]) -> bool {
    let (mut odd, mut letters, mut former) = (0, 0, 0);
    for &byte in name {
        let class = CLASSES[usize::from(byte)];
        odd += usize::from(class == ODD) + usize::from(byte == b'.' && former == b'.');
        letters += usize::from(class == LETTER);
        former = byte;
    }
    // What resembles the metadata's key has its eight letters, give or take one.
    let like_metadata = (7..=9).contains(&letters) && name.contains(&b'_');
    odd == 0 && !like_metadata && name.first().is_some_and(u8::is_ascii_alphanumeric)
}

const ODD: u8 = 0;
const SEPARATOR: u8 = 1;
const LETTER: u8 = 2;

/// What each byte is in a plain name; digits count as letters.
const CLASSES: [u8; 256] = {
    let mut classes = [ODD; 256];
    let mut byte = 0;
    while byte < 128_u8 {
        classes[byte as usize] = match byte {
            b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => LETTER,
            b'_' | b'.' | b'-' | b'/' => SEPARATOR,
            _ => ODD,
        };
        byte += 1;
    }
    classes
};

/// Why one character is a hazard anywhere in a name.
fn character_hazard(character: char) -> Option<&'static str> {
    match u32::from(character) {
        0x0a | 0x0d | 0x85 | 0x2028 | 0x2029 => Some("a line break"),
        0..=0x1f | 0x7f..=0x9f => Some("a control character"),
        0x61c | 0x200e | 0x200f | 0x202a..=0x202e | 0x2066..=0x2069 => Some("a change of writing direction"),
        0xfffd => Some("a replacement character"),
        _ if is_invisible(character) => Some("an invisible character"),
        _ => None,
    }
}

/// Format characters, fillers and selectors that leave no mark: general category Cf and its like.
fn is_invisible(character: char) -> bool {
    matches!(u32::from(character),
        0xad | 0x34f | 0x600..=0x605 | 0x6dd | 0x70f | 0x890..=0x891 | 0x8e2 | 0x115f..=0x1160 | 0x17b4..=0x17b5
        | 0x180b..=0x180f | 0x200b..=0x200d | 0x2060..=0x2065 | 0x206a..=0x206f | 0x2800 | 0x3164 | 0xfe00..=0xfe0f
        | 0xfeff | 0xffa0 | 0xfff0..=0xfffb | 0x110bd | 0x110cd | 0x13430..=0x1343f | 0x1bca0..=0x1bca3
        | 0x1d173..=0x1d17a | 0xe0000..=0xe0fff)
}

/// Direction and control characters that metadata, which may hold pages of text, still has no use for.
pub(crate) fn metadata_hazard(text: &str) -> Option<&'static str> {
    if text.bytes().all(|byte| matches!(byte, b' '..=b'~' | b'\n' | b'\r' | b'\t')) {
        return None;
    }
    text.chars().filter(|character| !matches!(character, '\n' | '\r' | '\t')).find_map(|character| {
        match u32::from(character) {
            0..=0x1f | 0x7f..=0x9f => Some("a control character"),
            0x61c | 0x202a..=0x202e | 0x2066..=0x2069 => Some("a change of writing direction"),
            0xe0000..=0xe0fff => Some("an invisible character"),
            _ => None,
        }
    })
}

/// Whether a tensor's name could be taken for the key of the metadata.
fn resembles_metadata(name: &str) -> bool {
    const KEY: &str = "__metadata__";
    // Longer names cannot, and normalising a hostile one costs time.
    if name.len() > 64 || name == KEY {
        return false;
    }
    let letters = |text: &str| {
        text.nfkc().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect::<String>()
    };
    let dressed = name.chars().any(|c| c == '_' || !c.is_ascii());
    (dressed && letters(name) == "metadata") || one_edit_apart(name, KEY)
}

/// Whether one insertion, deletion or replacement of a character turns one text into the other.
fn one_edit_apart(left: &str, right: &str) -> bool {
    let (left, right): (Vec<char>, Vec<char>) = (left.chars().collect(), right.chars().collect());
    let (short, long) = if left.len() <= right.len() { (&left, &right) } else { (&right, &left) };
    let same = short.iter().zip(long.iter()).take_while(|(a, b)| a == b).count();
    match long.len() - short.len() {
        0 => same < short.len() && short[same + 1..] == long[same + 1..],
        1 => short[same..] == long[same + 1..],
        _ => false,
    }
}

/// A name without its case, in the composed form that looks the same: what two confusable names have in common.
pub(crate) fn fold(name: &str) -> String {
    if name.is_ascii() {
        return name.to_ascii_lowercase();
    }
    name.nfc().flat_map(char::to_lowercase).nfc().collect()
}

/// A name in the composed form.
pub(crate) fn compose(name: &str) -> String {
    name.nfc().collect()
}
