//! Where tensor memory comes from and which devices are present.
//!
//! A [`MemoryResource`] allocates and frees on one device; a [`Buffer`] owns one allocation and gives it back when
//! dropped. [`host()`] is the resource that the process uses for host memory unless told otherwise; adaptors
//! ([`Limit`], [`Statistics`], [`Log`], [`Retry`], [`FailAfter`]) wrap any resource, and [`CallbackMemory`] makes one from C function
//! pointers. [`devices()`] lists what is here, and [`cuda::probe()`] says why CUDA is not.
//!
//! This crate knows no tensor layout and no owner: it hands out bytes. What they mean is the boundary's business, who
//! holds them is the ledger's.
//!
//! # Design
//!
//! * **Size, alignment and stream come back at free**, as in RMM. A resource then needs no map from pointer to size,
//!   and a free can be ordered on the stream that used the memory last.
//! * **Failure is a value.** A request that cannot be met gives an [`AllocError`] that says how much, where and why.
//!   Nothing here aborts on a lack of memory, and nothing panics on a bad argument.
//! * **Allocated memory is not initialised.** This crate hands out raw pointers and never a slice.
//! * **The CUDA driver is found at run time**, once, and never unloaded. Building and testing need no GPU and no
//!   toolkit; a missing, broken or foreign driver is an [`cuda::Unavailable`] that says which.
//!
//! # Features
//!
//! Both are off by default. `tracing` tells of what has no error to return. `cudarc` adds `cuda::slices`: memory to and from users
//! of that crate, who name its version of CUDA.
//!
//! # Example
//!
//! ```
//! use freehold_device::{Buffer, HOST_ALIGNMENT, Stream, host};
//!
//! let buffer = Buffer::new(host(), 1024, HOST_ALIGNMENT, Stream::NONE)?;
//! assert_eq!(buffer.as_ptr().addr() % HOST_ALIGNMENT, 0);
//! # Ok::<(), freehold_device::AllocError>(())
//! ```

mod adaptor;
mod buffer;
mod callback;
pub mod cuda;
mod error;
mod host;
mod inventory;
mod resource;
mod stream;

pub use adaptor::{AllocStatistics, FailAfter, Limit, Log, Retry, Statistics};
pub use buffer::Buffer;
pub use callback::{CallbackMemory, Callbacks};
pub use error::{AllocError, AllocReason};
pub use host::{
    HOST_ALIGNMENT, HOST_LARGE, HOST_LARGE_ALIGNMENT, HostMemory, HostPool, HostStatistics, host, host_pool,
};
pub use inventory::{default_resource, devices, is_present};
pub use resource::MemoryResource;
pub use stream::Stream;
