//! Names that stand twice in a header, and names that a reader could take for each other.

use std::collections::{BinaryHeap, HashMap};

use crate::code::{self, Severity};
use crate::defect::{CAP, Defect, Defects};
use crate::json::{Keys, Reader, Text};
use crate::name;
use crate::safetensors::header::{Header, in_file};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Likeness {
    /// Equal once escapes are resolved.
    Same,
    /// Equal in the composed form, so equal to the eye.
    Composed,
    /// Equal but for case.
    Cased,
}

impl Likeness {
    const ALL: [Self; 3] = [Self::Same, Self::Composed, Self::Cased];

    fn kind(self) -> (code::Code, Severity) {
        match self {
            Self::Same => (code::ST_DUP_NAME, code::ST_DUP_NAME.severity),
            Self::Composed => (code::ST_NAME_CONFUSABLE, code::ST_NAME_CONFUSABLE.severity),
            Self::Cased => (code::ST_NAME_CONFUSABLE, Severity::Note),
        }
    }
}

/// Two keys of the header, ordered by where the latter stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Twin {
    latter: Text,
    former: Text,
}

/// The first few pairs of one likeness, found in no particular order, and a count of the others.
#[derive(Default)]
struct First {
    kept: BinaryHeap<Twin>,
    others: u64,
}

impl First {
    fn push(&mut self, twin: Twin) {
        self.kept.push(twin);
        if self.kept.len() > CAP {
            self.kept.pop();
            self.others += 1;
        }
    }
}

/// Reports what `keys` has in common, and takes all but the last entry of each name out of the header: the last is
/// what stock loaders use.
pub(crate) fn examine(reader: &Reader<'_>, mut keys: Keys, header: &mut Header, defects: &mut Defects) {
    let mut found = Likeness::ALL.map(|likeness| (likeness, First::default()));
    let mut dropped: Vec<u32> = Vec::new();
    keys.runs(reader, |same| {
        for pair in same.windows(2) {
            let twin = Twin { former: pair[0].1, latter: pair[1].1 };
            let Some(likeness) = likeness(reader, twin) else { continue };
            if likeness == Likeness::Same {
                dropped.push(twin.former.start());
            }
            found[likeness as usize].1.push(twin);
        }
    });
    for (likeness, first) in found {
        let (code, severity) = likeness.kind();
        for twin in first.kept.into_sorted_vec() {
            defects.add_as(code, severity, || describe(reader, likeness, twin));
        }
        defects.count(code, severity, first.others);
    }
    if reader.not_utf8().is_some() {
        unreadable_twins(header, &mut dropped);
    }
    if !dropped.is_empty() {
        dropped.sort_unstable();
        header.forget(|at| dropped.binary_search(&at).is_ok());
    }
}

/// Names that differ only in bytes that are not UTF-8 are the same name once read.
fn unreadable_twins(header: &Header, dropped: &mut Vec<u32>) {
    let mut last: HashMap<&str, u32> = HashMap::with_capacity(header.tensors.len());
    for (tensor, &at) in header.tensors.iter().zip(&header.at) {
        dropped.extend(last.insert(&tensor.name, at));
    }
}

fn likeness(reader: &Reader<'_>, twin: Twin) -> Option<Likeness> {
    if reader.compare(twin.former, twin.latter).is_eq() {
        return Some(Likeness::Same);
    }
    let (former, latter) = (reader.text(twin.former), reader.text(twin.latter));
    if name::fold(&former) != name::fold(&latter) {
        return None;
    }
    let composed = name::compose(&former) == name::compose(&latter);
    Some(if composed { Likeness::Composed } else { Likeness::Cased })
}

fn describe(reader: &Reader<'_>, likeness: Likeness, twin: Twin) -> Defect {
    let name = reader.text(twin.latter);
    let (former, latter) = (name::quote(&reader.text(twin.former)), name::quote(&name));
    let (former_at, latter_at) =
        (in_file(twin.former.start() as usize), in_file(twin.latter.start() as usize));
    let message = match likeness {
        Likeness::Same => format!("the name {latter} stands twice"),
        Likeness::Composed => format!("the names {former} and {latter} look the same"),
        Likeness::Cased => format!("the names {former} and {latter} differ only in case"),
    };
    let defect = Defect::new(likeness.kind().0, message).at(latter_at).tensor(&name);
    if likeness == Likeness::Same {
        return defect.hint(format!("loaders keep the last entry and never see the one at byte {former_at}"));
    }
    defect
}
