//! Sizes, alignments and offsets of every struct that crosses the boundary: asserted here, and from C by
//! `tests/abi/layout.c`, which is generated from the same numbers.

#![cfg(target_pointer_width = "64")]

use std::mem::offset_of;

use freehold::dlpack::{
    DLDataType, DLDevice, DLManagedTensor, DLManagedTensorVersioned, DLPackExchangeAPI, DLPackExchangeAPIHeader,
    DLPackVersion, DLTensor,
};

use crate::decide::{fh_cost, fh_reason};
use crate::import::fh_owner;
use crate::ledger::{fh_holder, fh_query, fh_stats};
use crate::request::{fh_caps, fh_request};
use crate::runtime::{fh_device, fh_policy};

macro_rules! layouts {
    ($($name:ident: $size:literal / $align:literal { $($field:ident @ $offset:literal),* })*) => {
        const _: () = {
            $(
                assert!(size_of::<$name>() == $size && align_of::<$name>() == $align);
                $(assert!(offset_of!($name, $field) == $offset);)*
            )*
        };

        /// Name, size, alignment; fields with their offsets.
        #[cfg(test)]
        const LAYOUTS: &[(&str, usize, usize, &[(&str, usize)])] =
            &[$((stringify!($name), $size, $align, &[$((stringify!($field), $offset)),*])),*];
    };
}

layouts! {
    DLPackVersion: 8 / 4 { major @ 0, minor @ 4 }
    DLDevice: 8 / 4 { device_type @ 0, device_id @ 4 }
    DLDataType: 4 / 2 { code @ 0, bits @ 1, lanes @ 2 }
    DLTensor: 48 / 8 { data @ 0, device @ 8, ndim @ 16, dtype @ 20, shape @ 24, strides @ 32, byte_offset @ 40 }
    DLManagedTensor: 64 / 8 { dl_tensor @ 0, manager_ctx @ 48, deleter @ 56 }
    DLManagedTensorVersioned: 80 / 8 { version @ 0, manager_ctx @ 8, deleter @ 16, flags @ 24, dl_tensor @ 32 }
    DLPackExchangeAPIHeader: 16 / 8 { version @ 0, prev_api @ 8 }
    DLPackExchangeAPI: 56 / 8 {
        header @ 0, managed_tensor_allocator @ 16, managed_tensor_from_py_object_no_sync @ 24,
        managed_tensor_to_py_object_no_sync @ 32, dltensor_from_py_object_no_sync @ 40, current_work_stream @ 48
    }
    fh_policy: 48 / 8 {
        struct_size @ 0, readonly @ 4, alias @ 8, copies @ 12, sync @ 16, has_max_copy_bytes @ 20, max_copy_bytes @ 24,
        devices @ 32, threads @ 36, reserved @ 40
    }
    fh_device: 72 / 8 {
        struct_size @ 0, reserved0 @ 4, device @ 8, name @ 16, allocate @ 24, deallocate @ 32, drop_user @ 40,
        user @ 48, reserved @ 56
    }
    fh_owner: 56 / 8 {
        struct_size @ 0, flags @ 4, release @ 8, context @ 16, allocation @ 24, allocation_bytes @ 32, reserved @ 40
    }
    fh_request: 64 / 8 {
        struct_size @ 0, dtype @ 4, device @ 8, order @ 16, alignment @ 20, copy @ 24, writable @ 28, on_loss @ 32,
        detach @ 36, freeze @ 37, has_stream @ 38, reserved0 @ 39, stream @ 40, reserved @ 48
    }
    fh_caps: 64 / 8 {
        struct_size @ 0, alignment @ 4, name @ 8, dtypes @ 16, devices @ 24, strides @ 28, flags @ 32,
        default_dtype @ 36, dlpack @ 40, reserved @ 48
    }
    fh_cost: 32 / 8 { struct_size @ 0, steps @ 4, bytes_copied @ 8, bytes_allocated @ 16, sync @ 24, writable @ 28 }
    fh_reason: 32 / 8 { struct_size @ 0, code @ 4, info @ 8, reserved0 @ 12, name @ 16, detail @ 24 }
    fh_stats: 104 / 8 {
        struct_size @ 0, level @ 4, opened @ 8, closed @ 16, live_holders @ 24, live_buffers @ 32, live_bytes @ 40,
        shares @ 48, copies @ 56, rejects @ 64, bytes_copied @ 72, hazards @ 80, double_closed @ 88, records_dropped @ 96
    }
    fh_holder: 136 / 8 {
        struct_size @ 0, role @ 4, id @ 8, buffer @ 16, parent @ 24, framework @ 32, site @ 40, device @ 48,
        address @ 56, start @ 64, bytes @ 72, dtype @ 80, ndim @ 84, shape @ 88, strides @ 96, flags @ 104,
        verdict @ 108, reason @ 112, steps @ 116, bytes_copied @ 120, opened_ns @ 128
    }
    fh_query: 48 / 8 {
        struct_size @ 0, reserved0 @ 4, since @ 8, holders_of @ 16, aliases_of @ 24, reserved @ 32
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt::Write;

    fn assertions() -> String {
        let mut text = String::from(
            "/* Generated from crates/freehold-capi/src/layout.rs by its test; FREEHOLD_BLESS=1 writes it. */\n\
             #include <freehold/freehold.h>\n\
             #include \"check.h\"\n\n\
             #define SIZE(type, size, align) \\\n  \
             _Static_assert(sizeof(type) == (size) && _Alignof(type) == (align), #type)\n\
             #define AT(type, field, offset) _Static_assert(offsetof(type, field) == (offset), #type \".\" #field)\n",
        );
        for (name, size, align, fields) in LAYOUTS {
            let optional = name.starts_with("DLPackExchange");
            text.push('\n');
            if optional {
                text.push_str("#if DLPACK_MAJOR_VERSION > 1 || DLPACK_MINOR_VERSION >= 3\n");
            }
            writeln!(text, "SIZE({name}, {size}, {align});").unwrap();
            for (field, offset) in *fields {
                writeln!(text, "AT({name}, {field}, {offset});").unwrap();
            }
            if optional {
                text.push_str("#endif\n");
            }
        }
        text.push_str(
            "\nint main(void) {\n  CHECK_EQ(fh_abi_version(), FH_ABI_VERSION);\n  return done(\"layout\");\n}\n",
        );
        text
    }

    /// The numbers that the C compiler checks are these numbers.
    #[test]
    fn c_asserts_the_same_layouts() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/abi/layout.c");
        if std::env::var_os("FREEHOLD_BLESS").is_some() {
            std::fs::write(path, assertions()).unwrap();
        }
        assert_eq!(std::fs::read_to_string(path).unwrap(), assertions(), "FREEHOLD_BLESS=1 writes {path}");
    }
}
