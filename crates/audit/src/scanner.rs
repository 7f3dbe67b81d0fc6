//! One open file: which tensors go along with the pass over its bytes, and which need reading of their own.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use rayon::prelude::*;
use unitrow_tensors::code::{FS_SPARSE, ST_METADATA_HASH};
use unitrow_tensors::{Container, Defect, Mapping, Source, Table, Tensor, compare_crc, escape};

use crate::digest::Algorithm;
use crate::pass::{Part, Pass, Stopped, Sums, WINDOW_BYTES};
use crate::read::{self, BLOCK_BYTES, MAX_ROW_BYTES, MAX_ROWS};
use crate::scan::{Decoder, Failure, FileScan, Judged, Shared, Task, changed};
use crate::stats::{DecoderScan, DecoderShape, Finish};
use crate::values::{Frame, Pages, Values, copies, look, norm_dtype};
use crate::view::View;

const DAMAGED: &str = "its compressed data is damaged";

/// Keys of metadata that name the SHA-256 of the data section.
const DATA_DIGESTS: [&str; 3] = ["sha256", "data_sha256", "format_sha256"];

/// Holes of a file that are told apart.
const MAX_HOLES: usize = 4096;

/// One open file.
pub(crate) struct Scanner<'a> {
    pub(crate) table: &'a Table,
    pub(crate) source: &'a Source,
    pub(crate) mapping: Option<&'a Mapping>,
    pub(crate) shared: &'a Shared<'a>,
    /// Where the last of its tensors ends.
    pub(crate) data_end: u64,
    /// Marks of its pages, to find copies.
    pub(crate) pages: Pages,
}

/// A decoder whose rows can be measured.
struct Wanted<'a> {
    decoder: Decoder,
    tensor: &'a Tensor,
    view: View,
    shape: DecoderShape,
}

/// A tensor that the pass looks at: its values, its rows as a decoder's, or both.
struct Lane {
    part: Part,
    values: Option<Mutex<Values>>,
    /// The decoder's place among those asked for, and its rows so far.
    rows: Option<(usize, DecoderScan)>,
}

/// What was found by reading some tensors once more, or compressed ones at all.
#[derive(Default)]
struct Apart {
    judged: BTreeMap<usize, Judged>,
    values: Vec<(usize, Values)>,
    defects: Vec<Defect>,
    /// Tensors that were found damaged, to look at none twice.
    damaged: BTreeSet<usize>,
}

impl Scanner<'_> {
    /// Look at everything that the task asks for; what was found stays in `found` where this fails.
    pub(crate) fn run(&self, task: &Task<'_>, found: &mut FileScan) -> Result<(), Failure> {
        let wanted: Vec<_> = task.decoders.iter().map(|&decoder| self.wanted(decoder)).collect();
        let mut lanes = self.lanes(task, &wanted);
        let along: BTreeSet<usize> = lanes.iter().filter_map(|lane| Some(lane.rows.as_ref()?.0)).collect();
        let apart = || self.apart(task, &wanted, &along);
        // A digest that needs the bytes in order leaves threads free for what is read apart.
        let (passed, apart) = if task.hash.is_some_and(|algorithm| algorithm != Algorithm::Blake3) {
            let (passed, apart) = rayon::join(|| self.pass(task, &lanes), apart);
            (passed, Some(apart))
        } else {
            (self.pass(task, &lanes), None)
        };
        found.values = if task.values { vec![None; self.table.tensors.len()] } else { Vec::new() };
        let seen_to = passed.as_ref().err().map_or(u64::MAX, |stopped| stopped.at);
        for lane in &mut lanes {
            if let Some(values) = lane.values.take()
                && lane.part.start + lane.part.len <= seen_to
            {
                let values = values.into_inner().unwrap_or_else(PoisonError::into_inner);
                found.values[lane.part.tensor] = Some(values);
            }
        }
        let mut rest = Apart::default();
        let outcome = passed.map_err(|stopped| stopped.failure).and_then(|(digest, defects)| {
            found.digest = digest;
            found.defects.extend(defects);
            rest = apart.unwrap_or_else(|| self.apart(task, &wanted, &along))?;
            Ok(())
        });
        for (tensor, values) in rest.values {
            found.values[tensor] = Some(values);
        }
        found.defects.extend(rest.defects);
        self.report_values(found);
        outcome?;
        found.defects.extend(copies(self.table, &self.pages.twins(self.source)?));
        for (place, scan) in lanes.into_iter().filter_map(|lane| lane.rows) {
            if let Ok(one) = &wanted[place] {
                rest.judged.insert(place, self.finish(one, scan)?);
            }
        }
        found.decoders = rest.judged.into_values().collect();
        if self.source.changed()? {
            return Err(changed("the file changed while it was read"));
        }
        Ok(())
    }

    /// What a decoder's rows are, or why there are none.
    fn wanted(&self, decoder: Decoder) -> Result<Wanted<'_>, &'static str> {
        let tensor = self.table.tensors.get(decoder.tensor).ok_or("there is no such tensor")?;
        let dtype = norm_dtype(tensor.dtype).ok_or("norms are not defined for this dtype")?;
        let view = View::along(tensor, decoder.reduce_axis).ok_or("the tensor has no such axis")?;
        if view.rows() == 0 || view.len == 0 {
            return Err("the tensor has no elements");
        }
        if view.len.saturating_mul(dtype.size_bytes()) > MAX_ROW_BYTES {
            return Err("its rows are longer than 4 MiB, which no decoder's are");
        }
        let rows = view.rows().min(decoder.max_rows.unwrap_or(usize::MAX));
        if rows > MAX_ROWS {
            return Err("it has more than 16,777,216 rows, which no decoder has");
        }
        let shape = DecoderShape { dtype, rows, len: view.len, strided: view.inner > 1 };
        Ok(Wanted { decoder, tensor, view, shape })
    }

    /// The tensors that go along with the pass, sorted by offset: all that are stored if values are wanted, and
    /// decoders whose rows are contiguous.
    fn lanes(&self, task: &Task<'_>, wanted: &[Result<Wanted<'_>, &'static str>]) -> Vec<Lane> {
        let mut lanes = BTreeMap::new();
        if task.values {
            for (index, tensor) in self.table.tensors.iter().enumerate() {
                if let Some((start, len @ 1..)) = read::stored_at(tensor) {
                    let frame = Frame::of(tensor, self.data_end, &[]);
                    let row_bytes = frame.block_row_bytes(WINDOW_BYTES);
                    let part = Part { tensor: index, start, len, row_bytes };
                    lanes.insert(start, Lane { part, values: Some(Mutex::default()), rows: None });
                }
            }
        }
        for (place, one) in wanted.iter().enumerate() {
            let Ok(one) = one else { continue };
            let Some((start, _)) = read::stored_at(one.tensor) else { continue };
            let row_bytes = (one.shape.len * one.shape.dtype.size_bytes()) as u64;
            // The values of all rows are wanted; a probe goes along only where it is alone.
            let whole = one.shape.rows == one.view.rows();
            if one.view.inner > 1 || row_bytes > WINDOW_BYTES || task.values && !whole {
                continue;
            }
            let len = one.shape.rows as u64 * row_bytes;
            let part = Part { tensor: one.decoder.tensor, start, len, row_bytes };
            let lane = lanes.entry(start).or_insert(Lane { part, values: None, rows: None });
            if lane.rows.is_none() {
                (lane.part, lane.rows) = (part, Some((place, DecoderScan::new(one.shape))));
            }
        }
        lanes.into_values().collect()
    }

    /// The pass over the file: its digest, and what is wrong with check sums and digests.
    #[expect(clippy::type_complexity, reason = "the two are used at once and named there")]
    fn pass(
        &self,
        task: &Task<'_>,
        lanes: &[Lane],
    ) -> Result<(Option<(Algorithm, String)>, Vec<Defect>), Stopped> {
        let parts: Vec<Part> = lanes.iter().map(|lane| lane.part).collect();
        let tensors = || self.table.tensors.iter().enumerate().filter(|_| task.values);
        let sums = Sums::of(tensors());
        let claims = if task.hash == Some(Algorithm::Sha256) { self.claims() } else { Vec::new() };
        let hashed = Pass {
            source: self.source,
            mapping: self.mapping,
            watch: self.shared.watch,
            buffers: &self.shared.buffers,
            parts: &parts,
            sums: &sums,
            hash: task.hash,
            data_start: (!claims.is_empty()).then_some(self.table.header_len),
            use_rows: &|lane, at, bytes| self.use_rows(&lanes[lane], at, bytes),
        }
        .run()?;
        let mut defects: Vec<_> = sums
            .finish()
            .into_iter()
            .filter_map(|(tensor, sum)| compare_crc(&self.table.tensors[tensor], sum))
            .collect();
        let data = hashed.data.unwrap_or_default();
        defects.extend(claims.iter().filter(|(_, claim)| *claim != data).map(|(key, claim)| {
            Defect::new(
                ST_METADATA_HASH,
                format!("metadata key {} is not the SHA-256 of the data", escape(key)),
            )
            .at(8)
            .expected(claim, &data)
            .hint("the data was changed after the digest was written, or the digest belongs to another file")
        }));
        Ok((hashed.file, defects))
    }

    /// What the metadata says about the SHA-256 of the data: keys, and digests in lower case.
    fn claims(&self) -> Vec<(&str, String)> {
        if self.table.container != Container::Safetensors {
            return Vec::new();
        }
        let digest = |text: &str| {
            let hex = text.trim().trim_start_matches("sha256:").to_ascii_lowercase();
            (hex.len() == 64 && hex.bytes().all(|byte| byte.is_ascii_hexdigit())).then_some(hex)
        };
        let named = self.table.metadata.iter().filter(|(key, _)| DATA_DIGESTS.contains(&key.as_str()));
        named.filter_map(|(key, text)| Some((key.as_str(), digest(text)?))).collect()
    }

    /// Take rows of a lane that begin `at` bytes into its tensor.
    fn use_rows(&self, lane: &Lane, at: u64, bytes: &[u8]) -> Result<(), Failure> {
        let tensor = &self.table.tensors[lane.part.tensor];
        let mut turned;
        let mut bytes = bytes;
        if tensor.big_endian {
            turned = bytes.to_vec();
            read::to_little_endian(tensor, &mut turned);
            bytes = &turned;
        }
        let mut counts = None;
        if let Some((_, scan)) = &lane.rows {
            let first_row = usize::try_from(at / lane.part.row_bytes).unwrap_or(usize::MAX);
            counts = Some(scan.rows(first_row, bytes)?);
        }
        if let Some(values) = &lane.values {
            self.pages.mark(lane.part.start + at, bytes);
            let seen = look(&Frame::of(tensor, self.data_end, &[]), at, bytes, counts);
            values.lock().unwrap_or_else(PoisonError::into_inner).merge(&seen);
        }
        Ok(())
    }

    /// Measure what does not go along with the pass: decoders whose rows are not contiguous, and compressed members.
    fn apart(
        &self,
        task: &Task<'_>,
        wanted: &[Result<Wanted<'_>, &'static str>],
        along: &BTreeSet<usize>,
    ) -> Result<Apart, Failure> {
        let mut apart = Apart::default();
        let mut values: BTreeMap<usize, Values> = BTreeMap::new();
        for (place, one) in wanted.iter().enumerate().filter(|(place, _)| !along.contains(place)) {
            let judged = match one {
                Err(reason) => Judged::Not(reason),
                Ok(one) if apart.damaged.contains(&one.decoder.tensor) => Judged::Not(DAMAGED),
                Ok(one) => {
                    let tensor = one.decoder.tensor;
                    let whole = task.values && one.shape.rows == one.view.rows() && one.view.inner <= 1;
                    let compressed = read::stored_at(one.tensor).is_none();
                    let mut seen =
                        (whole && compressed && !values.contains_key(&tensor)).then(Values::default);
                    match self.measure(one, DecoderScan::new(one.shape), seen.as_mut())? {
                        Ok(judged) => {
                            values.extend(seen.map(|seen| (tensor, seen)));
                            judged
                        }
                        Err(damage) => {
                            apart.defects.push(damage);
                            apart.damaged.insert(tensor);
                            Judged::Not(DAMAGED)
                        }
                    }
                }
            };
            apart.judged.insert(place, judged);
        }
        for (index, tensor) in self.table.tensors.iter().enumerate().filter(|_| task.values) {
            let compressed = read::stored_at(tensor).is_none();
            if compressed && !values.contains_key(&index) && !apart.damaged.contains(&index) {
                match self.inflated_values(tensor)? {
                    Ok(seen) => drop(values.insert(index, seen)),
                    Err(damage) => apart.defects.push(damage),
                }
            }
        }
        apart.values = values.into_iter().collect();
        Ok(apart)
    }

    /// Look at all values of a compressed tensor, or tell its damage.
    fn inflated_values(&self, tensor: &Tensor) -> Result<Result<Values, Defect>, Failure> {
        let mut all = Values::default();
        let Some(view) = View::flat(tensor) else { return Ok(Ok(all)) };
        let item = read::item_bytes(tensor).max(1);
        let frame = Frame::of(tensor, self.data_end, &[]);
        let row_bytes = usize::try_from(frame.block_row_bytes(BLOCK_BYTES as u64)).unwrap_or(item);
        let blocks = view.blocks(item, BLOCK_BYTES / row_bytes * row_bytes, usize::MAX);
        let watch = self.shared.watch;
        let damage = read::stream_rows(self.source, tensor, view, &blocks, watch, |block, bytes| {
            let at = (block.first_row * item) as u64;
            watch.step(bytes)?;
            all.merge(&look(&frame, at, bytes, None));
            Ok(())
        })?;
        Ok(damage.map_or(Ok(all), Err))
    }

    /// The figures of a decoder whose rows went along, after one more look where one is needed.
    fn finish(&self, wanted: &Wanted<'_>, scan: DecoderScan) -> Result<Judged, Failure> {
        match scan.finish()? {
            Finish::Stats(stats) => Ok(Judged::Stats(stats)),
            Finish::Again(next) => {
                let judged = self.measure(wanted, next, None)?;
                Ok(judged.unwrap_or(Judged::Not(DAMAGED)))
            }
        }
    }

    /// Measure a decoder's rows in passes of their own, and count values on the way where they are wanted.
    fn measure(
        &self,
        wanted: &Wanted<'_>,
        mut scan: DecoderScan,
        mut values: Option<&mut Values>,
    ) -> Result<Result<Judged, Defect>, Failure> {
        let Wanted { tensor, view, shape, .. } = wanted;
        let watch = self.shared.watch;
        let item = shape.dtype.size_bytes();
        let block_bytes = if view.inner > 1 { self.shared.panel_bytes } else { BLOCK_BYTES };
        let blocks = view.blocks(item, block_bytes, shape.rows);
        let frame = Frame::of(tensor, self.data_end, &[]);
        loop {
            if let Some((start, _)) = read::stored_at(tensor) {
                blocks.par_iter().try_for_each(|&block| {
                    read::with_rows(self.source, tensor, start, *view, block, |bytes| {
                        watch.step(bytes)?;
                        scan.rows(block.first_row, bytes)?;
                        Ok::<(), Failure>(())
                    })?
                })?;
            } else {
                let damage =
                    read::stream_rows(self.source, tensor, *view, &blocks, watch, |block, bytes| {
                        watch.step(bytes)?;
                        let counts = scan.rows(block.first_row, bytes)?;
                        if let Some(values) = &mut values {
                            let at = (block.first_row * view.len * item) as u64;
                            values.merge(&look(&frame, at, bytes, Some(counts)));
                        }
                        Ok(())
                    })?;
                if let Some(damage) = damage {
                    return Ok(Err(damage));
                }
            }
            values = None;
            match scan.finish()? {
                Finish::Stats(stats) => return Ok(Ok(Judged::Stats(stats))),
                Finish::Again(next) => scan = next,
            }
        }
    }

    /// Say what is wrong with the values that were looked at.
    fn report_values(&self, found: &mut FileScan) {
        let sparse = self.table.defects.iter().any(|defect| defect.code == FS_SPARSE);
        let holes = if sparse { self.source.holes(MAX_HOLES) } else { Vec::new() };
        for (tensor, values) in self.table.tensors.iter().zip(&found.values) {
            if let Some(values) = values {
                let frame = Frame::of(tensor, self.data_end, &holes);
                found.defects.extend(values.findings(&tensor.name, &frame));
            }
        }
    }
}
