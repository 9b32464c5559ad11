//! Several tensors into one.

use freehold_tensor::copy::{self, CopyOptions, Lazy, Operand};

use super::{copy_error, finish, operand, refuse};
use crate::decision::{Decision, Detail, Reason};
use crate::import::Room;
use crate::message::Asked;
use crate::tensor::Tensor;
use crate::{Code, Device, Error, Label, Result, Verdict, trace};

/// Where the parts of a whole lie in it.
///
/// ```
/// use freehold::{Along, Tensor, gather};
///
/// let parts = [1, 3, 5].map(|n| Tensor::from(vec![n, n + 1]));
/// # use freehold::{Asked, Caps, Dialect, Label, Policy, Request, decide};
/// # let (request, policy) = (Request::copy(), Policy::default());
/// # let decision = decide(&parts[0].desc(), &request, &Caps::FREEHOLD, &policy);
/// # let asked = [Asked::new(parts[0].desc(), &request, &Caps::FREEHOLD, &policy, Dialect::Rust)];
/// let chunks = gather(&parts, Along::Chunks, &decision, &asked, Label::NONE)?;
/// let table = gather(&parts, Along::Columns { rows: 2 }, &decision, &asked, Label::NONE)?;
/// assert_eq!((chunks.shape(), table.shape()), (&[6][..], &[2, 3][..]));
/// assert_eq!(table.view::<i32>()?.to_vec(), [1, 3, 5, 2, 4, 6]);
/// # Ok::<(), freehold::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Along {
    /// The columns of a table, side by side along a new last axis, each of which is one part or several one after another:
    /// what follows a column's last row is the next column.
    Columns {
        /// Of every column.
        rows: i64,
    },
    /// Parts one after another along the first axis: the chunks of a column.
    Chunks,
}

/// Tensors next to each other in one new tensor, each cast and laid out in one pass into its place. The decision, made for
/// the whole, says dtype and order; `asked` words each part.
///
/// ```
/// use freehold::{Along, DType, Layout, Tensor, TensorDesc, decide, gather};
/// # use freehold::{Asked, Caps, Dialect, Label, Policy, Request};
///
/// let parts = [Tensor::from(vec![1i32, 2]), Tensor::from(vec![3i32])];
/// let (request, policy) = (Request::copy().dtype(DType::F64), Policy::default());
/// let whole = TensorDesc { layout: Layout::new(&[3], &[1]), ..parts[0].desc() };
/// let decision = decide(&whole, &request, &Caps::FREEHOLD, &policy);
/// let asked = [0, 1].map(|i| Asked::new(parts[i].desc(), &request, &Caps::FREEHOLD, &policy, Dialect::Rust));
/// let column = gather(&parts, Along::Chunks, &decision, &asked, Label::NONE)?;
/// assert_eq!(column.view::<f64>()?.to_vec(), [1.0, 2.0, 3.0]);
/// # Ok::<(), freehold::Error>(())
/// ```
///
/// # Errors
///
/// As [`crate::execute`], for the first part that fails; `AR01` where the shapes do not fit together or there is no part, `DV01`
/// where a part is not on the host.
pub fn gather(parts: &[Tensor], along: Along, decision: &Decision, asked: &[Asked<'_>], site: Label) -> Result<Tensor> {
    let (Some(first), Some(call)) = (parts.first(), asked.first()) else {
        return Err(Error::argument("the parts", "none", "be at least one"));
    };
    // What must be the same of all parts: all dimensions but the first, which each must have.
    let inner = |part: &Tensor| part.shape().get(1..).map(freehold_tensor::Dims::from_slice);
    if let Some(odd) = parts.iter().find(|part| inner(part).is_none() || inner(part) != inner(first)) {
        let must = format!("fit beside {:?}", first.shape());
        return Err(Error::argument("a part's shape", format!("{:?}", odd.shape()), &must));
    }
    let runtime = first.runtime();
    if decision.verdict == Verdict::Reject {
        return Err(refuse(runtime, call, decision));
    }
    let mut shape = freehold_tensor::Dims::from_slice(first.shape());
    match along {
        Along::Chunks => shape[0] = parts.iter().map(|part| part.shape()[0]).sum(),
        Along::Columns { rows } => {
            shape[0] = rows;
            shape.push(columns_of(parts, rows)?);
        }
    }
    let room = Room { device: Device::CPU, align: decision.alignment, padded: false, stream: None };
    let (valid, place, buffer) = Tensor::allocate(decision.dtype, &shape, decision.order, room, runtime)?;
    let dims = first.shape().len();
    let step_of = |axis: usize| valid.dims.strides()[axis] as usize * decision.dtype.padded_size();
    let column_step = if along == Along::Chunks { 0 } else { step_of(dims) };
    let options = CopyOptions { threads: call.policy.threads, ..CopyOptions::new(decision.on_loss) };
    let _span = trace::copy(first, decision, call.caps, site).entered();
    let (mut row, mut column) = (0, 0);
    for (i, part) in parts.iter().enumerate() {
        let asked = asked.get(i).unwrap_or(call);
        if !part.device().kind.is_host() || decision.dtype.is_sub_byte() {
            let reason = Reason::new(Code::DV01, Detail::Move { from: part.device(), to: decision.device });
            return Err(refuse(runtime, asked, &Decision::reject(reason)));
        }
        let target = Operand {
            data: buffer.as_ptr().wrapping_add(row * step_of(0) + column * column_step),
            dtype: decision.dtype,
            layout: crate::Layout::new(part.shape(), &valid.dims.strides()[..dims]),
            unit: crate::StrideUnit::Elements,
            traits: Lazy::empty(),
        };
        // SAFETY: the part's extent was validated when it was imported and its owner keeps it readable; the target is
        // the part's own place in a fresh buffer that `allocate` made for all of them, which nobody else has: the shapes were
        // compared above, and the places follow each other.
        unsafe { copy::copy(&target, &operand(part), &options) }
            .map_err(|e| copy_error(runtime, asked, decision, e))?;
        row += part.shape()[0] as usize;
        if matches!(along, Along::Columns { rows } if rows == row as i64) {
            (row, column) = (0, column + 1);
        }
    }
    Ok(finish(first, valid, place, buffer, decision, call, site))
}

/// How many columns of so many rows the parts fill; an error if a part crosses into the next column, or the last is short.
fn columns_of(parts: &[Tensor], rows: i64) -> Result<i64> {
    let (mut row, mut columns) = (0, 0);
    for part in parts {
        row += part.shape()[0];
        if row == rows {
            (row, columns) = (0, columns + 1);
        } else if row > rows {
            break;
        }
    }
    if row == 0 {
        return Ok(columns);
    }
    Err(Error::argument("a column's parts", format!("{row} rows"), &format!("have {rows} rows together")))
}
