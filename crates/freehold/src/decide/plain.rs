//! The answer for most handovers, without a decision being made.

use super::hints_dtype;
use crate::caps::DeviceSet;
use crate::{Caps, Code, StrideRule, TensorDesc, Traits, trace};

/// Whether [`crate::decide`] shares a tensor as it is, for a request that asks for nothing ([`crate::Request::share`] or
/// [`crate::Request::convert`] as they are) and whatever the policy says beside its `devices`: the answer for most handovers,
/// at the price of a few comparisons. Memory that nobody may write to is shared so too, by a target that has read-only tensors
/// or never writes. `Some` holds the codes that only inform; `None` says nothing, and `decide` must be asked.
///
/// `tests/agree.rs` holds the two to each other.
///
/// ```
/// use freehold::{Caps, Code, DeviceSet, Tensor, shares_plainly};
///
/// let t = Tensor::from(vec![1.0f64, 2.0]);
/// assert_eq!(shares_plainly(&t.desc(), &Caps::TORCH, DeviceSet::ALL), Some(&[Code::HT01][..]));
/// // PyTorch has no read-only tensors, so there is something to decide.
/// assert_eq!(shares_plainly(&t.read_only().desc(), &Caps::TORCH, DeviceSet::ALL), None);
/// ```
#[inline]
pub fn shares_plainly(desc: &TensorDesc<'_>, caps: &Caps, devices: DeviceSet) -> Option<&'static [Code]> {
    const PLAIN: Traits = Traits::IS_COPIED.union(Traits::PADDED).union(Traits::LEGACY).union(Traits::FROZEN);
    if !caps.dtypes.contains(desc.dtype)
        || !caps.devices.contains(desc.device.kind)
        || !devices.contains(desc.device.kind)
        || !is_aligned(desc.address, u64::from(caps.alignment_of(desc.dtype).max(1)))
        || caps.own_memory
        || desc.layout.shape.len() > caps.max_ndim as usize
        || !desc.layout.rows_nest()
    {
        return None;
    }
    let hints = hints_dtype(desc, caps);
    let codes: &[Code] = if PLAIN.contains(desc.traits) && !caps.immutable && is_loose(caps.strides) {
        if hints { &[Code::HT01] } else { &[] }
    } else {
        match (says_read_only(desc, caps)?, hints) {
            (false, false) => &[],
            (false, true) => &[Code::HT01],
            (true, false) => &[Code::RO02],
            (true, true) => &[Code::RO02, Code::HT01],
        }
    };
    if trace::listens() {
        trace::decide_span(desc, caps).in_scope(|| trace::plain_share(desc, caps, codes));
    }
    Some(codes)
}

/// Without the division for a power of two: it would be the longest part of the answer.
#[inline]
fn is_aligned(address: u64, need: u64) -> bool {
    if need.is_power_of_two() { address & (need - 1) == 0 } else { address.is_multiple_of(need) }
}

fn is_loose(rule: StrideRule) -> bool {
    matches!(rule, StrideRule::Any | StrideRule::NonNegative)
}

/// The rest of [`shares_plainly`] for memory that nobody may write to, or for a target that never writes or has strides of its
/// own: whether being read-only is news to the target. `None` where [`crate::decide`] must be asked.
fn says_read_only(desc: &TensorDesc<'_>, caps: &Caps) -> Option<bool> {
    const FIXED: Traits = Traits::READ_ONLY.union(Traits::IMMUTABLE);
    const PLAIN: Traits =
        FIXED.union(Traits::IS_COPIED).union(Traits::PADDED).union(Traits::LEGACY).union(Traits::FROZEN);
    let fixed = desc.traits.intersects(FIXED);
    let compact = is_loose(caps.strides) || desc.layout.is_c_contiguous();
    // To a target that never writes, what its owner may still write is a copy.
    let constant = !caps.immutable || desc.traits.contains(Traits::IMMUTABLE);
    (PLAIN.contains(desc.traits) && compact && constant && (caps.read_only || !fixed))
        .then_some(fixed && !caps.immutable)
}
