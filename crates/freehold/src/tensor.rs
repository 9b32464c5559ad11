//! A tensor that owns a share of somebody's buffer.

use std::ffi::c_void;
use std::fmt;
use std::ptr::NonNull;
use std::sync::Arc;

use freehold_device::Stream;
use freehold_ledger::{HolderDesc, HolderFlags, HolderId, Role};
use freehold_tensor::{Extent, Strided};

use crate::canary::Watch;
use crate::flow::Flow;
use crate::handle::{self, Draft, Handle, LastHandle, look};
use crate::{DType, Device, Label, Layout, Runtime, StrideUnit, TensorDesc, Traits};

mod end;
mod owner;
mod record;

pub(crate) use self::owner::CapsuleOwner;
pub use self::owner::Owner;

/// The facts of a tensor. Its shape and strides are beside them, in the same allocation.
// In this order, what is mostly 0 is written in one piece of whole words: who reads a word of it a moment later gets it from one
// store, not from two.
#[repr(C)]
pub(crate) struct Inner {
    pub(crate) owner: Owner,
    pub(crate) device: Device,
    /// First element; offsets are folded in where the device allows it. Dangling or NULL where there is no element.
    pub(crate) data: *mut u8,
    /// What could not be folded in: opaque handles (Metal, OpenCL, Vulkan, WebGPU).
    pub(crate) byte_offset: u64,
    pub(crate) holder: HolderId,
    pub(crate) alloc: Allocation,
    /// The streams it is used on: memory of a device that has a driver here. A derived view shares its parent's.
    pub(crate) flow: Option<Arc<Flow>>,
    /// Boxed: few tensors are watched, and a handle must fit a small block.
    pub(crate) watch: Option<Box<Watch>>,
    pub(crate) runtime: Runtime,
    pub(crate) dtype: DType,
    pub(crate) traits: Traits,
    pub(crate) framework: Label,
    /// Whether this tensor opened `holder` and so closes it; a derived view names its parent's record.
    pub(crate) owns_record: bool,
}

/// The allocation that a tensor's memory is part of. Its end is not 0 where it is known.
#[derive(Clone, Copy, Default)]
pub(crate) struct Allocation {
    base: u64,
    end: u64,
}

impl Allocation {
    #[inline]
    pub(crate) fn new(known: Option<(u64, u64)>) -> Allocation {
        known.map_or(Allocation::default(), |(base, len)| Allocation { base, end: base.saturating_add(len) })
    }

    #[inline]
    pub(crate) fn known(self) -> Option<(u64, u64)> {
        (self.end != 0).then_some((self.base, self.end - self.base))
    }
}

// SAFETY: the data pointer is only read or written through unsafe or exclusive access; everything else is plain data
// or `Send + Sync` itself.
unsafe impl Send for Inner {}
// SAFETY: as above.
unsafe impl Sync for Inner {}

impl Inner {
    #[inline]
    pub(crate) fn desc<'a>(&self, layout: Layout<'a>) -> TensorDesc<'a> {
        TensorDesc {
            address: self.data.addr() as u64,
            device: self.device,
            dtype: self.dtype,
            layout,
            traits: self.traits,
            framework: self.framework,
        }
    }

    #[inline(always)]
    fn holder_desc<'a>(&self, layout: Layout<'a>, role: Role, site: Label) -> HolderDesc<'a> {
        let traits = self.traits;
        let (mut flags, mut padded, mut unit) = (HolderFlags::empty(), false, StrideUnit::Elements);
        if !traits.is_empty() {
            flags.set(HolderFlags::READ_ONLY, traits.intersects(Traits::READ_ONLY));
            flags.set(HolderFlags::IMMUTABLE, traits.intersects(Traits::IMMUTABLE));
            flags.set(HolderFlags::COPIED, traits.intersects(Traits::IS_COPIED));
            flags.set(HolderFlags::DETACHED, traits.intersects(Traits::DETACHED));
            flags.set(HolderFlags::FROZEN, traits.intersects(Traits::FROZEN));
            padded = traits.contains(Traits::PADDED);
            unit = unit_of(traits);
        }
        HolderDesc {
            role,
            framework: self.framework,
            site,
            device: self.device,
            address: self.data.addr() as u64,
            dtype: self.dtype,
            padded,
            unit,
            shape: layout.shape,
            strides: layout.strides,
            alloc: self.alloc.known(),
            flags,
        }
    }
}

pub(crate) fn unit_of(traits: Traits) -> StrideUnit {
    if traits.contains(Traits::BYTE_STRIDES) { StrideUnit::Bytes } else { StrideUnit::Elements }
}

/// A tensor: shape, strides, dtype and device over a buffer that somebody owns.
///
/// Cloning shares the handle. The memory is given back when the last clone and the last export are gone, on
/// whatever thread that happens.
///
/// ```
/// use freehold::{ExportOptions, Runtime, Tensor};
///
/// let mark = Runtime::global().ledger().mark();
/// let t = Tensor::from_vec(vec![0u8; 12], &[3, 4])?;
/// let capsule = t.to_versioned(&ExportOptions::default())?; // for another library
/// drop(t);
/// assert_eq!(Runtime::global().ledger().leaks(mark).len(), 2); // the owner, and whoever has the capsule
/// drop(capsule);
/// assert_eq!(Runtime::global().ledger().leaks(mark).len(), 0);
/// # Ok::<(), freehold::Error>(())
/// ```
#[derive(Clone)]
pub struct Tensor(pub(crate) Handle);

impl Tensor {
    /// Dimensions.
    #[inline]
    pub fn shape(&self) -> &[i64] {
        self.0.shape()
    }

    /// Steps between neighbours, in elements (in bytes with [`Traits::BYTE_STRIDES`]); never absent.
    #[inline]
    pub fn strides(&self) -> &[i64] {
        self.0.strides()
    }

    /// Element type.
    pub fn dtype(&self) -> DType {
        self.0.dtype
    }

    /// Device.
    pub fn device(&self) -> Device {
        self.0.device
    }

    /// Facts about memory and values.
    pub fn traits(&self) -> Traits {
        self.0.traits
    }

    /// The framework that the memory came from.
    pub fn framework(&self) -> Label {
        self.0.framework
    }

    /// The ledger record of this tensor; [`HolderId::NONE`] where none was opened.
    pub fn id(&self) -> HolderId {
        self.0.holder
    }

    /// The runtime it belongs to.
    pub fn runtime(&self) -> &Runtime {
        &self.0.runtime
    }

    /// Address of the first element. Meaningless where there is none.
    pub fn data_ptr(&self) -> *mut u8 {
        self.0.data
    }

    /// The byte offset that an opaque handle carries beside it; 0 on devices with addresses.
    pub fn byte_offset(&self) -> u64 {
        self.0.byte_offset
    }

    /// Shape and strides.
    #[inline]
    pub fn layout(&self) -> Layout<'_> {
        Layout::new(self.shape(), self.strides())
    }

    /// Whether a holder may write.
    pub fn is_writable(&self) -> bool {
        !self.0.traits.intersects(Traits::READ_ONLY | Traits::IMMUTABLE)
    }

    /// Whether this handle is the only one: no clone, no derived view and no export of it lives.
    pub fn is_sole(&self) -> bool {
        self.0.is_sole()
    }

    /// The stream on which the values are in order, for memory of a CUDA device whose driver is here: work that is queued
    /// there sees them.
    pub fn stream(&self) -> Option<Stream> {
        self.0.flow.as_ref().map(|flow| flow.ready().number())
    }

    /// Makes a stream of the device wait until the values are there, and has the memory kept until what is queued on the
    /// stream by then is done. -1 orders nothing; `None` is the default stream. Nothing is done for host memory.
    ///
    /// The handle of a stream must live until the memory is given back.
    ///
    /// # Errors
    ///
    /// `AR01` a number that is no stream; `SY01` a capture forbids it; `DV02` the driver failed.
    #[inline]
    pub fn use_on(&self, stream: Option<Stream>) -> crate::Result<()> {
        self.0.flow.as_ref().map_or(Ok(()), |flow| flow.hand_to_number(stream))
    }

    /// Number of elements.
    pub fn numel(&self) -> i64 {
        self.layout().numel().unwrap_or(0)
    }

    /// Bytes of a compact copy.
    pub fn nbytes(&self) -> u64 {
        self.desc().bytes_as(self.0.dtype)
    }

    /// The allocation that the memory is part of, where the producer said: base and length.
    pub fn allocation(&self) -> Option<(u64, u64)> {
        self.0.alloc.known()
    }

    /// What [`crate::decide`] looks at.
    #[inline]
    pub fn desc(&self) -> TensorDesc<'_> {
        self.0.desc(self.layout())
    }

    /// The view for overlap tests.
    pub fn strided(&self) -> Strided<'_> {
        Strided {
            address: self.0.data.addr() as u64,
            layout: self.layout(),
            dtype: self.0.dtype,
            padded: self.0.traits.contains(Traits::PADDED),
            unit: unit_of(self.0.traits),
        }
    }

    /// Whether two tensors share a byte, exactly: strides included. Pinned memory is host memory by another name.
    pub fn overlaps(&self, other: &Tensor) -> freehold_tensor::Overlap {
        let (a, b) = (self.0.device, other.0.device);
        if a != b && !(a.kind.is_host() && b.kind.is_host()) {
            return freehold_tensor::Overlap::None;
        }
        freehold_tensor::overlap(&self.strided(), &other.strided())
    }

    /// The bytes reached, relative to the first element.
    pub fn extent(&self) -> Extent {
        self.layout()
            .extent(self.0.dtype, self.0.traits.contains(Traits::PADDED), unit_of(self.0.traits))
            .unwrap_or(Extent { lo: 0, hi: 0 })
    }

    /// The same memory with other facts, as another handle. No ledger record is opened: it names its parent's.
    pub(crate) fn derive(&self, change: impl FnOnce(&mut Inner)) -> Tensor {
        let parent = &*self.0;
        let mut inner = Inner {
            data: parent.data,
            byte_offset: parent.byte_offset,
            device: parent.device,
            dtype: parent.dtype,
            // Its parent has the memory too.
            traits: parent.traits - Traits::IS_COPIED,
            framework: parent.framework,
            holder: parent.holder,
            owns_record: false,
            alloc: parent.alloc,
            flow: parent.flow.clone(),
            watch: None,
            runtime: parent.runtime.clone(),
            owner: Owner::Parent(self.clone()),
        };
        change(&mut inner);
        Tensor(Draft::copied(self.shape(), self.strides()).finish(inner))
    }

    /// The same memory, read-only.
    ///
    /// ```
    /// let t = freehold::Tensor::from(vec![1u8, 2]);
    /// let view = t.read_only();
    /// assert_eq!((view.is_writable(), view.overlaps(&t).may()), (false, true));
    /// ```
    pub fn read_only(&self) -> Tensor {
        if self.is_writable() { self.derive(|inner| inner.traits |= Traits::READ_ONLY) } else { self.clone() }
    }

    /// What the `u16` at [`Tensor::HANDLE_KIND_OFFSET`] bytes from where a handle points is, for as long as it counts: a C
    /// interface tells its handles apart by it.
    pub const HANDLE_KIND: u16 = handle::KIND;
    /// Where [`Tensor::HANDLE_KIND`] is.
    pub const HANDLE_KIND_OFFSET: usize = handle::KIND_OFFSET;

    /// The handle as one pointer, for a C interface. It keeps its count until [`Tensor::from_handle`] takes it back.
    ///
    /// ```
    /// use freehold::Tensor;
    /// let handle = Tensor::from(vec![1u8, 2]).into_handle();
    /// // SAFETY: it was just made, and is taken back once.
    /// assert_eq!(unsafe { Tensor::from_handle(handle) }.shape(), [2]);
    /// ```
    pub fn into_handle(self) -> NonNull<c_void> {
        self.0.into_raw().cast()
    }

    /// Lets go of a handle where that takes no call and nothing else is to be given back; `false` if nothing was done.
    ///
    /// # Safety
    ///
    /// * `handle` came from [`Tensor::into_handle`], and its count is passed on if `true` comes back; or something else is there,
    ///   of which eight bytes can be read and are aligned.
    #[doc(hidden)]
    #[inline(always)]
    pub unsafe fn release_at_hand(handle: NonNull<c_void>) -> bool {
        // SAFETY: forwarded from the caller.
        unsafe { look::keep(handle.cast()) }
    }

    /// Lets go; gives the tensor back if this was the last handle.
    #[doc(hidden)]
    #[inline(always)]
    pub fn let_go(self) -> Option<LastHold> {
        self.0.let_go().map(LastHold)
    }

    /// The tensor behind a handle.
    ///
    /// # Safety
    ///
    /// * `handle` came from [`Tensor::into_handle`], and its count is passed on: each is taken back once.
    pub unsafe fn from_handle(handle: NonNull<c_void>) -> Tensor {
        // SAFETY: forwarded from the caller.
        Tensor(unsafe { Handle::from_raw(handle.cast()) })
    }
}

/// A tensor of which the last handle was let go; dropping it does the same as [`LastHold::end`], slower.
#[doc(hidden)]
#[repr(transparent)]
pub struct LastHold(LastHandle);

impl LastHold {
    /// Ends the tensor.
    pub fn end(self) {
        handle::end(self.0);
    }
}

impl fmt::Debug for Tensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tensor({})", self.desc())
    }
}
