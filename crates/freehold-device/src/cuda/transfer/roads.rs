//! Which road a copy takes, from metadata alone.

use freehold_tensor::copy::{self, CopyError, CopyOptions, Lazy, Operand};
use freehold_tensor::{DType, DeviceKind, FieldError, Layout, Order, StrideUnit};

use super::host::same_steps;
use super::rows::Rows;
use super::tuning::{Tuning, tuning};
use super::{Plan, Road, Side, TransferError, host};
use crate::cuda::{Context, launch, probe};

/// What a copy would do: the road, and how many bytes cross the link. Touches no data, and makes no context.
///
/// ```
/// use freehold_device::cuda::transfer::{Road, Side, road};
/// use freehold_tensor::copy::{CopyOptions, Lazy, Operand};
/// use freehold_tensor::{DType, Device, DeviceKind, Layout, StrideUnit};
///
/// let (data, layout) = (std::ptr::without_provenance_mut(4096), Layout::new(&[1000, 1000], &[1000, 1]));
/// let operand = Operand { data, dtype: DType::F32, layout, unit: StrideUnit::Elements, traits: Lazy::empty() };
/// let (cpu, cuda) = (Device::CPU, Device::new(DeviceKind::CUDA, 0));
/// let to = |device, dtype| Side { operand: Operand { dtype, ..operand }, device };
/// let plan = |dst| road(&dst, &to(cpu, DType::F32), &CopyOptions::default());
/// assert_eq!(plan(to(cuda, DType::F32))?.road, Road::Staged);
/// assert_eq!(plan(to(cpu, DType::F64))?.road, Road::Host);
/// // The narrower dtype crosses the link.
/// assert_eq!(plan(to(cuda, DType::BF16))?.link_bytes, 2_000_000);
/// # Ok::<(), freehold_device::cuda::transfer::TransferError>(())
/// ```
///
/// # Errors
///
/// [`TransferError::Copy`] for what no road does: shapes that differ, casts that there are none of or that must be allowed.
pub fn road(dst: &Side<'_>, src: &Side<'_>, options: &CopyOptions) -> Result<Plan, TransferError> {
    plain(dst, src, |dst, src| plan(dst, src, options))
}

/// Elements that are the same bytes on both sides become elements without traits, and packed ones bytes.
pub(super) fn plain<T>(
    dst: &Side<'_>,
    src: &Side<'_>,
    then: impl FnOnce(&Side<'_>, &Side<'_>) -> Result<T, TransferError>,
) -> Result<T, TransferError> {
    let (mut to, mut from) = (*dst, *src);
    for side in [&mut to, &mut from] {
        if !side.operand.dtype.is_sub_byte() {
            side.operand.traits.remove(Lazy::PADDED);
        }
    }
    if to.operand.dtype != from.operand.dtype || to.operand.traits != from.operand.traits {
        return then(&to, &from);
    }
    let dtype = to.operand.dtype;
    if dtype.is_sub_byte() && !to.operand.traits.contains(Lazy::PADDED) {
        if !to.operand.traits.is_empty() || !host::is_same(&to, &from) {
            return then(&to, &from);
        }
        let (shape, strides) = ([host::extent(&to)?.len() as i64], [1]);
        let layout = Layout::new(&shape, &strides);
        let bytes = |side: &Side<'_>| Side {
            operand: Operand { data: side.operand.data, dtype: DType::U8, layout, ..side.operand },
            device: side.device,
        };
        return then(&bytes(&to), &bytes(&from));
    }
    for side in [&mut to, &mut from] {
        side.operand.traits = Lazy::empty();
        if dtype.is_sub_byte() {
            side.operand.dtype = DType::U8.with_lanes(dtype.padded_size() as u16);
        }
    }
    then(&to, &from)
}

/// The context of a device, if there is one.
fn made(ordinal: i32) -> Option<&'static Context> {
    Context::made(probe().ok()?).find(|context| context.ordinal() == ordinal)
}

/// As [`road`], of sides made [`plain`].
pub(super) fn plan(dst: &Side<'_>, src: &Side<'_>, options: &CopyOptions) -> Result<Plan, TransferError> {
    // Every error that the processor's copy would have, in its words.
    copy::describe(&dst.operand, &src.operand, options)?;
    let bytes = host::extent(dst)?.len();
    if bytes == 0 {
        return Ok(Plan::new(Road::Nothing, 0));
    }
    if dst.operand.data.is_null() || src.operand.data.is_null() {
        let error = FieldError::new("data", 0, "not be NULL for a tensor that has elements");
        return Err(CopyError::from(error).into());
    }
    match (dst.is_on_device(), src.is_on_device()) {
        (false, false) => Ok(Plan::new(Road::Host, 0)),
        (true, true) => on_devices(dst, src, options),
        _ => {
            let context = made(if dst.is_on_device() { dst } else { src }.device.id);
            let tuning = context.map(tuning).unwrap_or_default();
            let has_batches = context.is_some_and(|context| context.api().batch.is_some());
            over_link(dst, src, options, &tuning, has_batches)
        }
    }
}

fn on_devices(dst: &Side<'_>, src: &Side<'_>, options: &CopyOptions) -> Result<Plan, TransferError> {
    let through = Plan::new(Road::ThroughHost, host::extent(dst)?.len().saturating_add(host::extent(src)?.len()));
    let near = dst.device.id == src.device.id;
    if !near && host::is_same(dst, src) {
        return Ok(Plan::new(Road::Peer, host::extent(dst)?.len()));
    }
    if kernel_does(&dst.operand, &src.operand, options) {
        let (to, from) = (dst.operand.dtype.padded_size(), src.operand.dtype.padded_size());
        let bytes = elements(dst) * to.min(from) as u64;
        return Ok(if near { Plan::new(Road::Kernel, 0) } else { Plan::new(Road::PeerWithKernels, bytes) });
    }
    // What kernels do not address is rows of bytes to the driver.
    match Rows::new(&dst.operand, &src.operand).filter(|_| near) {
        Some(rows) if rows.are_pitched() => Ok(Plan::new(Road::Pitched, 0)),
        _ => Ok(through),
    }
}

fn over_link(
    dst: &Side<'_>,
    src: &Side<'_>,
    options: &CopyOptions,
    tuning: &Tuning,
    has_batches: bool,
) -> Result<Plan, TransferError> {
    let up = dst.is_on_device();
    let (device, on_host) = if up { (dst, src) } else { (src, dst) };
    let (pinned, bytes) = (on_host.device.kind == DeviceKind::CUDA_HOST, host::extent(dst)?.len());
    if host::is_same(dst, src) {
        let road = if pinned || bytes < tuning.staged_from { Road::Driver } else { Road::Staged };
        return Ok(Plan { link: dst.operand.dtype, ..Plan::new(road, bytes) });
    }
    if pinned && let Some(rows) = Rows::new(&dst.operand, &src.operand) {
        if rows.width() >= tuning.pitched_from && rows.are_pitched() {
            return Ok(Plan::new(Road::Pitched, rows.bytes()));
        }
        if rows.width() >= tuning.batched_from && rows.are_batched() && has_batches {
            return Ok(Plan::new(Road::Batched, rows.bytes()));
        }
    }
    if shares_bytes(dst) || shares_bytes(src) || !device.operand.traits.is_empty() && up {
        return Ok(as_they_lie(dst, src));
    }
    let small = elements(dst) * dst.operand.dtype.padded_size() as u64 <= tuning.staged_from;
    if small && if up { is_compact(dst) } else { is_dense(src) } {
        return Ok(as_they_lie(dst, src));
    }
    Ok(if up { up_road(dst, src, options, pinned) } else { down_road(dst, src, options, pinned) })
}

/// By the processor, between two copies of all that the device's side reaches.
fn as_they_lie(dst: &Side<'_>, src: &Side<'_>) -> Plan {
    let bytes = |side: &Side<'_>| host::extent(side).map_or(0, |extent| extent.len());
    let twice = dst.is_on_device() && !host::is_written_whole(dst);
    Plan::new(Road::Host, if src.is_on_device() { bytes(src) } else { bytes(dst) * (1 + u64::from(twice)) })
}

/// From the host, with a cast or another layout.
fn up_road(dst: &Side<'_>, src: &Side<'_>, options: &CopyOptions, pinned: bool) -> Plan {
    let (to, from) = (dst.operand.dtype, src.operand.dtype);
    let (lies, count) = (is_dense(src), elements(dst));
    let narrowed = Operand { dtype: to, traits: Lazy::empty(), ..src.operand };
    let plan = |road, link: DType, lies| Plan { link, lies, ..Plan::new(road, count * link.padded_size() as u64) };
    if from.padded_size() <= to.padded_size() && kernel_does(&dst.operand, &src.operand, options) {
        // The narrow form crosses, and the device widens and lays out.
        if pinned && lies {
            return plan(Road::WithKernel, from, true);
        }
        let same_order = lies && is_dense(dst) && same_steps(dst, src);
        if from != to || (lies && !same_order) || !is_dense(dst) {
            return plan(Road::StagedWithKernel, from, lies);
        }
    }
    // The processor casts while it stages, and lays out too where the source has gaps anyway.
    if is_dense(dst) && (!lies || same_steps(dst, src) || !kernel_does(&dst.operand, &narrowed, options)) {
        return plan(Road::Staged, to, false);
    }
    if kernel_does(&dst.operand, &narrowed, options) {
        return plan(Road::StagedWithKernel, to, lies);
    }
    as_they_lie(dst, src)
}

/// Into the host, with a cast or another layout.
fn down_road(dst: &Side<'_>, src: &Side<'_>, options: &CopyOptions, pinned: bool) -> Plan {
    let (to, from) = (dst.operand.dtype, src.operand.dtype);
    let plan = |road, link: DType| Plan { link, ..Plan::new(road, elements(dst) * link.padded_size() as u64) };
    let narrow = if to.padded_size() <= from.padded_size() { to } else { from };
    let packed = |dtype: DType| Operand { dtype, traits: Lazy::empty(), ..dst.operand };
    if narrow == from && is_dense(src) && src.operand.traits.is_empty() && (from != to || same_steps(dst, src)) {
        return plan(Road::Staged, from);
    }
    if kernel_does(&packed(narrow), &src.operand, options) {
        let straight = pinned && narrow == to && is_compact(dst) && dst.operand.traits.is_empty();
        return plan(if straight { Road::WithKernel } else { Road::StagedWithKernel }, narrow);
    }
    if is_dense(src) { plan(Road::Staged, from) } else { as_they_lie(dst, src) }
}

/// Whether a kernel copies between two operands that the device reaches.
fn kernel_does(dst: &Operand<'_>, src: &Operand<'_>, options: &CopyOptions) -> bool {
    launch::plan(dst, src, options).is_ok()
}

fn elements(side: &Side<'_>) -> u64 {
    side.operand.layout.numel().unwrap_or(0).unsigned_abs()
}

/// Packed elements that do not fill bytes, which neither kernels nor pieces address.
fn shares_bytes(side: &Side<'_>) -> bool {
    side.operand.dtype.is_sub_byte()
}

fn is_compact(side: &Side<'_>) -> bool {
    let layout = side.operand.layout;
    side.operand.unit == StrideUnit::Elements && (layout.is_c_contiguous() || layout.is_f_contiguous())
}

/// Whether the bytes that a side reaches are its elements, in any order of the axes.
pub(super) fn is_dense(side: &Side<'_>) -> bool {
    side.operand.unit == StrideUnit::Elements && side.operand.layout.first_not_packed().is_none()
}

/// The order in which a side is compact, or as good as any.
pub(super) fn order_of(side: &Side<'_>) -> Order {
    let layout = side.operand.layout;
    if layout.is_f_contiguous() && !layout.is_c_contiguous() { Order::F } else { Order::C }
}
