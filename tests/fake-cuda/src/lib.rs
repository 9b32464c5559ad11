//! A CUDA driver that works on host memory, so that everything of Freehold's CUDA side is tested without a GPU.
//!
//! It is no `libcuda` by name and is loaded by its path only (`Driver::load(path)`, or `FREEHOLD_CUDA_LIBRARY`), so that it
//! never stands in front of a real driver. [`control`] finds and steers it; tests in other languages call the functions of
//! [`controls`] in the library.
//!
//! # What is modelled
//!
//! * **Memory**: a host access to device memory faults, as with a GPU ([`arena`](mod@arena)). Page-locked and managed memory can be
//!   touched until it is freed. New memory holds `0xCD`, freed memory `0xDB`; addresses are used again at once. Allocation
//!   fails beyond the memory of the device. `cuMemFree` and `cuMemFreeHost` wait for the device, as the driver's do.
//! * **Contexts**: the primary context of each device, counted; a stack per thread. What needs a current context and has
//!   none gives `INVALID_CONTEXT`. Where drivers differ, this one is strict: copies, fills, launches and pool imports need a
//!   current context even with a stream of their own; streams by handle, events, frees and questions need none.
//! * **Streams** are queues with a thread each. Work runs late: after a delay, or once a test lets it go
//!   ([`control::Control::hold`]), and in stream order only; so a missing event gives wrong bytes. The legacy default
//!   stream waits for blocking streams and they for it. A copy from ordinary host memory reads it before the call returns, one
//!   into ordinary host memory returns when done; page-locked memory is read and written late.
//! * **Pools**: memory freed in the order of a stream is poison from there on; the same stream gets it back at once,
//!   another one when the free was reached or after a wait that is put in. Thresholds, counts, export by descriptor.
//! * **Order**: work of two streams on the same bytes that nothing orders is a race, whatever the bytes came out as
//!   ([`control::Control::races`]).
//! * **Capture**: what is queued becomes nodes; what would wait, and in the stricter modes what `cuda.h` calls potentially
//!   unsafe (allocation, `cuEventQuery`, attributes of pools, loading a module, any synchronisation), is refused and breaks
//!   the capture. Copies of ordinary host memory are refused on a captured stream.
//! * **Kernels** run if this crate knows their name ([`kernels`]); a module is PTX text, of which the names and the sizes of
//!   parameters are read, or a cubin.
//! * A failure of queued work loses the context: every call on it gives that status. Calls from a host function give
//!   `NOT_PERMITTED`, in a forked child `NOT_INITIALIZED`, and when the process exits `DEINITIALIZED` (or the process aborts,
//!   where `FREEHOLD_FAKE_CUDA_ABORT_AT_EXIT` is set).
//! * **Older drivers**: [`control::without`] writes a copy of the library that lacks functions.
//!
//! # What is not modelled
//!
//! Speed, caches, the order of threads in a kernel, contexts that are not primary, arrays and textures, virtual memory
//! management, IPC other than of pools, `cuMemHostRegister`, managed memory that moves. A graph is made by capture only, and its
//! nodes run one after the other.

#![cfg(target_os = "linux")]

pub mod abi;
pub mod api;
pub mod arena;
pub mod capture;
pub mod control;
pub mod controls;
mod copy;
mod entry;
mod event;
mod hide;
pub mod kernels;
pub mod memory;
pub mod module;
mod order;
mod pool;
mod state;
pub mod status;
mod stream;
mod walk;
