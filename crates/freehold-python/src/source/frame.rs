//! Tables, of pandas, Polars and Arrow: one array where pandas keeps it in one block, else columns that are gathered in one
//! pass, each with its chunks. So are the chunks of a column alone.

use std::borrow::Cow;

use freehold::{
    Along, Asked, Caps, Code, CopiesPolicy, CopyRule, DType, Decision, Detail, Device, Dialect, Label, Layout, Message,
    Order, Policy, Reason, Request, Runtime, Steps, Tensor, TensorDesc, Traits, Verdict, decide, gather,
};
use pyo3::prelude::*;
use pyo3::types::{PyTuple, PyType};

use freehold::tensor_algebra::{Dims, compact_strides};

use super::{Adapter, Ask, Fail, Imported, Kind, kind_of};
use crate::dtype;
use crate::names::top_module;

/// What a table of Polars or Arrow offers.
pub(super) fn kind(_: &Bound<'_, PyAny>, class: &Bound<'_, PyType>) -> PyResult<Option<Kind>> {
    let name = class.name()?;
    let table = match top_module(class).as_str() {
        "polars" => name == "DataFrame",
        "pyarrow" => name == "Table" || name == "RecordBatch",
        _ => false,
    };
    Ok(table.then(|| Kind { adapter: Adapter::Frame, framework: Label::intern(&top_module(class)) }))
}

/// A frame in one block, as its array; one in several is a case for [`Columns`].
pub(super) fn import(x: &Bound<'_, PyAny>, framework: Label, ask: &Ask<'_, '_>) -> Result<Imported, Fail> {
    let whole = if framework == Label::PANDAS { one_block(x)? } else { None };
    match whole {
        Some(values) => super::import(&values, kind_of(&values)?, ask),
        None => Err(Fail::Scattered(Box::new(Columns::import(x, framework, ask)?))),
    }
}

/// Rows and columns.
fn shape_of(x: &Bound<'_, PyAny>) -> PyResult<(i64, i64)> {
    x.getattr("shape")?.extract()
}

fn notation(x: &Bound<'_, PyAny>, framework: Label) -> String {
    let (rows, columns) = shape_of(x).unwrap_or_default();
    let class = x.get_type().name().map_or_else(|_| "?".to_owned(), |name| name.to_string());
    format!("{class}[{rows},{columns}] {} cpu", framework.as_str())
}

/// A column's name, and the column.
type Titled<'py> = (Bound<'py, PyAny>, Bound<'py, PyAny>);

fn columns_of<'py>(x: &Bound<'py, PyAny>, framework: Label) -> PyResult<Vec<Titled<'py>>> {
    if framework == Label::PANDAS {
        // By position: two columns may have one name.
        return x.call_method0("items")?.try_iter()?.map(|item| item?.extract()).collect();
    }
    let (names, columns) = match framework.as_str() {
        "polars" => (x.getattr("columns")?, x.call_method0("get_columns")?),
        _ => (x.getattr("column_names")?, x.getattr("columns")?),
    };
    names.try_iter()?.zip(columns.try_iter()?).map(|(name, column)| Ok((name?, column?))).collect()
}

/// The dtype that holds all of these, as NumPy promotes.
fn promoted(py: Python<'_>, parts: &[Tensor]) -> PyResult<DType> {
    match parts.first() {
        Some(first) if parts.iter().all(|part| part.dtype() == first.dtype()) => Ok(first.dtype()),
        _ => {
            let spelled: Vec<&str> = parts.iter().filter_map(|part| part.dtype().name()).collect();
            dtype::argument(&py.import("numpy")?.getattr("result_type")?.call1(PyTuple::new(py, spelled)?)?)
        }
    }
}

/// The array that holds all of a frame, if there is one: columns of one NumPy dtype that pandas keeps together.
fn one_block<'py>(x: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
    let dtypes = x.getattr("dtypes")?.getattr("array")?;
    if dtypes.len()? > 0 {
        let (dtype, numpy) = (dtypes.get_item(0)?, x.py().import("numpy")?);
        if !dtype.is_instance(&numpy.getattr("dtype")?)? || dtype.getattr("hasobject")?.is_truthy()? {
            return Ok(None);
        }
        // What counts time is refused, by the column that does.
        if matches!(dtype.getattr("kind")?.extract::<char>()?, 'm' | 'M') {
            return Ok(None);
        }
        // How many blocks there are only pandas' manager knows. Should it be called otherwise one day, a frame that
        // could be shared is gathered.
        let blocks =
            x.getattr("_mgr").and_then(|manager| manager.getattr("nblocks")).and_then(|n| n.extract::<usize>());
        if blocks.unwrap_or(2) != 1 {
            return Ok(None);
        }
    }
    x.call_method0("to_numpy").map(Some)
}

/// The columns of a frame that is not one block, or the chunks of a column that is not.
pub(crate) struct Columns {
    /// What messages call the parts.
    names: Vec<String>,
    parts: Vec<Tensor>,
    along: Along,
    /// Of the whole.
    shape: Dims,
    strides: Dims,
    /// The dtype that holds all columns, as NumPy promotes.
    common: DType,
    framework: Label,
    /// The whole in compact notation.
    source: String,
}

impl Columns {
    fn import<'py>(x: &Bound<'py, PyAny>, framework: Label, ask: &Ask<'_, 'py>) -> Result<Columns, Fail> {
        // What is on the ledger is the gathered copy, not the look at each column.
        let quiet = Ask { quiet: true, freeze: false, ..*ask };
        let source = notation(x, framework);
        let (mut names, mut parts) = (Vec::new(), Vec::new());
        for (title, column) in columns_of(x, framework)? {
            let name = title.repr()?.to_string();
            let more = match super::import(&column, kind_of(&column)?, &quiet) {
                Ok(imported) => vec![imported.tensor],
                Err(Fail::Scattered(chunks)) => chunks.parts,
                Err(fail) => return Err(in_column(&name, framework, fail)),
            };
            if let Some(part) = more.iter().find(|part| part.shape().len() != 1) {
                let text = format!("column {name} has {} dimensions", part.shape().len());
                return Err(Fail::refused(Code::LY01, source, text).fix("pass a column at a time"));
            }
            names.extend(more.iter().map(|_| name.clone()));
            parts.extend(more);
        }
        if parts.is_empty() {
            return Err(
                Fail::refused(Code::OB01, source, "it has no column").fix("pass a table with columns of numbers")
            );
        }
        let (rows, columns) = shape_of(x)?;
        let common = promoted(x.py(), &parts)?;
        Self::of(names, parts, Along::Columns { rows }, Dims::from_slice(&[rows, columns]), common, framework, source)
    }

    /// The chunks of a column, each of which is one array.
    pub(super) fn chunks(parts: Vec<Tensor>, framework: Label, source: String) -> Result<Columns, Fail> {
        let mut shape = Dims::from_slice(parts[0].shape());
        shape[0] = parts.iter().map(|part| part.shape()[0]).sum();
        let common = parts[0].dtype();
        let names = (0..parts.len()).map(|i| format!("{i}")).collect();
        Self::of(names, parts, Along::Chunks, shape, common, framework, source)
    }

    fn of(
        names: Vec<String>,
        parts: Vec<Tensor>,
        along: Along,
        shape: Dims,
        common: DType,
        framework: Label,
        source: String,
    ) -> Result<Columns, Fail> {
        let strides = compact_strides(&shape, Order::C).map_err(freehold::Error::capsule)?;
        Ok(Columns { names, parts, along, shape, strides, common, framework, source })
    }

    /// What the parts are.
    fn what(&self) -> &'static str {
        if self.along == Along::Chunks { "chunks" } else { "columns" }
    }

    /// How many columns or chunks there are.
    fn count(&self) -> i64 {
        if self.along == Along::Chunks { self.parts.len() as i64 } else { self.shape[1] }
    }

    /// Why a call that cannot gather is refused.
    pub(crate) fn refuse(&self) -> Fail {
        let text = format!("its {} are not one array", self.what());
        Fail::refused(Code::LY01, self.source.clone(), text).fix(format!("fh.copy(x)  # gathers the {}", self.what()))
    }

    /// A column, for what depends on a tensor.
    pub(crate) fn first(&self) -> &Tensor {
        &self.parts[0]
    }

    /// How many dimensions the whole has.
    pub(crate) fn ndim(&self) -> usize {
        self.shape.len()
    }

    /// The whole as one tensor, row after row: a row is a sample.
    fn desc(&self) -> TensorDesc<'_> {
        TensorDesc {
            address: 0,
            device: Device::CPU,
            dtype: self.common,
            layout: Layout::new(&self.shape, &self.strides),
            traits: Traits::empty(),
            framework: self.framework,
        }
    }

    pub(crate) fn decide(&self, request: &Request, caps: &Caps, policy: &Policy) -> Decision {
        let all = Request { copy: CopyRule::Always, freeze: false, ..*request };
        let mut decision = decide(&self.desc(), &all, caps, policy);
        if decision.verdict == Verdict::Reject {
            return decision;
        }
        if caps.own_memory {
            // Gathered here, and then copied into the target's own memory.
            decision.bytes_copied *= 2;
            decision.bytes_allocated *= 2;
        }
        if !self.parts.iter().all(|part| part.dtype() == decision.dtype) {
            let mut kinds: Vec<String> = self.parts.iter().map(|part| part.dtype().to_string()).collect();
            kinds.sort_unstable();
            kinds.dedup();
            let text = format!("{} -> {}", kinds.join(", "), decision.dtype);
            decision.reasons.retain(|reason| reason.code != Code::CA01);
            decision.reasons.insert(0, Reason::text(Code::CA01, text));
            decision.steps |= Steps::CAST;
        }
        decision.reasons.retain(|reason| reason.code != Code::LY01);
        let text = format!("{} {}, which are not one array, are gathered", self.count(), self.what());
        decision.reasons.insert(0, Reason { code: Code::LY01, detail: Detail::Text(Cow::Owned(text)) });
        decision.steps |= Steps::LAYOUT;
        if request.copy == CopyRule::Always {
            return decision;
        }
        decision.steps -= Steps::FRESH;
        let refusal = match (request.copy, policy.copies) {
            (CopyRule::Never, _) => None,
            (_, CopiesPolicy::Error) => {
                Some(Reason::text(Code::PO01, format!("copies=\"error\" (asked: {} B)", decision.bytes_copied)))
            }
            _ => return decision,
        };
        decision.reasons.insert_many(0, refusal);
        Decision { verdict: Verdict::Reject, steps: Steps::empty(), bytes_copied: 0, bytes_allocated: 0, ..decision }
    }

    /// The refusal in words.
    pub(crate) fn message(&self, decision: &Decision, request: &Request, caps: &Caps, policy: &Policy) -> Message {
        let mut asked = Asked::new(self.desc(), request, caps, policy, Dialect::Python);
        asked.source = Some(self.source.clone());
        let mut message = Message::of(&asked, decision);
        let share = Request { copy: CopyRule::Never, ..*request };
        if message.code == Code::LY01
            && self.along != Along::Chunks
            && decide(&self.first().desc(), &share, caps, policy).is_ok()
        {
            let to = if caps.name == Caps::FREEHOLD.name { String::new() } else { format!(", \"{}\"", caps.name) };
            message.fixes.push(format!("fh.share(x[{}]{to})  # a column at a time", self.names[0]));
        }
        message
    }

    /// Gathers the columns, each cast on the way.
    pub(crate) fn gather(
        &self,
        py: Python<'_>,
        decision: &Decision,
        request: &Request,
        caps: &Caps,
        policy: &Policy,
        site: Label,
    ) -> Result<Tensor, freehold::Error> {
        let asked: Vec<Asked<'_>> = self
            .parts
            .iter()
            .zip(&self.names)
            .map(|(part, name)| {
                let mut asked = Asked::new(part.desc(), request, caps, policy, Dialect::Python);
                let part_of = if self.along == Along::Chunks { "chunk" } else { "column" };
                asked.source = Some(format!("{part_of} {name}, {}", part.desc()));
                asked
            })
            .collect();
        if decision.verdict == Verdict::Reject {
            let message = self.message(decision, request, caps, policy);
            Runtime::global().ledger().reject(self.framework, Label::intern(caps.name), message.code);
            return Err(freehold::Error::rejected(message, Some(decision.clone())));
        }
        py.detach(|| gather(&self.parts, self.along, decision, &asked, site))
    }
}

/// A refusal of one column, with its name, and its fixes on the column.
fn in_column(name: &str, framework: Label, fail: Fail) -> Fail {
    match fail {
        Fail::Refused(mut refusal) => {
            let text = format!("{}, in column {name}", refusal.reason.detail);
            refusal.reason = Reason::text(refusal.reason.code, text);
            for fix in &mut refusal.fixes {
                if let Some(rest) = fix.strip_prefix("x.") {
                    // Only pandas' frames can be written to.
                    let place = if framework == Label::PANDAS { format!("x[{name}] = ") } else { String::new() };
                    *fix = format!("{place}x[{name}].{rest}");
                }
            }
            Fail::Refused(refusal)
        }
        other => other,
    }
}
