//! The nearest-code search on x86-64: product and minimum in one loop, so that no score ever reaches memory.
//!
//! libtorch writes every score and reads it again, which for narrow vectors takes several times as long as the product.
//! Lanes are points, so that a minimum is one comparison a lane and the lowest of equal codes wins by order alone. This file
//! lays the work out and shares it among threads; `x86` has the loop. The crate's `unsafe` is in these two files.
#![allow(unsafe_code)]

#[cfg(target_arch = "x86_64")]
mod x86;

use std::mem::MaybeUninit;
use std::sync::{Mutex, PoisonError};

use tch::kind::Element;
use tch::{Device, Kind, Tensor};

use crate::Result;
use crate::nearest::{Distance, Nearest, SMALL};

/// What the loop needs to know of an instruction set.
pub(crate) struct Kernel {
    /// Points that are searched for at once.
    points: usize,
    /// Codes that they are compared with at once.
    codes: usize,
    search: Search,
    choose: Choose,
}

/// Compares a panel of points `[D, points]` with groups of codes `[G, D, codes]` and their offsets `[G, codes]`, of which the
/// first has the given number: where a score is less than the best so far, it and its group replace that.
///
/// # Safety
/// The processor must have the kernel's instruction set, and the slices those lengths.
type Search = unsafe fn(&[f32], &[f32], &[f32], usize, i32, &mut [f32], &mut [i32]);

/// The first code of a group `[D, codes]` with offsets `[codes]` that has the given score with a point `[D]`. A search that
/// keeps groups alone and chooses among a group's codes at the end has half the comparisons.
///
/// # Safety
/// As of [`Search`].
type Choose = unsafe fn(&[f32], &[f32], &[f32], f32) -> usize;

impl Kernel {
    /// Those that this processor has, the best one first.
    pub(crate) fn available() -> Vec<Self> {
        let mut found = Vec::new();
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx512f") {
                found.push(Self { points: 32, codes: 12, search: x86::search_avx512, choose: x86::choose_avx512 });
            }
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                found.push(Self { points: 16, codes: 6, search: x86::search_avx2, choose: x86::choose_avx2 });
            }
        }
        found
    }
}

/// Bytes of points, and of codes, that a thread works on at a time: both stay in its second cache.
const POINT_BYTES: usize = 256 << 10;
const CODE_BYTES: usize = 128 << 10;
/// Most points of a chunk.
const CHUNK: usize = 512;
/// Products below which starting threads costs more than they save.
const ALONE: usize = 1 << 22;

/// The search of [`crate::nearest`] by the best kernel, for contiguous or other f32 points and codes; None where there is no
/// kernel for them. Codes are packed `budget` bytes at a time.
pub(crate) fn nearest(points: &Tensor, codes: &Tensor, distance: Distance, budget: usize) -> Result<Option<Nearest>> {
    match Kernel::available().first() {
        Some(kernel) => nearest_by(kernel, points, codes, distance, budget),
        None => Ok(None),
    }
}

/// Like [`nearest`], by one of the kernels that this processor has.
///
/// Nothing here runs on libtorch's threads: those that have nothing to do spin for a while, on the cores that ours need.
pub(crate) fn nearest_by(
    kernel: &Kernel,
    points: &Tensor,
    codes: &Tensor,
    distance: Distance,
    budget: usize,
) -> Result<Option<Nearest>> {
    if [points, codes].iter().any(|t| t.device() != Device::Cpu || t.kind() != Kind::Float) {
        return Ok(None);
    }
    let (count, dim) = (codes.size()[0], codes.size()[1] as usize);
    if dim == 0 || count >= i64::from(i32::MAX) {
        return Ok(None);
    }
    let (points, codes) = (points.f_contiguous()?, codes.f_contiguous()?);
    let (points, codes) = (values(&points), values(&codes));
    let n = points.len() / dim;
    // Written where they stay: a copy of so many numbers would wake libtorch's threads.
    let empty = |kind| Tensor::f_empty([n as i64], (kind, Device::Cpu));
    let (mut distances, mut indices, mut squares) = (empty(Kind::Float)?, empty(Kind::Int64)?, vec![0.0; n]);
    let (scores, codes_found) = (filled(&mut distances, f32::INFINITY), filled(&mut indices, 0));
    let mut out = Out { scores, codes: codes_found, squares: &mut squares };
    let block = (budget / (4 * dim * kernel.codes)).max(1) * kernel.codes;
    for (b, codes) in codes.chunks(block * dim).enumerate() {
        Packed::new(kernel, codes, distance, dim, b * block).search(kernel, points, &mut out);
    }
    for (score, square) in out.scores.iter_mut().zip(&*out.squares) {
        let far = match distance {
            Distance::SquaredL2 => *score + square,
            Distance::Cosine => *score / square.sqrt().max(SMALL as f32) + 1.0,
        };
        // Not `max`, which would hide that it is not a number.
        *score = if far < 0.0 { 0.0 } else { far };
    }
    Ok(Some(Nearest { indices, distances }))
}

/// Where the results of some points go.
struct Out<'a> {
    scores: &'a mut [f32],
    codes: &'a mut [i64],
    squares: &'a mut [f32],
}

/// The numbers of a contiguous f32 tensor on the CPU.
fn values(tensor: &Tensor) -> &[f32] {
    debug_assert!(tensor.is_contiguous() && tensor.kind() == Kind::Float && tensor.device() == Device::Cpu);
    if tensor.numel() == 0 {
        return &[];
    }
    // SAFETY: such a tensor is that many f32 in a row, which live as long as it and which nobody writes meanwhile: tensors
    // are not Sync, and this thread only reads.
    unsafe { std::slice::from_raw_parts(tensor.data_ptr() as *const f32, tensor.numel()) }
}

/// The numbers of a new tensor of that type on the CPU, all of them set to `value`.
fn filled<T: Element + Copy>(tensor: &mut Tensor, value: T) -> &mut [T] {
    debug_assert!(tensor.is_contiguous() && tensor.kind() == T::KIND && tensor.device() == Device::Cpu);
    if tensor.numel() == 0 {
        return &mut [];
    }
    // SAFETY: as above, and nobody else has the new tensor; its numbers may be anything until they are written.
    let places = unsafe { std::slice::from_raw_parts_mut(tensor.data_ptr().cast::<MaybeUninit<T>>(), tensor.numel()) };
    for place in places.iter_mut() {
        place.write(value);
    }
    // SAFETY: each of them was written.
    unsafe { &mut *(std::ptr::from_mut(places) as *mut [T]) }
}

/// Codes in groups, the last one filled up with codes at an infinite distance.
struct Packed {
    dim: usize,
    /// `[G, D, codes]`.
    codes: Vec<f32>,
    /// `[G, codes]`.
    offsets: Vec<f32>,
    /// Number of the first code.
    first: usize,
}

impl Packed {
    /// From codes `[K, D]`, so that a score is `point . code + offset`: the squared distance less the point's squared norm, or
    /// the cosine's negative times the point's norm.
    fn new(kernel: &Kernel, table: &[f32], distance: Distance, dim: usize, first: usize) -> Self {
        let width = kernel.codes;
        let padded = (table.len() / dim).div_ceil(width) * width;
        let (mut codes, mut offsets) = (vec![0.0; padded * dim], vec![f32::INFINITY; padded]);
        let groups = codes.chunks_exact_mut(width * dim).zip(offsets.chunks_exact_mut(width));
        for ((group, offsets), rows) in groups.zip(table.chunks(width * dim)) {
            for (r, (row, offset)) in rows.chunks_exact(dim).zip(offsets).enumerate() {
                let square = sum_of_squares(row);
                let scale = match distance {
                    Distance::SquaredL2 => -2.0,
                    Distance::Cosine => -1.0 / square.sqrt().max(SMALL as f32),
                };
                *offset = if distance == Distance::SquaredL2 { square } else { 0.0 };
                for (at, value) in row.iter().enumerate() {
                    group[at * width + r] = scale * value;
                }
            }
        }
        Self { dim, codes, offsets, first }
    }

    fn search(&self, kernel: &Kernel, points: &[f32], out: &mut Out<'_>) {
        let n = out.scores.len();
        let alone = n * self.codes.len() < ALONE;
        let threads = if alone { 1 } else { usize::try_from(tch::get_num_threads()).unwrap_or(1).max(1) };
        let share = n.div_ceil(threads).div_ceil(kernel.points);
        let fitting = (POINT_BYTES / (4 * self.dim * kernel.points)).clamp(1, CHUNK / kernel.points);
        let chunk = fitting.min(share).max(1) * kernel.points;
        let outs = out.scores.chunks_mut(chunk).zip(out.codes.chunks_mut(chunk)).zip(out.squares.chunks_mut(chunk));
        let parts = Mutex::new(points.chunks(chunk * self.dim).zip(outs));
        let work = || {
            let (mut panels, mut groups) = (vec![0.0; chunk * self.dim], vec![NONE; chunk]);
            loop {
                let part = parts.lock().unwrap_or_else(PoisonError::into_inner).next();
                let Some((points, ((scores, codes), squares))) = part else { return };
                self.part(kernel, points, Out { scores, codes, squares }, &mut panels, &mut groups);
            }
        };
        std::thread::scope(|scope| {
            for _ in 1..threads.min(n.div_ceil(chunk)) {
                scope.spawn(work);
            }
            work();
        });
    }

    /// One chunk; `panels` and `found` are its memory.
    fn part(&self, kernel: &Kernel, points: &[f32], out: Out<'_>, panels: &mut [f32], found: &mut [i32]) {
        let (dim, width) = (self.dim, kernel.points);
        if self.first == 0 {
            for (square, row) in out.squares.iter_mut().zip(points.chunks_exact(dim)) {
                *square = sum_of_squares(row);
            }
        }
        for (panel, rows) in panels.chunks_exact_mut(width * dim).zip(points.chunks(width * dim)) {
            for (r, row) in rows.chunks_exact(dim).enumerate() {
                for (at, value) in row.iter().enumerate() {
                    panel[at * width + r] = *value;
                }
            }
        }
        let found = &mut found[..out.scores.len()];
        found.fill(NONE);
        let groups = (CODE_BYTES / (4 * dim * kernel.codes)).max(1);
        let blocks = self.codes.chunks(groups * kernel.codes * dim).zip(self.offsets.chunks(groups * kernel.codes));
        for (b, (codes, offsets)) in blocks.enumerate() {
            let first = (b * groups) as i32;
            let outs = out.scores.chunks_mut(width).zip(found.chunks_mut(width));
            for (panel, (scores, found)) in panels.chunks_exact(width * dim).zip(outs) {
                // The last panel of all may have fewer points than lanes.
                let (mut best, mut group) = ([f32::INFINITY; LANES], [NONE; LANES]);
                best[..scores.len()].copy_from_slice(scores);
                group[..found.len()].copy_from_slice(found);
                // SAFETY: `available` found the instruction set; the chunks have the lengths that the loop expects.
                unsafe { (kernel.search)(panel, codes, offsets, dim, first, &mut best[..width], &mut group[..width]) };
                scores.copy_from_slice(&best[..scores.len()]);
                found.copy_from_slice(&group[..found.len()]);
            }
        }
        self.choose(kernel, points, out, found);
    }

    /// The codes of the groups that were found; where none was, an earlier search had found a nearer code.
    fn choose(&self, kernel: &Kernel, points: &[f32], out: Out<'_>, groups: &[i32]) {
        let (dim, width) = (self.dim, kernel.codes);
        let found = groups.iter().zip(out.scores).zip(out.codes).zip(points.chunks_exact(dim));
        for (((group, score), code), point) in found {
            let Ok(group) = usize::try_from(*group) else { continue };
            let (codes, offsets) = (&self.codes[group * width * dim..], &self.offsets[group * width..]);
            // SAFETY: as of the search.
            let r = unsafe { (kernel.choose)(point, &codes[..width * dim], &offsets[..width], *score) };
            *code = (self.first + group * width + r) as i64;
        }
    }
}

/// In eight sums, which may be a vector.
fn sum_of_squares(row: &[f32]) -> f32 {
    let (chunks, rest) = row.as_chunks::<8>();
    let mut sums = [0.0; 8];
    for chunk in chunks {
        for (sum, value) in sums.iter_mut().zip(chunk) {
            *sum += value * value;
        }
    }
    sums.iter().sum::<f32>() + rest.iter().map(|value| value * value).sum::<f32>()
}

/// The group of a point for which no code of this search was nearer.
const NONE: i32 = -1;

/// Most points of a panel.
const LANES: usize = 32;
