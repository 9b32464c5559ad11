//! Looks: views of plain host memory that nobody frees, without a record. They come and go in a few nanoseconds, so that a thread
//! keeps those that ended with most of their facts, and only what differs from one to the next is written.

use std::mem::offset_of;
use std::ptr::NonNull;

use super::{Ground, Handle, KIND, Node, dims, layout};
use crate::block;
use crate::count::Count;
use crate::{DType, Traits};

/// The most dimensions of a look: those for which a kept block has room.
pub(crate) const MAX_NDIM: usize = 6;
const _: () = assert!(layout(MAX_NDIM).size() <= block::SIZE && layout(MAX_NDIM + 1).size() > block::SIZE);

/// What a node tells of itself beside its count, as one word: that of a look of so many dimensions.
const fn word(ndim: u8) -> u32 {
    let [first, second] = KIND.to_ne_bytes();
    u32::from_le_bytes([ndim, true as u8, first, second])
}

/// Where that word is.
///
/// # Safety
///
/// * A node's block is there, or eight other bytes.
#[inline(always)]
unsafe fn word_of(node: NonNull<Node>) -> *mut u32 {
    const AT: usize = offset_of!(Node, ndim);
    const _: () = assert!(AT.is_multiple_of(4) && offset_of!(Node, look) == AT + 1 && offset_of!(Node, kind) == AT + 2);
    // SAFETY: within eight bytes.
    unsafe { node.as_ptr().byte_add(AT).cast() }
}

/// Keeps the look behind a handle, if it is one, the handle is the last, and the thread has room for it; else nothing is done.
///
/// # Safety
///
/// * A tensor is there, and the handle is the caller's, who gives it up if `true` comes back; or eight other bytes that can be read
///   and are aligned, of which the last two are not a tensor's kind.
#[inline(always)]
pub(crate) unsafe fn keep(handle: NonNull<u8>) -> bool {
    let node = handle.cast::<Node>();
    // SAFETY: the word of a node that has other handles is not written to.
    let word_there = u32::from_le(unsafe { word_of(node).read() });
    if word_there.wrapping_sub(word(0)) > MAX_NDIM as u32 {
        return false;
    }
    // SAFETY: only a node has this kind, and a look's has so few dimensions. Nobody else has a handle, nothing needs a drop, and its
    // facts are those of all looks, or it would not be marked as one.
    unsafe { (*node.as_ptr()).count.is_one() && block::keep_view(handle) }
}

/// A look that ended, off the thread's list, with the facts that all have in common.
pub(crate) struct EndedLook {
    node: NonNull<Node>,
    ndim: usize,
}

impl Ground for EndedLook {
    #[inline(always)]
    unsafe fn room(ndim: usize) -> Option<EndedLook> {
        if ndim > MAX_NDIM {
            return None;
        }
        Some(EndedLook { node: block::take_view()?.cast(), ndim })
    }

    #[inline(always)]
    fn place(&mut self) -> *mut i64 {
        // SAFETY: the block has room for `MAX_NDIM` dimensions; what is written lies behind the node, and so behind the list's word.
        unsafe { dims(self.node) }
    }

    #[inline(always)]
    fn shape(&self) -> &[i64] {
        // SAFETY: `ndim` values are there, by the word of who called `room`.
        unsafe { std::slice::from_raw_parts(dims(self.node), self.ndim) }
    }

    #[inline(always)]
    fn abandon(self) {
        // SAFETY: it was on the list, which has room for it, and its node is as it was but for the dimensions.
        unsafe { block::keep_view(self.node.cast()) };
    }
}

impl EndedLook {
    /// The first handle of a new one.
    #[inline(always)]
    pub(crate) fn again(self, data: *mut u8, dtype: DType, traits: Traits) -> Handle {
        let node = self.node;
        // SAFETY: `keep` kept the node of a look: what is not written here is as all looks have it, which `Inner::is_look` says, and
        // the rest is plain data. Nobody else knows of the block.
        unsafe {
            (&raw mut (*node.as_ptr()).count).write(Count::one());
            word_of(node).write(word(self.ndim as u8).to_le());
            let inner = &raw mut (*node.as_ptr()).inner;
            (*inner).data = data;
            (*inner).dtype = dtype;
            (*inner).traits = traits;
            Handle(node)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dlpack::{DLTensor, device_to, dtype_to};
    use crate::{Device, DeviceKind, ImportOptions, Label, Owner, Runtime, Tensor};

    static mut MEMORY: [f64; 64] = [0.0; 64];

    fn tensor(device: Device, owner: Owner, options: &ImportOptions, dims: &mut [i64]) -> Tensor {
        let (ndim, dims) = (dims.len() as i32, dims.as_mut_ptr());
        let t = DLTensor {
            data: (&raw mut MEMORY).cast(),
            device: device_to(device),
            ndim,
            dtype: dtype_to(DType::F32),
            shape: dims,
            strides: dims,
            byte_offset: 0,
        };
        // SAFETY: the memory is a static's, and the dimensions live; for the strides they have, all fit in it.
        unsafe { Tensor::from_dltensor(&t, owner, options) }.map_err(|(error, _)| error).expect("valid")
    }

    fn quiet() -> ImportOptions {
        ImportOptions { framework: Label::C, quiet: true, ..ImportOptions::default() }
    }

    fn is_look(t: &Tensor) -> bool {
        t.0.node().look
    }

    #[test]
    fn a_look_is_what_all_looks_have_in_common() {
        let dims = &mut [2, 2];
        assert!(is_look(&tensor(Device::CPU, Owner::Borrowed, &quiet(), dims)));
        assert!(is_look(&tensor(
            Device::CPU,
            Owner::Borrowed,
            &ImportOptions { traits: Traits::READ_ONLY, ..quiet() },
            dims
        )));
        assert!(is_look(&tensor(Device::CPU, Owner::Borrowed, &quiet(), &mut [1; MAX_NDIM])));
        let others = [
            ImportOptions { framework: Label::intern("torch"), ..quiet() },
            ImportOptions { alloc: Some(((&raw const MEMORY).addr() as u64, 512)), ..quiet() },
            ImportOptions { quiet: false, ..quiet() },
            ImportOptions { runtime: Runtime::new(freehold_ledger::Level::Off), ..quiet() },
        ];
        for (i, options) in others.iter().enumerate() {
            assert!(!is_look(&tensor(Device::CPU, Owner::Borrowed, options, dims)), "{i}");
        }
        assert!(!is_look(&tensor(Device::new(DeviceKind::CUDA_HOST, 0), Owner::Borrowed, &quiet(), dims)));
        assert!(!is_look(&tensor(Device::CPU, Owner::Value(Box::new(1)), &quiet(), dims)));
        assert!(!is_look(&tensor(Device::CPU, Owner::Borrowed, &quiet(), &mut [1; MAX_NDIM + 1])));
        let t = tensor(Device::CPU, Owner::Borrowed, &quiet(), dims);
        assert!(!is_look(&t.derive(|_| {})) && is_look(&t));
        let mut t = t;
        assert!(t.0.get_mut().is_some() && !is_look(&t));
    }

    // As the list would give it back: which keeps nothing in checked builds, and under Miri.
    #[test]
    fn the_next_look_has_the_facts_that_it_is_told() {
        let first =
            tensor(Device::CPU, Owner::Borrowed, &ImportOptions { traits: Traits::READ_ONLY, ..quiet() }, &mut [2, 3]);
        let node = first.0.into_raw().cast::<Node>();
        // SAFETY: the word of a node, which the list overwrites.
        unsafe { node.cast::<u64>().write(0) };
        let mut look = EndedLook { node, ndim: 2 };
        // SAFETY: room for two dimensions, twice.
        unsafe { look.place().copy_from([5, 1, 7, 1].as_ptr(), 4) };
        assert_eq!(look.shape(), [5, 1]);
        let data = (&raw mut MEMORY).wrapping_byte_add(8).cast();
        let t = Tensor(look.again(data, DType::I64, Traits::IS_COPIED));
        assert_eq!((t.shape(), t.strides()), (&[5, 1][..], &[7, 1][..]));
        assert_eq!((t.data_ptr(), t.dtype(), t.traits()), (data, DType::I64, Traits::IS_COPIED));
        assert_eq!((t.device(), t.framework(), t.byte_offset(), t.allocation()), (Device::CPU, Label::C, 0, None));
        assert!(t.id().is_none() && t.is_sole() && is_look(&t) && t.stream().is_none());
        let (clone, export) = (t.clone(), t.to_versioned(&crate::ExportOptions::default()).expect("host memory"));
        assert!(!t.is_sole());
        drop((t, export));
        assert!(clone.is_sole());
    }
}
