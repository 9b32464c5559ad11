//! A record as the words of a place, and as a value.
//!
//! What nearly every record has fits into [`WORDS`] words: up to four dimensions whose sizes and strides fit 32
//! bits, and up to four reasons. The rest goes into an [`Ext`] beside the slab.

use freehold_tensor::{Code, DType, Device, DeviceKind, Dims, Extent, Layout, Steps, StrideUnit, Strided, Verdict};
use smallvec::SmallVec;

use crate::slab::{Copied, Slab, state};
use crate::sync::{AtomicU64, Ordering};
use crate::{Edge, HolderDesc, HolderFlags, HolderId, Label, Role, Sync};

/// Words of a record.
pub(crate) const WORDS: usize = 14;

/// The `meta` bits low, the framework of the source high. Written last: until then a free place's word 0 names the next one.
const META: usize = 0;
const ADDRESS: usize = 1;
const ALLOC_BASE: usize = 2;
const ALLOC_LEN: usize = 3;
const PARENT: usize = 4;
/// When, high, in units of about a millisecond; below, a number that grows with every record of the shard.
const OPENED: usize = 5;
/// Kind low, id high.
const DEVICE: usize = 6;
/// Dtype low, epoch high.
const DTYPE: usize = 7;
/// Framework low, site high.
const LABELS: usize = 8;
/// Up to four reason codes; with `COPY_BYTES`, one code and 48 bits of bytes.
const REASONS: usize = 9;
/// One word a dimension: size low, stride high; with `EXT`, the index of the extra part.
const DIMS: usize = 10;
const INLINE_DIMS: usize = WORDS - DIMS;

/// Bits of the low half of [`META`].
mod meta {
    /// Dimensions, 0 to 4.
    pub(super) const NDIM: u32 = 0b111;
    /// Reasons, 0 to 4.
    pub(super) const REASONS_SHIFT: u32 = 3;
    /// Verdict, or 3 for a record without a source.
    pub(super) const VERDICT_SHIFT: u32 = 6;
    pub(super) const SYNC_SHIFT: u32 = 8;
    pub(super) const STEPS_SHIFT: u32 = 10;
    pub(super) const HOLDER: u32 = 1 << 18;
    pub(super) const PADDED: u32 = 1 << 19;
    pub(super) const BYTE_STRIDES: u32 = 1 << 20;
    pub(super) const ALLOC: u32 = 1 << 21;
    pub(super) const COPY_BYTES: u32 = 1 << 22;
    pub(super) const EXT: u32 = 1 << 23;
    pub(super) const NO_EDGE: u32 = 3;
}

const SEQUENCE_BITS: u32 = 24;
const TIME_SHIFT: u32 = 20;

/// The word that says when a record was opened and in which order.
#[inline]
pub(crate) const fn opened(ns: u64, sequence: u64) -> u64 {
    (ns >> TIME_SHIFT) << SEQUENCE_BITS | (sequence & ((1 << SEQUENCE_BITS) - 1))
}

const MAX_INLINE_BYTES: u64 = (1 << 48) - 1;

/// What does not fit into the words.
#[derive(Clone, Debug)]
pub(crate) struct Ext {
    shape: Dims,
    strides: Dims,
    reasons: Vec<Code>,
    bytes: u64,
}

/// The index of a record's extra part. For the writer of the place only.
#[inline]
pub(crate) fn ext_index(words: &[AtomicU64; WORDS]) -> Option<u32> {
    if words[META].load(Ordering::Relaxed) as u32 & meta::EXT == 0 {
        return None;
    }
    Some(words[DIMS].load(Ordering::Relaxed) as u32)
}

/// The index of the extra part in a copy of the words.
pub(crate) fn ext_index_of(words: &[u64; WORDS]) -> Option<u32> {
    (words[META] as u32 & meta::EXT != 0).then_some(words[DIMS] as u32)
}

#[inline]
const fn pair(low: u32, high: u32) -> u64 {
    low as u64 | (high as u64) << 32
}

/// Writes a record into a place that the writer reserved.
pub(crate) fn write(
    slab: &Slab,
    words: &[AtomicU64; WORDS],
    holder: &HolderDesc<'_>,
    edge: Option<&Edge<'_>>,
    epoch: u32,
    opened: u64,
) {
    let small = write_plain(words, holder, edge, epoch, opened);
    let signed = || {
        let fits = has_room(holder) && holder.shape.iter().chain(holder.strides).all(|&n| n == i64::from(n as i32));
        fits.then(|| write_dims(words, holder)).is_some()
    };
    let mut fits = small.dims || signed();
    let mut meta = small.meta;
    if let Some(edge) = edge
        && edge.bytes != 0
    {
        fits &= edge.bytes <= MAX_INLINE_BYTES && edge.reasons.len() <= 1;
        meta |= u64::from(meta::COPY_BYTES);
        set(words, REASONS, edge.bytes << 16 | edge.reasons.first().map_or(0, |code| *code as u64));
    } else if let Some(edge) = edge {
        fits &= is_small(edge);
    }
    if fits {
        meta |= holder.shape.len() as u64;
    } else {
        meta |= u64::from(meta::EXT);
        set(words, DIMS, write_ext(slab, holder, edge));
    }
    set(words, META, meta);
}

/// What [`write_plain`] leaves to its caller.
pub(crate) struct Plain {
    /// The word of [`META`], but for the number of dimensions.
    meta: u64,
    /// Whether sizes and strides are what most are: of up to four dimensions, not negative, and of 31 bits.
    pub(crate) dims: bool,
}

/// Writes a record but for its first word, into a place that may still be on the free list.
///
/// Of sizes and strides that do not fit nothing is written; of an edge that is not [`is_small`] too little.
#[inline(always)]
pub(crate) fn write_plain(
    words: &[AtomicU64; WORDS],
    holder: &HolderDesc<'_>,
    edge: Option<&Edge<'_>>,
    epoch: u32,
    opened: u64,
) -> Plain {
    set(words, OPENED, opened);
    let DType { code, bits, lanes } = holder.dtype;
    set(words, DTYPE, pair(u32::from(code) | u32::from(bits) << 8 | u32::from(lanes) << 16, epoch));
    set(words, ADDRESS, holder.address);
    set(words, DEVICE, pair(holder.device.kind.0 as u32, holder.device.id as u32));
    set(words, LABELS, pair(holder.framework.number(), holder.site.number()));
    let mut flags = 0;
    if holder.role == Role::Holder {
        flags |= meta::HOLDER;
    }
    if holder.padded {
        flags |= meta::PADDED;
    }
    if holder.unit == StrideUnit::Bytes {
        flags |= meta::BYTE_STRIDES;
    }
    // Words that the flags say nothing of are not read.
    if let Some((base, len)) = holder.alloc {
        set(words, ALLOC_BASE, base);
        set(words, ALLOC_LEN, len);
        flags |= meta::ALLOC;
    }
    let mut from = 0;
    match edge {
        None => flags |= meta::NO_EDGE << meta::VERDICT_SHIFT,
        Some(edge) => {
            set(words, PARENT, edge.from.get());
            from = edge.from_framework.number();
            flags |= (edge.verdict as u32) << meta::VERDICT_SHIFT;
            flags |= (edge.sync as u32) << meta::SYNC_SHIFT;
            flags |= u32::from(edge.steps.bits()) << meta::STEPS_SHIFT;
            flags |= (edge.reasons.len() as u32 & 7) << meta::REASONS_SHIFT;
            if !edge.reasons.is_empty() {
                let codes = edge.reasons.iter().take(4).enumerate();
                set(words, REASONS, codes.fold(0, |word, (i, code)| word | (*code as u64) << (16 * i)));
            }
        }
    }
    Plain { meta: pair(flags, from), dims: has_room(holder) && write_dims(words, holder) >> 31 == 0 }
}

/// Ends what [`write_plain`] began, where its dimensions fit and its edge is small: the place is taken off the free list.
#[inline(always)]
pub(crate) fn end_plain(words: &[AtomicU64; WORDS], plain: &Plain, holder: &HolderDesc<'_>) {
    set(words, META, plain.meta | holder.shape.len() as u64);
}

#[inline(always)]
fn set(words: &[AtomicU64; WORDS], i: usize, value: u64) {
    words[i].store(value, Ordering::Relaxed);
}

/// Whether what an edge says fits the words, and its bytes are none.
#[inline(always)]
pub(crate) fn is_small(edge: &Edge<'_>) -> bool {
    edge.bytes == 0 && edge.reasons.len() <= 4
}

#[inline(always)]
fn has_room(holder: &HolderDesc<'_>) -> bool {
    holder.shape.len() <= INLINE_DIMS && holder.strides.len() == holder.shape.len()
}

/// The low halves of at most [`INLINE_DIMS`] sizes and strides. Returns all their bits, the signs as high ones.
#[inline(always)]
fn write_dims(words: &[AtomicU64; WORDS], holder: &HolderDesc<'_>) -> i64 {
    let mut bits = 0;
    for i in 0..INLINE_DIMS {
        // By number, which is the same for both: zipped, they would be counted apart.
        let (Some(&size), Some(&stride)) = (holder.shape.get(i), holder.strides.get(i)) else { break };
        bits |= size | stride;
        set(words, DIMS + i, size as u32 as u64 | (stride as u64) << 32);
    }
    bits
}

#[cold]
fn write_ext(slab: &Slab, holder: &HolderDesc<'_>, edge: Option<&Edge<'_>>) -> u64 {
    // A shape and strides of different lengths break the caller's promise; what both have is kept.
    let ndim = holder.shape.len().min(holder.strides.len());
    u64::from(slab.keep_ext(Ext {
        shape: holder.shape[..ndim].into(),
        strides: holder.strides[..ndim].into(),
        reasons: edge.map_or(Vec::new(), |edge| edge.reasons.to_vec()),
        bytes: edge.map_or(0, |edge| edge.bytes),
    }))
}

/// Where a record's view came from.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    pub(crate) from: HolderId,
    pub(crate) framework: Label,
    pub(crate) verdict: Verdict,
    pub(crate) steps: Steps,
    pub(crate) reasons: SmallVec<[Code; 4]>,
    pub(crate) bytes: u64,
    pub(crate) sync: Sync,
}

/// A copy of a live record.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    pub(crate) id: HolderId,
    pub(crate) role: Role,
    pub(crate) framework: Label,
    pub(crate) site: Label,
    pub(crate) device: Device,
    pub(crate) address: u64,
    pub(crate) dtype: DType,
    pub(crate) padded: bool,
    pub(crate) unit: StrideUnit,
    pub(crate) shape: Dims,
    pub(crate) strides: Dims,
    pub(crate) alloc: Option<(u64, u64)>,
    pub(crate) flags: HolderFlags,
    pub(crate) thread: u16,
    pub(crate) epoch: u32,
    /// See [`opened`]: sorts by time, and within one shard by order.
    pub(crate) opened: u64,
    pub(crate) source: Option<Source>,
}

impl Record {
    /// When it was opened, in nanoseconds of the cheap clock, rounded down.
    pub(crate) fn opened_at(&self) -> u64 {
        (self.opened >> SEQUENCE_BITS) << TIME_SHIFT
    }

    pub(crate) fn decode(shard: usize, slot: u32, copied: Copied) -> Record {
        let Copied { state, words, ext } = copied;
        let low = |i: usize| words[i] as u32;
        let high = |i: usize| (words[i] >> 32) as u32;
        let flags = low(META);
        let has = |bit: u32| flags & bit != 0;
        let source = Source::decode(&words, flags, ext.as_ref());
        let (shape, strides) = match ext {
            Some(ext) => (ext.shape, ext.strides),
            None => {
                let dims = &words[DIMS..DIMS + (flags & meta::NDIM) as usize % (INLINE_DIMS + 1)];
                let size = |word: &u64| i64::from(*word as u32 as i32);
                let stride = |word: &u64| i64::from((*word >> 32) as u32 as i32);
                (dims.iter().map(size).collect(), dims.iter().map(stride).collect())
            }
        };
        Record {
            id: HolderId::new(state::generation(state), shard, slot),
            role: if has(meta::HOLDER) { Role::Holder } else { Role::Owner },
            framework: Label::from_number(low(LABELS)),
            site: Label::from_number(high(LABELS)),
            device: Device::new(DeviceKind(low(DEVICE) as i32), high(DEVICE) as i32),
            address: words[ADDRESS],
            dtype: DType { code: low(DTYPE) as u8, bits: (low(DTYPE) >> 8) as u8, lanes: (low(DTYPE) >> 16) as u16 },
            padded: has(meta::PADDED),
            unit: if has(meta::BYTE_STRIDES) { StrideUnit::Bytes } else { StrideUnit::Elements },
            shape,
            strides,
            alloc: has(meta::ALLOC).then_some((words[ALLOC_BASE], words[ALLOC_LEN])),
            flags: HolderFlags::from_bits_retain(((state & state::FLAGS_MASK) >> state::FLAGS_SHIFT) as u32),
            thread: (state >> state::THREAD_SHIFT) as u16,
            epoch: high(DTYPE),
            opened: words[OPENED],
            source,
        }
    }

    pub(crate) fn layout(&self) -> Layout<'_> {
        Layout { shape: &self.shape, strides: &self.strides }
    }

    /// The view as the overlap test takes it; `None` for a layout that is not valid.
    pub(crate) fn strided(&self) -> Option<Strided<'_>> {
        self.layout().validate(self.dtype, self.padded, self.unit).ok()?;
        let (layout, dtype) = (self.layout(), self.dtype);
        Some(Strided { address: self.address, layout, dtype, padded: self.padded, unit: self.unit })
    }

    /// The addresses that the view reaches, from the lowest byte to one past the highest; empty where it reaches none.
    pub(crate) fn extent(&self) -> (u64, u64) {
        let Extent { lo, hi } = match self.layout().validate(self.dtype, self.padded, self.unit) {
            Ok(extent) => extent,
            Err(_) => Extent { lo: 0, hi: 0 },
        };
        (self.address.saturating_add_signed(lo), self.address.saturating_add_signed(hi))
    }

    /// At most how many bytes the view touches: its elements, or its extent where that is smaller (broadcast).
    pub(crate) fn touched_bytes(&self) -> u64 {
        let (lo, hi) = self.extent();
        let bits = if self.padded { self.dtype.padded_size() as u128 * 8 } else { self.dtype.element_bits().into() };
        let elements = self.layout().numel().map_or(0, |n| n.unsigned_abs());
        u64::try_from((u128::from(elements) * bits).div_ceil(8)).unwrap_or(u64::MAX).min(hi - lo)
    }
}

impl Source {
    fn decode(words: &[u64; WORDS], flags: u32, ext: Option<&Ext>) -> Option<Source> {
        let verdict = match flags >> meta::VERDICT_SHIFT & 3 {
            0 => Verdict::Share,
            1 => Verdict::Copy,
            2 => Verdict::Reject,
            _ => return None,
        };
        let word = words[REASONS];
        let count = (flags >> meta::REASONS_SHIFT & 7) as usize;
        let (reasons, bytes) = match ext {
            Some(ext) => (SmallVec::from_slice(&ext.reasons), ext.bytes),
            None if flags & meta::COPY_BYTES != 0 => (codes(word, count.min(1)), word >> 16),
            None => (codes(word, count.min(4)), 0),
        };
        Some(Source {
            from: HolderId::from_raw(words[PARENT]),
            framework: Label::from_number((words[META] >> 32) as u32),
            verdict,
            steps: Steps::from_bits_retain((flags >> meta::STEPS_SHIFT) as u8),
            reasons,
            bytes,
            sync: match flags >> meta::SYNC_SHIFT & 3 {
                1 => Sync::Event,
                2 => Sync::Host,
                _ => Sync::None,
            },
        })
    }
}

fn codes(word: u64, count: usize) -> SmallVec<[Code; 4]> {
    (0..count).filter_map(|i| Code::from_number((word >> (16 * i)) as u16)).collect()
}

#[cfg(test)]
mod tests;
