//! What must hold of a table, whatever the bytes; shared by the targets.

use std::ops::ControlFlow;
use std::path::Path;

use unitrow_tensors::{Defect, Severity, Storage, Table, inflate, read_table_from};

/// Reads `bytes` as a file of that name and asserts what must hold of the result.
pub fn read(bytes: &[u8], name: &str) -> Table {
    let table = read_table_from(bytes, Path::new(name)).expect("memory can be read");
    assert_eq!(table.file_len, bytes.len() as u64);
    assert!(table.header_len <= table.file_len);
    assert_defects(&table.defects);
    let mut names: Vec<&str> = table.tensors.iter().map(|tensor| tensor.name.as_str()).collect();
    names.extend(table.lost.iter().map(|tensor| tensor.name.as_str()));
    names.sort_unstable();
    assert!(names.windows(2).all(|pair| pair[0] != pair[1]), "a name stands twice");
    for tensor in &table.tensors {
        assert_range(tensor.storage, bytes.len() as u64);
        let bits = tensor.shape.iter().try_fold(tensor.dtype.bits(), |bits, &dim| bits.checked_mul(dim));
        assert!(tensor.shape.contains(&0) || bits == Some(8 * tensor.storage.len()), "{tensor:?}");
        // A stream can hold a hundred times its own length; what is asserted shows in the first megabytes.
        let mut seen = 0;
        let mut sink = |chunk: &[u8]| {
            seen += chunk.len() as u64;
            if seen > 1 << 20 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        let defect = inflate(bytes, tensor, &mut sink).expect("memory can be read");
        assert!(seen <= tensor.storage.len(), "{tensor:?}");
        assert!(defect.is_some() || seen > 1 << 20 || seen == tensor.storage.len(), "{tensor:?}");
    }
    for tensor in &table.lost {
        let Storage::Stored { offset, len } = tensor.storage else { panic!("{tensor:?}") };
        assert!(offset.saturating_add(len) > table.file_len && !table.tensors.contains(tensor), "{tensor:?}");
        assert!(rejected(&table.defects), "{tensor:?}");
    }
    table
}

fn assert_range(storage: Storage, file_len: u64) {
    let (Storage::Stored { offset, len } | Storage::Deflated { offset, compressed_len: len, .. }) = storage;
    assert!(offset.checked_add(len).is_some_and(|end| end <= file_len), "{storage:?}");
}

/// Asserts that findings are in order, capped, and printable.
pub fn assert_defects(defects: &[Defect]) {
    let keys: Vec<_> = defects.iter().map(|defect| (defect.byte_offset, defect.code.name)).collect();
    assert!(keys.is_sorted(), "{keys:?}");
    for defect in defects {
        let same = defects.iter().filter(|d| (d.code, d.severity) == (defect.code, defect.severity)).count();
        assert!(same <= unitrow_tensors::CAP + 1, "{defect:?}");
        let texts =
            [Some(&defect.message), defect.expected.as_ref(), defect.found.as_ref(), defect.hint.as_ref()];
        for text in texts.into_iter().flatten() {
            assert!(text.bytes().all(|byte| matches!(byte, b' '..=b'~')), "{text:?}");
        }
    }
}

/// Whether something was found that fails the file.
pub fn rejected(defects: &[Defect]) -> bool {
    defects.iter().any(|defect| defect.severity >= Severity::Fail)
}
