//! What a copy would do, in words.

use std::fmt;

use super::plan::Plan;
use super::way::Way;
use super::{CopyError, CopyOptions, Job, Operand, threads};
use crate::DType;

/// How [`copy`](super::copy) would do a copy. Its `Display` reads like `tiles 64x32, f32 -> bf16, avx512, streamed,
/// 2 threads`: the class, with rows and columns of a tile where there are any; the cast, where there is one; the
/// instruction set; whether the destination is written past the caches; and the threads, where there is more than one.
///
/// ```
/// # use freehold_tensor::copy::{CopyOptions, Lazy, Operand, describe};
/// # use freehold_tensor::{DType, Layout, StrideUnit};
/// # let rows = Operand {
/// #     data: std::ptr::null_mut(),
/// #     dtype: DType::F32,
/// #     layout: Layout::new(&[8, 3], &[3, 1]),
/// #     unit: StrideUnit::Elements,
/// #     traits: Lazy::empty(),
/// # };
/// // Eight compact rows of three, out of rows of four.
/// let src = Operand { layout: Layout::new(&[8, 3], &[4, 1]), ..rows };
/// let how = describe(&rows, &src, &CopyOptions::default())?;
/// assert_eq!((how.class(), how.threads(), how.is_streamed()), ("rows", 1, false));
/// assert!(how.to_string().starts_with("rows, f32, "));
/// # Ok::<(), freehold_tensor::copy::CopyError>(())
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Description {
    class: &'static str,
    tile: Option<(usize, usize)>,
    from: DType,
    to: DType,
    level: &'static str,
    streamed: bool,
    threads: usize,
}

impl Description {
    /// What the layouts are to each other: `empty`; `run`, one run of memory on both sides; `rows`, several; `tiles`,
    /// each side fastest along another axis; `split` and `join`, the same where one side has two to four elements a
    /// pixel; `tiny tiles`
    /// and `batch`, many small tiles, moved or cast together; `repeat` and `fill`, a source whose rows or elements repeat; `strided`, all else.
    pub fn class(&self) -> &'static str {
        self.class
    }

    /// Threads that it would use, the calling one included.
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// Whether the destination would be written past the caches.
    pub fn is_streamed(&self) -> bool {
        self.streamed
    }
}

impl fmt::Display for Description {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.class)?;
        if let Some((rows, cols)) = self.tile {
            write!(f, " {rows}x{cols}")?;
        }
        if self.from == self.to {
            write!(f, ", {}", self.from)?;
        } else {
            write!(f, ", {} -> {}", self.from, self.to)?;
        }
        write!(f, ", {}", self.level)?;
        if self.streamed {
            f.write_str(", streamed")?;
        }
        if self.threads > 1 {
            write!(f, ", {} threads", self.threads)?;
        }
        Ok(())
    }
}

/// Describes what [`copy`](super::copy) would do with these operands, or why it would not. No memory is looked at, so
/// addresses may be null; and what the values would lose is not known.
///
/// ```
/// use freehold_tensor::copy::{CopyOptions, Lazy, Operand, describe};
/// use freehold_tensor::{DType, Layout, StrideUnit};
///
/// let dst = Operand {
///     data: std::ptr::null_mut(),
///     dtype: DType::BF16,
///     layout: Layout::new(&[1000], &[1]),
///     unit: StrideUnit::Elements,
///     traits: Lazy::empty(),
/// };
/// let how = |from| describe(&dst, &Operand { dtype: from, ..dst }, &CopyOptions::default());
/// assert!(how(DType::F32)?.to_string().starts_with("run, f32 -> bf16, "));
/// let error = how(DType::C64).unwrap_err();
/// assert_eq!(error.to_string(), "a cast from c64 to bf16 loses values; it must be allowed explicitly");
/// # Ok::<(), freehold_tensor::copy::CopyError>(())
/// ```
pub fn describe(dst: &Operand<'_>, src: &Operand<'_>, options: &CopyOptions) -> Result<Description, CopyError> {
    let job = Job::check(dst, src, options)?;
    let (from, to, level) = (src.dtype, dst.dtype, job.steps.level.name());
    if src.layout.is_empty() {
        return Ok(Description { class: "empty", tile: None, from, to, level, streamed: false, threads: 1 });
    }
    let mut plan = Plan::new(&job.axes);
    let wide = job.steps.widen(&mut plan);
    let steps = wide.as_ref().unwrap_or(&job.steps);
    let way = Way::new(steps, &plan);
    let threads = threads::alone(steps, &way, dst.data, &plan, options.threads);
    let tile = way.class.tile();
    Ok(Description { class: way.class.name(), tile, from, to, level, streamed: way.stream, threads })
}
