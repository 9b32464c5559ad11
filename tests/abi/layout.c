/* Generated from crates/freehold-capi/src/layout.rs by its test; FREEHOLD_BLESS=1 writes it. */
#include <freehold/freehold.h>
#include "check.h"

#define SIZE(type, size, align) \
  _Static_assert(sizeof(type) == (size) && _Alignof(type) == (align), #type)
#define AT(type, field, offset) _Static_assert(offsetof(type, field) == (offset), #type "." #field)

SIZE(DLPackVersion, 8, 4);
AT(DLPackVersion, major, 0);
AT(DLPackVersion, minor, 4);

SIZE(DLDevice, 8, 4);
AT(DLDevice, device_type, 0);
AT(DLDevice, device_id, 4);

SIZE(DLDataType, 4, 2);
AT(DLDataType, code, 0);
AT(DLDataType, bits, 1);
AT(DLDataType, lanes, 2);

SIZE(DLTensor, 48, 8);
AT(DLTensor, data, 0);
AT(DLTensor, device, 8);
AT(DLTensor, ndim, 16);
AT(DLTensor, dtype, 20);
AT(DLTensor, shape, 24);
AT(DLTensor, strides, 32);
AT(DLTensor, byte_offset, 40);

SIZE(DLManagedTensor, 64, 8);
AT(DLManagedTensor, dl_tensor, 0);
AT(DLManagedTensor, manager_ctx, 48);
AT(DLManagedTensor, deleter, 56);

SIZE(DLManagedTensorVersioned, 80, 8);
AT(DLManagedTensorVersioned, version, 0);
AT(DLManagedTensorVersioned, manager_ctx, 8);
AT(DLManagedTensorVersioned, deleter, 16);
AT(DLManagedTensorVersioned, flags, 24);
AT(DLManagedTensorVersioned, dl_tensor, 32);

#if DLPACK_MAJOR_VERSION > 1 || DLPACK_MINOR_VERSION >= 3
SIZE(DLPackExchangeAPIHeader, 16, 8);
AT(DLPackExchangeAPIHeader, version, 0);
AT(DLPackExchangeAPIHeader, prev_api, 8);
#endif

#if DLPACK_MAJOR_VERSION > 1 || DLPACK_MINOR_VERSION >= 3
SIZE(DLPackExchangeAPI, 56, 8);
AT(DLPackExchangeAPI, header, 0);
AT(DLPackExchangeAPI, managed_tensor_allocator, 16);
AT(DLPackExchangeAPI, managed_tensor_from_py_object_no_sync, 24);
AT(DLPackExchangeAPI, managed_tensor_to_py_object_no_sync, 32);
AT(DLPackExchangeAPI, dltensor_from_py_object_no_sync, 40);
AT(DLPackExchangeAPI, current_work_stream, 48);
#endif

SIZE(fh_policy, 48, 8);
AT(fh_policy, struct_size, 0);
AT(fh_policy, readonly, 4);
AT(fh_policy, alias, 8);
AT(fh_policy, copies, 12);
AT(fh_policy, sync, 16);
AT(fh_policy, has_max_copy_bytes, 20);
AT(fh_policy, max_copy_bytes, 24);
AT(fh_policy, devices, 32);
AT(fh_policy, threads, 36);
AT(fh_policy, reserved, 40);

SIZE(fh_device, 72, 8);
AT(fh_device, struct_size, 0);
AT(fh_device, reserved0, 4);
AT(fh_device, device, 8);
AT(fh_device, name, 16);
AT(fh_device, allocate, 24);
AT(fh_device, deallocate, 32);
AT(fh_device, drop_user, 40);
AT(fh_device, user, 48);
AT(fh_device, reserved, 56);

SIZE(fh_owner, 56, 8);
AT(fh_owner, struct_size, 0);
AT(fh_owner, flags, 4);
AT(fh_owner, release, 8);
AT(fh_owner, context, 16);
AT(fh_owner, allocation, 24);
AT(fh_owner, allocation_bytes, 32);
AT(fh_owner, reserved, 40);

SIZE(fh_request, 64, 8);
AT(fh_request, struct_size, 0);
AT(fh_request, dtype, 4);
AT(fh_request, device, 8);
AT(fh_request, order, 16);
AT(fh_request, alignment, 20);
AT(fh_request, copy, 24);
AT(fh_request, writable, 28);
AT(fh_request, on_loss, 32);
AT(fh_request, detach, 36);
AT(fh_request, freeze, 37);
AT(fh_request, has_stream, 38);
AT(fh_request, reserved0, 39);
AT(fh_request, stream, 40);
AT(fh_request, reserved, 48);

SIZE(fh_caps, 64, 8);
AT(fh_caps, struct_size, 0);
AT(fh_caps, alignment, 4);
AT(fh_caps, name, 8);
AT(fh_caps, dtypes, 16);
AT(fh_caps, devices, 24);
AT(fh_caps, strides, 28);
AT(fh_caps, flags, 32);
AT(fh_caps, default_dtype, 36);
AT(fh_caps, dlpack, 40);
AT(fh_caps, reserved, 48);

SIZE(fh_cost, 32, 8);
AT(fh_cost, struct_size, 0);
AT(fh_cost, steps, 4);
AT(fh_cost, bytes_copied, 8);
AT(fh_cost, bytes_allocated, 16);
AT(fh_cost, sync, 24);
AT(fh_cost, writable, 28);

SIZE(fh_reason, 32, 8);
AT(fh_reason, struct_size, 0);
AT(fh_reason, code, 4);
AT(fh_reason, info, 8);
AT(fh_reason, reserved0, 12);
AT(fh_reason, name, 16);
AT(fh_reason, detail, 24);

SIZE(fh_stats, 104, 8);
AT(fh_stats, struct_size, 0);
AT(fh_stats, level, 4);
AT(fh_stats, opened, 8);
AT(fh_stats, closed, 16);
AT(fh_stats, live_holders, 24);
AT(fh_stats, live_buffers, 32);
AT(fh_stats, live_bytes, 40);
AT(fh_stats, shares, 48);
AT(fh_stats, copies, 56);
AT(fh_stats, rejects, 64);
AT(fh_stats, bytes_copied, 72);
AT(fh_stats, hazards, 80);
AT(fh_stats, double_closed, 88);
AT(fh_stats, records_dropped, 96);

SIZE(fh_holder, 136, 8);
AT(fh_holder, struct_size, 0);
AT(fh_holder, role, 4);
AT(fh_holder, id, 8);
AT(fh_holder, buffer, 16);
AT(fh_holder, parent, 24);
AT(fh_holder, framework, 32);
AT(fh_holder, site, 40);
AT(fh_holder, device, 48);
AT(fh_holder, address, 56);
AT(fh_holder, start, 64);
AT(fh_holder, bytes, 72);
AT(fh_holder, dtype, 80);
AT(fh_holder, ndim, 84);
AT(fh_holder, shape, 88);
AT(fh_holder, strides, 96);
AT(fh_holder, flags, 104);
AT(fh_holder, verdict, 108);
AT(fh_holder, reason, 112);
AT(fh_holder, steps, 116);
AT(fh_holder, bytes_copied, 120);
AT(fh_holder, opened_ns, 128);

SIZE(fh_query, 48, 8);
AT(fh_query, struct_size, 0);
AT(fh_query, reserved0, 4);
AT(fh_query, since, 8);
AT(fh_query, holders_of, 16);
AT(fh_query, aliases_of, 24);
AT(fh_query, reserved, 32);

int main(void) {
  CHECK_EQ(fh_abi_version(), FH_ABI_VERSION);
  return done("layout");
}
