//! What is said about a tensor's values.

use unitrow_tensors::code::V_ZERO_PAGES;
use unitrow_tensors::{Code, Defect, Severity, Table};

use super::frame::{Frame, PAGE_BYTES};
use super::rows::Tally;
use super::twins::Twins;
use super::{
    V_ALL_ZERO, V_BAD_BOOL, V_DUP_BLOCK, V_FOREIGN_TEXT, V_INF, V_NAN, V_OUTLIER, V_ROW_NORM_OVERFLOW,
    V_SUBNORMAL, V_SUSPECT_ENDIAN, V_ZERO_ROW, Values, norm_dtype,
};
use crate::read::stored_at;

/// A matrix of fewer elements can well be zero.
const LEAST_ELEMENTS: u64 = 16;

impl Values {
    /// The findings on a tensor, in (offset, code) order.
    #[must_use]
    pub fn findings(&self, name: &str, frame: &Frame) -> Vec<Defect> {
        let mut defects = self.special(frame);
        if self.nonzero {
            defects.extend(self.zero_pages(frame));
            defects.extend(self.odd_rows(frame));
            defects.extend(self.spread(frame));
        } else {
            defects.extend(all_zero(frame));
        }
        defects.extend(self.foreign_text(frame));
        for defect in &mut defects {
            defect.tensor = Some(name.to_owned());
        }
        if frame.start.is_some() {
            defects.sort_by_key(|defect| (defect.byte_offset, defect.code.name));
        }
        defects
    }

    /// Whether the zero pages that are reported are whole rows of zeros: legal where zero rows are.
    #[must_use]
    pub fn zero_pages_are_rows(&self, frame: &Frame) -> bool {
        self.zeros.judge(frame).is_some_and(|found| found.whole_rows)
    }

    /// NaN, Inf and bad booleans.
    fn special(&self, frame: &Frame) -> Vec<Defect> {
        let counts = self.counts.unwrap_or_default();
        let found =
            [(V_NAN, counts.nan, "NaN"), (V_INF, counts.inf, "Inf"), (V_BAD_BOOL, self.bad_bool, "other")];
        let mut found: Vec<_> = found.into_iter().zip(self.example).collect();
        found.sort_by_key(|((code, ..), offset)| (*offset, code.name));
        let item = frame.item_bytes();
        let mut defects = Vec::new();
        for ((code, count, what), offset) in found {
            if count == 0 {
                continue;
            }
            let place =
                offset.map_or(String::new(), |offset| format!(", for example element {}", offset / item));
            let boolean = code == V_BAD_BOOL;
            let message = match (boolean, count) {
                (true, 1) => format!("one byte of a BOOL tensor is neither 0 nor 1{place}"),
                (true, _) => format!("{count} bytes of a BOOL tensor are neither 0 nor 1{place}"),
                (false, 1) => format!("one value is {what}{place}"),
                (false, _) => format!("{count} values are {what}{place}"),
            };
            let wanted = if boolean { "0 or 1" } else { "finite values" };
            let defect = Defect::new(code, message).length(item).expected(wanted, format!("{count} {what}"));
            defects.push(at(defect, frame, offset));
        }
        defects
    }

    fn zero_pages(&self, frame: &Frame) -> Option<Defect> {
        let found = self.zeros.judge(frame)?;
        let (first, end) = found.worst;
        let elements = first / frame.item_bytes()..end / frame.item_bytes();
        let more = if found.runs > 1 {
            format!("; {} such runs have {} bytes", found.runs, found.bytes)
        } else {
            String::new()
        };
        let rows = if found.whole_rows { ", which are whole rows" } else { "" };
        let message = format!(
            "elements {} to {} are zero{rows}, where pages of the file are{more}",
            elements.start,
            elements.end - 1
        );
        let defect = Defect::new(V_ZERO_PAGES, message)
            .severity(found.severity)
            .length(end - first)
            .expected("values", format!("{} zero bytes", end - first))
            .hint("compare the file with its publisher's digest: these pages may never have been written");
        Some(at(defect, frame, Some(first)))
    }

    fn odd_rows(&self, frame: &Frame) -> Vec<Defect> {
        let Some(odd) = &self.rows else { return Vec::new() };
        let row = frame.row_bytes().max(1);
        let rows = frame.len / row;
        let tallies: [(Code, Tally, &str, &str); 3] = [
            (V_ZERO_ROW, odd.zero, "zero", "rows with values"),
            (V_SUBNORMAL, odd.subnormal, "subnormal throughout", "normal numbers"),
            (
                V_ROW_NORM_OVERFLOW,
                odd.overflowing,
                "so large that the sum of their squares leaves the range of the dtype",
                "squares that can be summed",
            ),
        ];
        let said = |(code, tally, what, wanted): (Code, Tally, &str, &str)| {
            let first = tally.first?;
            let verb = if tally.rows == 1 { "is" } else { "are" };
            let message =
                format!("{} of {rows} rows {verb} {what}, the first is row {}", tally.rows, first / row);
            let defect =
                Defect::new(code, message).length(row).expected(wanted, format!("{} rows", tally.rows));
            Some(at(defect, frame, Some(first)))
        };
        tallies.into_iter().filter_map(said).collect()
    }

    fn spread(&self, frame: &Frame) -> Vec<Defect> {
        let mut defects = Vec::new();
        if self.spread.is_swapped() {
            let defect =
                Defect::new(V_SUSPECT_ENDIAN, "the values look ordinary only with their bytes swapped")
                    .length(frame.len)
                    .expected("the low byte first", "probably the high byte first")
                    .hint("look at the values after swapping bytes, for example with numpy's byteswap()");
            defects.push(at(defect, frame, Some(0)));
        }
        if let Some((count, gap)) = self.spread.outliers(frame.dtype) {
            let (verb, others) =
                if count == 1 { ("value is", "all others") } else { ("values are", "all others") };
            let message = format!("{count} {verb} at least 2^{} times as large as {others}", gap - 1);
            let defect = Defect::new(V_OUTLIER, message)
                .length(frame.item_bytes())
                .expected("values of one scale", format!("a gap of {gap} powers of two"))
                .hint(
                    "one flipped bit in an exponent does this: compare the file with its publisher's digest",
                );
            defects.push(at(defect, frame, self.spread.first_few));
        }
        defects
    }

    fn foreign_text(&self, frame: &Frame) -> Option<Defect> {
        let (first, len) = self.text?;
        let defect = Defect::new(V_FOREIGN_TEXT, format!("{len} bytes or more read as text"))
            .length(len)
            .expected("numbers", "text")
            .hint("a download that was resumed can splice a server's answer into the data: fetch the whole file");
        Some(at(defect, frame, Some(first)))
    }
}

fn all_zero(frame: &Frame) -> Option<Defect> {
    let elements: u64 = frame.shape.iter().product();
    let lost = frame.in_hole && frame.len >= PAGE_BYTES;
    let severity = match frame.rank() {
        // Masks and counters of whole numbers may well be zero, and so may a number alone.
        _ if elements == 0 || norm_dtype(frame.dtype).is_none() || frame.rank() == 0 => None,
        1 => Some(Severity::Note),
        _ => (elements >= LEAST_ELEMENTS).then_some(Severity::Warn),
    };
    let severity = if lost { Severity::Fail } else { severity? };
    let defect = Defect::new(V_ALL_ZERO, "every element is zero")
        .severity(severity)
        .length(frame.len)
        .expected("values", format!("{elements} zeros"));
    Some(at(defect, frame, Some(0)))
}

/// One finding for each tensor that holds copies of earlier pages.
pub(crate) fn copies(table: &Table, twins: &Twins) -> Vec<Defect> {
    let places = || table.tensors.iter().filter_map(|tensor| Some((tensor, stored_at(tensor)?)));
    let mut defects: Vec<Defect> = Vec::new();
    let mut rest = twins.as_slice();
    while let [(first, later), ..] = *rest {
        let holds = |(offset, len): (u64, u64)| (offset..offset + len).contains(&later);
        let Some((tensor, (offset, len))) = places().find(|&(_, place)| holds(place)) else { break };
        let count = rest.iter().take_while(|(_, later)| *later < offset + len).count();
        let message = format!(
            "{count} or more pages of {PAGE_BYTES} bytes are copies of others; the first copies bytes {first} to {}",
            first + PAGE_BYTES - 1
        );
        let defect = Defect::new(V_DUP_BLOCK, message).tensor(&tensor.name).at(later).length(PAGE_BYTES);
        defects.push(defect.expected("different bytes", "a copy"));
        rest = &rest[count..];
    }
    defects
}

fn at(mut defect: Defect, frame: &Frame, offset: Option<u64>) -> Defect {
    defect.byte_offset = frame.start.zip(offset).map(|(start, offset)| start + offset);
    defect
}
