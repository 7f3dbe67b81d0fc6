//! npz: a zip archive whose members are npy arrays.

use std::collections::HashMap;

use crate::code::{self, Severity};
use crate::defect::{Defect, Defects};
use crate::error::Error;
use crate::inflate;
use crate::name::{self, quote};
use crate::npy::{self, Place};
use crate::sniff::Promise;
use crate::source::ReadAt;
use crate::table::{self, Container, Storage, Table, Tensor};
use crate::zip;

const EXTENSION: &str = ".npy";

/// Reads an archive's directory and the headers of its arrays, and examines them.
pub(crate) fn read(
    bytes: &(impl ReadAt + ?Sized),
    promise: Promise,
    mut defects: Defects,
) -> Result<Table, Error> {
    let mut table = Table::empty(Container::Npz, bytes.len());
    if let Some(members) = zip::members(bytes, &mut defects)? {
        if members.iter().any(is_pickle) {
            table.container = Container::TorchZip;
            torch(promise, &mut defects);
        } else {
            for member in &members {
                examine(bytes, member, &mut table, &mut defects)?;
            }
            last_of_each_name(&mut table.tensors);
            confusable(&table.tensors, &mut defects);
            judge(&members, promise, &mut defects);
            table.sound = !defects.unsound();
        }
    }
    table.defects = defects.finish();
    Ok(table)
}

/// Whether a member is what makes an archive one of `torch.save`.
fn is_pickle(member: &zip::Member) -> bool {
    let name = member.entry.name();
    name == "data.pkl" || name.ends_with("/data.pkl") || name.ends_with("/constants.pkl")
}

fn torch(promise: Promise, defects: &mut Defects) {
    if !matches!(promise, Promise::Torch | Promise::Nothing) {
        defects.push(
            Defect::new(code::FS_WRONG_FORMAT, "the file is a torch archive")
                .at(0)
                .expected(promise.name(), "a torch archive, which can run code when loaded"),
        );
    }
    defects.push(
        Defect::new(code::PT_PICKLE, "torch archives are not read: nothing is said about this one's tensors")
            .severity(Severity::Unreadable)
            .hint("save the checkpoint as safetensors"),
    );
}

/// What the archive is, against what its name promises.
fn judge(members: &[zip::Member], promise: Promise, defects: &mut Defects) {
    let arrays = members.iter().any(|member| member.entry.name().ends_with(EXTENSION));
    let (found, expected) = if arrays {
        ("an npz archive", matches!(promise, Promise::Npz | Promise::Nothing))
    } else {
        defects.push(Defect::new(code::ST_NO_TENSORS, "the archive holds no arrays").at(0));
        ("a zip archive without arrays", promise == Promise::Npz)
    };
    if !expected {
        defects.push(
            Defect::new(code::FS_WRONG_FORMAT, format!("the file is {found}"))
                .at(0)
                .expected(promise.name(), found),
        );
    }
}

fn examine(
    bytes: &(impl ReadAt + ?Sized),
    member: &zip::Member,
    table: &mut Table,
    defects: &mut Defects,
) -> Result<(), Error> {
    let entry = &member.entry;
    let full_name = entry.name();
    let Some(name) = full_name.strip_suffix(EXTENSION) else {
        defects.add(code::Z_UNKNOWN_MEMBER, || {
            Defect::new(code::Z_UNKNOWN_MEMBER, format!("the member {} is no array", quote(&full_name)))
                .at(member.start)
                .expected("a name that ends in .npy", quote(&full_name))
        });
        return Ok(());
    };
    // Path-like names are the archive's affair and reported there.
    let hazards: Vec<_> = name::hazards(name).into_iter().filter(|&hazard| hazard != "path-like").collect();
    if !hazards.is_empty() {
        defects.add(code::ST_NAME_UNSAFE, || {
            Defect::new(
                code::ST_NAME_UNSAFE,
                format!("the name {} is unsafe: {}", quote(name), hazards.join(", ")),
            )
            .at(entry.at)
            .tensor(name)
        });
    }
    if name.len() > name::MAX_LEN {
        defects.add(code::ST_NAME_TOO_LONG, || {
            Defect::new(code::ST_NAME_TOO_LONG, format!("an array's name has {} bytes", name.len()))
                .at(entry.at)
                .tensor(name)
        });
    }
    if !member.readable {
        return Ok(());
    }
    let inflated = entry.method == zip::DEFLATED;
    let place = Place { name: Some(name), start: member.data, len: entry.len, inflated };
    let mut prefix = |want: u64| {
        let want = want.min(entry.len);
        if inflated {
            inflate::prefix(bytes, member.data, entry.compressed_len, want)
        } else {
            zip::read(bytes, member.data, want)
        }
    };
    if inflated && prefix(1)?.is_empty() && entry.len > 0 {
        defects.push(inflate::damaged(Some(name), member.data, "its compressed bytes are damaged"));
        return Ok(());
    }
    let Some(array) = npy::parse(&mut prefix, &place, defects)? else { return Ok(()) };
    let storage = if inflated {
        Storage::Deflated {
            offset: member.data,
            compressed_len: entry.compressed_len,
            header_len: array.header_len,
            len: array.len,
            crc32: entry.crc32,
        }
    } else {
        Storage::Stored { offset: member.data + array.header_len, len: array.len }
    };
    let mut tensor = array.into_tensor(name.to_owned(), storage);
    tensor.member = Some(table::Member {
        offset: member.data,
        len: entry.compressed_len,
        crc32: entry.crc32,
        inflated_len: entry.len,
    });
    table.tensors.push(tensor);
    Ok(())
}

/// Where a name stands twice, readers use the last.
fn last_of_each_name(tensors: &mut Vec<Tensor>) {
    let mut last: HashMap<&str, usize> = HashMap::with_capacity(tensors.len());
    for (index, tensor) in tensors.iter().enumerate() {
        last.insert(&tensor.name, index);
    }
    if last.len() == tensors.len() {
        return;
    }
    let keep: Vec<bool> =
        tensors.iter().enumerate().map(|(index, t)| last[t.name.as_str()] == index).collect();
    let mut keep = keep.iter();
    tensors.retain(|_| keep.next().is_none_or(|&keep| keep));
}

fn confusable(tensors: &[Tensor], defects: &mut Defects) {
    let mut seen: HashMap<String, &str> = HashMap::with_capacity(tensors.len());
    for tensor in tensors {
        let Some(other) = seen.insert(name::fold(&tensor.name), &tensor.name) else { continue };
        let by_case = name::compose(other) != name::compose(&tensor.name);
        let severity = if by_case { Severity::Note } else { Severity::Warn };
        defects.add_as(code::ST_NAME_CONFUSABLE, severity, || {
            let (first, second) = (quote(other), quote(&tensor.name));
            let how = if by_case { "differ only in case" } else { "look the same" };
            Defect::new(code::ST_NAME_CONFUSABLE, format!("the names {first} and {second} {how}"))
                .at(tensor.member.as_ref().map_or(0, |member| member.offset))
                .tensor(&tensor.name)
        });
    }
}
