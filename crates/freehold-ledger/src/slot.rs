//! Memory that each thread has for itself, at a fixed distance from its thread pointer.
//!
//! In a shared library every use of a `thread_local!` calls `__tls_get_addr`, which takes longer than what the ledger does with
//! what it finds there; a handover would make four to eight such calls. The ELF TLS model "initial exec" needs two loads
//! instead, and no register to be saved, but Rust has no name for it. glibc keeps room for libraries that use it and are
//! loaded late (1664 bytes for all of them together; ours take 40): Ulrich Drepper, "ELF Handling For Thread-Local Storage",
//! section 4.2; glibc's manual, "Dynamic Linking Tunables". Elsewhere, where such a library might not load at all (musl), the
//! standard library's way is taken.

/// A type of which each thread has one value, that is there from the first to the last of what the thread does.
///
/// # Safety
///
/// Only [`thread_slot!`](crate::thread_slot) implements it.
#[doc(hidden)]
pub unsafe trait ThreadSlot: Sized + 'static {
    /// Where the calling thread has its value: valid until the thread is gone.
    fn here() -> *const Self;
}

/// Implements [`ThreadSlot`] for a type: `thread_slot!(Slot, "name", Slot::new())`. What each thread begins with must be zeros in
/// all bytes, none of them padding, and no other slot may have the name: both are compile errors or the linker's.
#[doc(hidden)]
#[macro_export]
#[cfg(all(target_arch = "x86_64", target_os = "linux", target_env = "gnu", not(any(miri, loom))))]
macro_rules! thread_slot {
    ($slot:ty, $name:literal, $new:expr) => {
        const _: () = {
            // SAFETY: the sizes are compared; the compiler refuses bytes that are not initialised, or part of an address.
            let bytes: [u8; ::core::mem::size_of::<$slot>()] = unsafe { ::core::mem::transmute::<$slot, _>($new) };
            let mut i = 0;
            while i < bytes.len() {
                assert!(bytes[i] == 0, "the loader gives zeros to each thread");
                i += 1;
            }
        };
        $crate::thread_slot!(@symbol $slot, concat!(
            "freehold_slot_", $name, "_", env!("CARGO_PKG_VERSION_MAJOR"), "_", env!("CARGO_PKG_VERSION_MINOR"), "_",
            env!("CARGO_PKG_VERSION_PATCH")
        ));
    };
    (@symbol $slot:ty, $symbol:expr) => {
        // Hidden: each library and program has its own. Versions of a crate that meet in one have a name each.
        ::core::arch::global_asm!(
            ".pushsection .tbss,\"awT\",@nobits",
            ".balign {align}",
            concat!(".globl ", $symbol),
            concat!(".hidden ", $symbol),
            concat!(".type ", $symbol, ", @tls_object"),
            concat!(".size ", $symbol, ", {size}"),
            concat!($symbol, ":"),
            ".zero {size}",
            ".popsection",
            align = const ::core::mem::align_of::<$slot>(),
            size = const ::core::mem::size_of::<$slot>(),
        );

        // SAFETY: by this macro.
        unsafe impl $crate::ThreadSlot for $slot {
            #[inline(always)]
            fn here() -> *const Self {
                const { assert!(!::core::mem::needs_drop::<$slot>(), "what is dropped is not there to the last") };
                let here: *const Self;
                // SAFETY: reads the symbol's distance, which the linker or the loader wrote, and the thread pointer, which the
                // ABI keeps at `fs:0`. Both stay what they are for as long as the thread runs.
                unsafe {
                    ::core::arch::asm!(
                        concat!("mov {here}, qword ptr [rip + ", $symbol, "@GOTTPOFF]"),
                        "add {here}, qword ptr fs:[0]",
                        here = out(reg) here,
                        options(pure, nomem, nostack),
                    );
                }
                here
            }
        }
    };
}

/// Implements [`ThreadSlot`]: see above.
#[doc(hidden)]
#[macro_export]
#[cfg(not(all(target_arch = "x86_64", target_os = "linux", target_env = "gnu", not(any(miri, loom)))))]
macro_rules! thread_slot {
    ($slot:ty, $name:literal, $new:expr) => {
        // SAFETY: by this macro.
        unsafe impl $crate::ThreadSlot for $slot {
            #[inline(always)]
            fn here() -> *const Self {
                const { assert!(!::core::mem::needs_drop::<$slot>(), "what is dropped is not there to the last") };
                ::std::thread_local!(static HERE: $slot = const { $new });
                HERE.with(::core::ptr::from_ref)
            }
        }
    };
}
