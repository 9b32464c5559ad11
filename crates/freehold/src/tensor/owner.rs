//! Who frees a tensor's memory.

use std::any::Any;
use std::ffi::c_void;
use std::fmt;

use freehold_device::Buffer;

use crate::Tensor;
use crate::dlpack::ForeignCapsule;

/// Who frees the memory behind a tensor, and how.
///
/// Everything here is `'static` and may be dropped on any thread: a deleter runs wherever the last holder lets go. What
/// borrows does not compile, which is the hole that `dlpark`'s contexts have:
///
/// ```compile_fail,E0597
/// let owner = {
///     let local = vec![1.0f32];
///     freehold::Owner::Value(Box::new(&local))
/// };
/// # drop(owner);
/// ```
///
/// And neither does what must stay on its thread:
///
/// ```compile_fail,E0277
/// let owner = freehold::Owner::Value(Box::new(std::rc::Rc::new(1.0f32)));
/// ```
pub enum Owner {
    /// A foreign capsule: its deleter is called once.
    #[doc(hidden)]
    Capsule(CapsuleOwner),
    /// Memory of ours.
    Buffer(Buffer),
    /// Any Rust value that keeps the memory alive.
    Value(Box<dyn Any + Send + Sync>),
    /// A C callback, called once with its context; `None` frees nothing.
    Callback {
        /// Passed to `drop`.
        context: *mut c_void,
        /// Called once, on any thread.
        drop: Option<unsafe extern "C" fn(*mut c_void)>,
    },
    /// A Rust function over a pointer: a Python object, without a second allocation.
    Raw {
        /// Passed to `drop`.
        context: *mut c_void,
        /// Called once, on any thread.
        drop: unsafe fn(*mut c_void),
    },
    /// Another tensor, of which this one is a view.
    Parent(Tensor),
    /// Nobody: the caller keeps the memory alive for as long as the tensor and its exports live.
    Borrowed,
}

/// A foreign capsule as an [`Owner`].
pub struct CapsuleOwner(#[expect(dead_code, reason = "held for its drop")] pub(crate) ForeignCapsule);

// SAFETY: capsules and buffers may be released from any thread (DLPack requires it of deleters); callbacks and raw
// owners are only built by unsafe constructors whose contract says the same.
unsafe impl Send for Owner {}
// SAFETY: an owner offers nothing but its drop, so a shared reference to it can do nothing.
unsafe impl Sync for Owner {}

impl Drop for Owner {
    fn drop(&mut self) {
        match self {
            Owner::Callback { context, drop: Some(drop) } => {
                // SAFETY: `drop` and `context` belong together by the contract of the unsafe constructor, and this is
                // the only call: the owner is being dropped.
                unsafe { drop(*context) }
            }
            Owner::Raw { context, drop } => {
                // SAFETY: as above.
                unsafe { drop(*context) }
            }
            _ => {}
        }
    }
}

impl fmt::Debug for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Owner::Capsule(_) => "Capsule",
            Owner::Buffer(_) => "Buffer",
            Owner::Value(_) => "Value",
            Owner::Callback { .. } => "Callback",
            Owner::Raw { .. } => "Raw",
            Owner::Parent(_) => "Parent",
            Owner::Borrowed => "Borrowed",
        })
    }
}
