//! `fh.explain`: one object, a layout card; two, whether they alias, where, and how many bytes.

use freehold::tensor_algebra::Strided;
use freehold::{Caps, Layout, Order, Policy, Request, StrideUnit, Tensor, Traits, decide};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::{call, ledger};

/// One object: what it is, in words. Two objects: whether they share memory, which bytes, and how many, exactly.
///
/// The answer is a string that prints as a card; about two objects it has the attributes aliases, bytes, span,
/// same_buffer and buffers.
///
/// >>> import numpy as np
/// >>> a = np.zeros((4, 4), dtype="int16")
/// >>> for line in fh.explain(a[::2]).splitlines()[:4]:
/// ...     print(line)
/// i16[2,4] numpy cpu
///   shape      (2, 4)
///   strides    (8, 1) elements, (16, 2) bytes
///   order      not C (dim 0 has stride 8, C wants 4), not F (dim 0 has stride 8, F wants 1)
/// >>> both = fh.explain(a[::2], a[:, 0])
/// >>> both.aliases, both.bytes
/// (True, 4)
/// >>> fh.explain(a[::2], a[1::2]).aliases
/// False
#[pyfunction]
#[pyo3(signature = (x, y=None))]
pub(crate) fn explain<'py>(
    py: Python<'py>,
    x: &Bound<'py, PyAny>,
    y: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    match y {
        None => card(py, &call::look(x)?),
        Some(y) => compare(py, [x, y], &call::look(x)?, &call::look(y)?),
    }
}

/// A text of one of the classes of `freehold._text`, with the facts behind it.
fn text<'py>(py: Python<'py>, class: &str, text: &str, facts: &Bound<'py, PyDict>) -> PyResult<Bound<'py, PyAny>> {
    py.import("freehold._text")?.getattr(class)?.call((text,), Some(facts))
}

fn list(values: &[i64]) -> String {
    format!("({})", values.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))
}

fn card<'py>(py: Python<'py>, tensor: &Tensor) -> PyResult<Bound<'py, PyAny>> {
    let (desc, layout) = (tensor.desc(), tensor.layout());
    let bytes = tensor.traits().contains(Traits::BYTE_STRIDES);
    let size = tensor.dtype().padded_size() as i64;
    let strides = tensor.strides();
    let in_bytes: Vec<i64> = if bytes { strides.to_vec() } else { strides.iter().map(|s| s * size).collect() };
    let mut out = format!("{desc}\n");
    let mut rows: Vec<(String, String)> = Vec::new();
    let mut line = |name: &str, value: String| {
        out.push_str(&format!("  {name:<10} {value}\n"));
        rows.push((name.to_owned(), value));
    };
    line("shape", list(tensor.shape()));
    if bytes {
        line("strides", format!("{} bytes", list(&in_bytes)));
    } else {
        line("strides", format!("{} elements, {} bytes", list(strides), list(&in_bytes)));
    }
    line("order", order(&layout));
    line("elements", format!("{}, {} B compact", tensor.numel(), tensor.nbytes()));
    let address = tensor.data_ptr().addr();
    let align =
        if address == 0 { "none".to_owned() } else { format!("{} B", 1u64 << address.trailing_zeros().min(12)) };
    let extent = tensor.extent();
    line("memory", format!("{address:#x}, aligned to {align}, reaches {} B from {:+}", extent.len(), extent.lo));
    if let Some((base, len)) = tensor.allocation() {
        let offset = (address as u64).wrapping_sub(base);
        line("part of", format!("an allocation of {len} B at {base:#x}, from byte {offset}"));
    }
    line("writable", if tensor.is_writable() { "yes".to_owned() } else { "no".to_owned() });
    if let Some(buffer) = ledger::buffer_of(tensor) {
        line("buffer", format!("#{buffer}"));
    }
    for caps in [&Caps::FREEHOLD, &Caps::NUMPY, &Caps::TORCH] {
        let share = decide(&desc, &Request::share(), caps, &Policy::DEFAULT);
        let convert = decide(&desc, &Request::convert(), caps, &Policy::DEFAULT);
        line(&format!("-> {}", caps.name), format!("share: {share}; convert: {convert}"));
    }
    let facts = PyDict::new(py);
    facts.set_item("rows", rows)?;
    text(py, "Text", out.trim_end(), &facts)
}

fn order(layout: &Layout<'_>) -> String {
    let broken = |order: Order, name: &str| match layout.first_not_compact(order) {
        Some((dim, stride, want)) => format!("not {name} (dim {dim} has stride {stride}, {name} wants {want})"),
        None => name.to_owned(),
    };
    match (layout.is_c_contiguous(), layout.is_f_contiguous()) {
        (true, true) => "C and F".to_owned(),
        (true, false) => "C".to_owned(),
        (false, true) => format!("F; {}", broken(Order::C, "C")),
        (false, false) => format!("{}, {}", broken(Order::C, "C"), broken(Order::F, "F")),
    }
}

/// The address range that a view reaches.
fn range(tensor: &Tensor) -> (i128, i128) {
    let (extent, address) = (tensor.extent(), tensor.data_ptr().addr() as i128);
    (address + i128::from(extent.lo), address + i128::from(extent.hi))
}

/// The buffer that a view is part of, as well as it is known.
struct Whole {
    /// Its id on the ledger.
    id: Option<u64>,
    range: (u64, u64),
    /// Whether the range is the whole allocation.
    known: bool,
}

impl Whole {
    fn of(object: &Bound<'_, PyAny>, tensor: &Tensor) -> Whole {
        let held = ledger::find(tensor);
        let id = held.as_ref().map(|buffer| buffer.id);
        if let Some((base, len)) = tensor.allocation() {
            return Whole { id, range: (base, base.saturating_add(len)), known: true };
        }
        if let Some(buffer) = held.filter(|buffer| buffer.allocation_known) {
            return Whole { id, range: (buffer.base, buffer.base.saturating_add(buffer.len)), known: true };
        }
        // PyTorch's storage may itself be a part of what another framework allocated.
        let (lo, hi) = range(tensor);
        let reached = (u64::try_from(lo).unwrap_or(0), u64::try_from(hi).unwrap_or(0));
        Whole { id, range: storage(object).unwrap_or(reached), known: false }
    }

    fn same(&self, other: &Whole) -> Option<bool> {
        let overlap = self.range.0.max(other.range.0) < self.range.1.min(other.range.1);
        match overlap || self.id.is_some() && self.id == other.id {
            true => Some(true),
            false if self.known && other.known => Some(false),
            false => None,
        }
    }
}

/// The range of a PyTorch tensor's storage.
fn storage(object: &Bound<'_, PyAny>) -> Option<(u64, u64)> {
    let storage = object.call_method0("untyped_storage").ok()?;
    let base: u64 = storage.call_method0("data_ptr").ok()?.extract().ok()?;
    let len: u64 = storage.call_method0("nbytes").ok()?.extract().ok()?;
    Some((base, base.saturating_add(len)))
}

fn compare<'py>(
    py: Python<'py>,
    objects: [&Bound<'py, PyAny>; 2],
    x: &Tensor,
    y: &Tensor,
) -> PyResult<Bound<'py, PyAny>> {
    let facts = PyDict::new(py);
    let ((a_lo, a_hi), (b_lo, b_hi)) = (range(x), range(y));
    let (lo, hi) = (a_lo.max(b_lo), a_hi.min(b_hi));
    let reachable = x.device() == y.device() && lo < hi && !x.extent().is_empty() && !y.extent().is_empty();
    let shared = if reachable { shared_bytes(x, y, lo, hi) } else { Some((0, 0, 0)) };
    let (aliases, bytes, span) = match shared {
        Some((0, ..)) => (Some(false), Some(0), None),
        Some((count, first, last)) => (Some(true), Some(count), Some((first, last + 1))),
        // Too large to count: the test that only says yes or no.
        None => match x.overlaps(y) {
            freehold::tensor_algebra::Overlap::None => (Some(false), Some(0), None),
            freehold::tensor_algebra::Overlap::Some => (Some(true), None, Some((lo, hi))),
            freehold::tensor_algebra::Overlap::Unknown => (None, None, Some((lo, hi))),
        },
    };
    let wholes = [Whole::of(objects[0], x), Whole::of(objects[1], y)];
    let same_buffer = match aliases {
        Some(true) => Some(true),
        _ if x.device() != y.device() => Some(false),
        _ => wholes[0].same(&wholes[1]),
    };
    let mut out = String::new();
    for ((name, tensor), whole) in [("x", x), ("y", y)].into_iter().zip(&wholes) {
        let buffer = whole.id.map_or_else(String::new, |id| format!(", buffer #{id}"));
        out.push_str(&format!("{name}  {}{buffer}\n", tensor.desc()));
    }
    out.push_str(&match (aliases, bytes, span) {
        (Some(false), ..) if x.device() != y.device() => "no: they are on different devices".to_owned(),
        (Some(false), ..) if reachable => {
            format!("no: their ranges overlap in {} B, but no byte belongs to both", hi - lo)
        }
        (Some(false), ..) if same_buffer == Some(true) => "no: two parts of one buffer, no byte of both".to_owned(),
        (Some(false), ..) => "no: no byte is shared".to_owned(),
        (Some(true), Some(count), Some((first, end))) => {
            let (in_x, in_y) = (first - x.data_ptr().addr() as i128, first - y.data_ptr().addr() as i128);
            format!("yes: {count} B are shared, in the {} B from {first:#x} (x {in_x:+} B, y {in_y:+} B)", end - first)
        }
        (Some(true), ..) => format!("yes: bytes are shared in {lo:#x}..{hi:#x}; too many to count"),
        (None, ..) => format!("treat as shared: the search in {lo:#x}..{hi:#x} gave up"),
    });
    facts.set_item("aliases", aliases)?;
    facts.set_item("bytes", bytes)?;
    facts.set_item("span", span)?;
    facts.set_item("same_buffer", same_buffer)?;
    facts.set_item("buffers", (wholes[0].id, wholes[1].id))?;
    text(py, "Overlap", &out, &facts)
}

/// Bytes that belong to both views: how many, the first and the last. `None` where there are too many to look at.
fn shared_bytes(x: &Tensor, y: &Tensor, lo: i128, hi: i128) -> Option<(u64, i128, i128)> {
    const MOST_ELEMENTS: i64 = 1 << 24;
    const MOST_BYTES: i128 = 1 << 30;
    if hi - lo > MOST_BYTES || x.numel() > MOST_ELEMENTS || y.numel() > MOST_ELEMENTS {
        return None;
    }
    if [x, y].iter().any(|t| t.dtype().is_sub_byte() && !t.traits().contains(Traits::PADDED)) {
        return None;
    }
    let mut marks = vec![0u64; usize::try_from(hi - lo).ok()?.div_ceil(64)];
    each_byte(&x.strided(), lo, hi, |i| marks[i / 64] |= 1 << (i % 64));
    let mut both = vec![0u64; marks.len()];
    each_byte(&y.strided(), lo, hi, |i| both[i / 64] |= marks[i / 64] & 1 << (i % 64));
    let count: u64 = both.iter().map(|word| u64::from(word.count_ones())).sum();
    let first = both.iter().position(|word| *word != 0).map(|i| i * 64 + both[i].trailing_zeros() as usize);
    let last = both.iter().rposition(|word| *word != 0).map(|i| i * 64 + 63 - both[i].leading_zeros() as usize);
    Some((count, lo + first.unwrap_or(0) as i128, lo + last.unwrap_or(0) as i128))
}

/// Calls `f` with the index, from `lo`, of every byte of a view between `lo` and `hi`.
fn each_byte(view: &Strided<'_>, lo: i128, hi: i128, mut f: impl FnMut(usize)) {
    let (shape, strides) = (view.layout.shape, view.layout.strides);
    let size = view.dtype.padded_size() as i128;
    let unit = if view.unit == StrideUnit::Bytes { 1 } else { size };
    let mut index = vec![0i64; shape.len()];
    loop {
        let steps: i128 = index.iter().zip(strides).map(|(i, s)| i128::from(*i) * i128::from(*s)).sum();
        let start = i128::from(view.address) + steps * unit;
        for byte in start.max(lo)..(start + size).min(hi) {
            f((byte - lo) as usize);
        }
        let mut dim = shape.len();
        loop {
            if dim == 0 {
                return;
            }
            dim -= 1;
            index[dim] += 1;
            if index[dim] < shape[dim] {
                break;
            }
            index[dim] = 0;
        }
    }
}
