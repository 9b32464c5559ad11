//! Casts arrays for a program in another language, so that it can compare the results with its own.
//!
//! Each request on standard input is a line `FROM TO ON_LOSS SATURATE COUNT` (dtype names as `DType::from_name` takes
//! them, `error` or `allow`, `0` or `1`) and the bytes of COUNT elements. A sub-byte element fills one byte each, or
//! shares bytes if its name ends in `/packed`. Each answer on standard output is a line:
//!
//! * `ok BYTES`, and that many bytes follow;
//! * `loss COUNT INDEX VALUE`: how many values the target cannot hold, and the first;
//! * `error MESSAGE`.

use std::io::{self, BufRead, Read, Write};

use freehold_tensor::copy::{CopyError, CopyOptions, Lazy, OnLoss, Operand, copy};
use freehold_tensor::{DType, Layout, StrideUnit};

fn main() -> io::Result<()> {
    let (mut input, mut output) = (io::stdin().lock(), io::BufWriter::new(io::stdout().lock()));
    let mut line = String::new();
    while input.read_line(&mut line)? != 0 {
        let request = Request::parse(&line).ok_or_else(|| io::Error::other(format!("bad request: {line:?}")))?;
        let mut source = vec![0; request.from.bytes(request.count)];
        input.read_exact(&mut source)?;
        let mut target = vec![0; request.to.bytes(request.count)];
        match request.run(&mut source, &mut target) {
            Ok(()) => {
                writeln!(output, "ok {}", target.len())?;
                output.write_all(&target)?;
            }
            Err(CopyError::Loss(loss)) => {
                writeln!(output, "loss {} {} {}", loss.count, loss.first_index[0], loss.first_value)?;
            }
            Err(error) => writeln!(output, "error {error}")?,
        }
        output.flush()?;
        line.clear();
    }
    Ok(())
}

/// A dtype and how its sub-byte elements lie.
struct Side {
    dtype: DType,
    traits: Lazy,
}

impl Side {
    fn parse(name: &str) -> Option<Side> {
        let (name, traits) = match name.strip_suffix("/packed") {
            Some(name) => (name, Lazy::empty()),
            None => (name, Lazy::PADDED),
        };
        Some(Side { dtype: DType::from_name(name)?, traits })
    }

    fn bytes(&self, count: usize) -> usize {
        if self.traits.contains(Lazy::PADDED) {
            count * self.dtype.padded_size()
        } else {
            (count * self.dtype.element_bits() as usize).div_ceil(8)
        }
    }
}

struct Request {
    from: Side,
    to: Side,
    options: CopyOptions,
    count: usize,
}

impl Request {
    fn parse(line: &str) -> Option<Request> {
        let [from, to, on_loss, saturate, count] = line.split_whitespace().collect::<Vec<_>>().try_into().ok()?;
        let on_loss = match on_loss {
            "error" => OnLoss::Error,
            "allow" => OnLoss::Allow,
            _ => return None,
        };
        Some(Request {
            from: Side::parse(from)?,
            to: Side::parse(to)?,
            options: CopyOptions { on_loss, saturate: saturate == "1", threads: None },
            count: count.parse().ok()?,
        })
    }

    fn run(&self, source: &mut [u8], target: &mut [u8]) -> Result<(), CopyError> {
        let shape = [self.count as i64];
        let operand = |bytes: &mut [u8], side: &Side| Operand {
            data: bytes.as_mut_ptr(),
            dtype: side.dtype,
            layout: Layout { shape: &shape, strides: &[1] },
            unit: StrideUnit::Elements,
            traits: side.traits,
        };
        // SAFETY: both buffers hold `count` compact elements, are initialised and apart.
        unsafe { copy(&operand(target, &self.to), &operand(source, &self.from), &self.options) }
    }
}
