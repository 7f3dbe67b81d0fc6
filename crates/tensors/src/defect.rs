//! What is wrong with a file, as a value: corrupt bytes are a result and never an error.

use crate::code::{self, Code, Severity};

/// How many defects of one code and severity a file reports one by one; the rest are counted.
pub const CAP: usize = 20;

/// One thing that is wrong, or worth knowing, about a file's bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Defect {
    /// What kind of defect.
    pub code: Code,
    /// Its weight here; usually, not always, that of the code.
    pub severity: Severity,
    /// The tensor concerned, as the file spells it: escape before printing. Cut after 1,024 bytes.
    pub tensor: Option<String>,
    /// Where in the file, in bytes from its beginning.
    pub byte_offset: Option<u64>,
    /// How many bytes are concerned.
    pub length: Option<u64>,
    /// What the format asks for there.
    pub expected: Option<String>,
    /// What the file holds there; anything taken from the file is escaped.
    pub found: Option<String>,
    /// One sentence in words; anything taken from the file is escaped.
    pub message: String,
    /// What a user can do about it.
    pub hint: Option<String>,
}

impl Defect {
    /// A defect with its code's usual severity and nothing but a message.
    #[must_use]
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            severity: code.severity,
            tensor: None,
            byte_offset: None,
            length: None,
            expected: None,
            found: None,
            message: message.into(),
            hint: None,
        }
    }

    /// The same defect with another weight.
    #[must_use]
    pub fn severity(mut self, severity: Severity) -> Self {
        self.severity = severity;
        self
    }

    /// Names the tensor concerned.
    #[must_use]
    pub fn tensor(mut self, name: &str) -> Self {
        self.tensor = Some(cut(name, 1024).to_owned());
        self
    }

    /// Says where in the file, in bytes from its beginning.
    #[must_use]
    pub fn at(mut self, byte_offset: u64) -> Self {
        self.byte_offset = Some(byte_offset);
        self
    }

    /// Says how many bytes are concerned.
    #[must_use]
    pub fn length(mut self, length: u64) -> Self {
        self.length = Some(length);
        self
    }

    /// Says what should stand there and what does.
    #[must_use]
    #[expect(clippy::needless_pass_by_value, reason = "callers hand over what they have just made")]
    pub fn expected(mut self, expected: impl ToString, found: impl ToString) -> Self {
        self.expected = Some(expected.to_string());
        self.found = Some(found.to_string());
        self
    }

    /// Says what a user can do.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// At most `limit` bytes of `text`, cut between characters.
pub(crate) fn cut(text: &str, limit: usize) -> &str {
    if text.len() <= limit {
        return text;
    }
    let mut end = limit;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// Failures that take away the tensor concerned, or nothing, and leave the others' ranges beyond doubt.
const HARMLESS_TO_OTHERS: &[Code] = &[
    code::FS_PARTIAL_DOWNLOAD,
    code::FS_POLYGLOT,
    code::FS_WRONG_FORMAT,
    code::ST_BAD_DTYPE,
    code::ST_BAD_METADATA,
    code::ST_TRAILING_BYTES,
    code::ST_TRUNCATED_DATA,
    code::Z_BOMB,
    code::Z_ENCRYPTED,
    code::Z_METHOD,
    code::Z_PATH,
    code::Z_SYMLINK,
    code::NPY_HEADER,
    code::NPY_MAGIC,
    code::NPY_OBJECT_PICKLE,
    code::NPY_OVERFLOW,
    code::NPY_TRUNCATED,
    code::NPY_VERSION,
];

/// Defects as they are found: a capped number of each kind in full, the rest as a count.
///
/// A header can hold millions of defects in a few bytes each, so what is not kept is never built.
#[derive(Debug, Default)]
pub(crate) struct Defects {
    kept: Vec<Defect>,
    tallies: Vec<Tally>,
}

#[derive(Debug)]
struct Tally {
    code: Code,
    severity: Severity,
    kept: usize,
    dropped: u64,
}

impl Defects {
    /// Adds a defect of the code's usual severity.
    pub(crate) fn add(&mut self, code: Code, build: impl FnOnce() -> Defect) {
        self.add_as(code, code.severity, build);
    }

    /// Adds a defect whose severity the rule decides.
    pub(crate) fn add_as(&mut self, code: Code, severity: Severity, build: impl FnOnce() -> Defect) {
        let index = self.tallies.iter().position(|t| t.code == code && t.severity == severity);
        let index = index.unwrap_or_else(|| {
            self.tallies.push(Tally { code, severity, kept: 0, dropped: 0 });
            self.tallies.len() - 1
        });
        let tally = &mut self.tallies[index];
        if tally.kept < CAP {
            tally.kept += 1;
            let mut defect = build();
            defect.code = code;
            defect.severity = severity;
            self.kept.push(defect);
        } else {
            tally.dropped += 1;
        }
    }

    /// Counts further defects of a kind that has reached its cap.
    pub(crate) fn count(&mut self, code: Code, severity: Severity, others: u64) {
        if let Some(tally) = self.tallies.iter_mut().find(|t| t.code == code && t.severity == severity) {
            tally.dropped += others;
        }
    }

    /// Adds a finished defect.
    pub(crate) fn push(&mut self, defect: Defect) {
        self.add_as(defect.code, defect.severity, || defect);
    }

    /// Whether a failure was found other than of the codes that leave the listed tensors readable.
    pub(crate) fn unsound(&self) -> bool {
        let bad =
            |tally: &Tally| tally.severity >= Severity::Fail && !HARMLESS_TO_OTHERS.contains(&tally.code);
        self.tallies.iter().any(bad)
    }

    /// All defects in (offset, code) order; per code that was cut short, one more that says how many are missing.
    pub(crate) fn finish(mut self) -> Vec<Defect> {
        self.kept.sort_by(|a, b| (a.byte_offset, a.code.name).cmp(&(b.byte_offset, b.code.name)));
        for tally in self.tallies.iter().filter(|tally| tally.dropped > 0) {
            let same = |d: &Defect| d.code == tally.code && d.severity == tally.severity;
            let last = self.kept.iter().rposition(same).map_or(self.kept.len(), |index| index + 1);
            let mut summary =
                Defect::new(tally.code, format!("and {} more {}", tally.dropped, tally.code.name));
            summary.severity = tally.severity;
            summary.byte_offset = self.kept.get(last.wrapping_sub(1)).and_then(|d| d.byte_offset);
            self.kept.insert(last, summary);
        }
        self.kept
    }
}
