//! Small copies beside a loop written for their types and shape, and what finding losses costs beside not looking for
//! them: `cargo bench -p freehold-tensor --bench small`. `FREEHOLD_SIMD` chooses the instruction set.
//!
//! Each line is one JSON object that `tests/bench/report.py` reads: the fastest of many batches of each contestant, who
//! take turns, in ns a copy. Freehold's include the check of both layouts and the plan. Arguments, if any, are the titles of the
//! tables to measure.

use std::hint::black_box;
use std::time::Instant;

use freehold_tensor::copy::{CastKind, CopyOptions, Lazy, OnLoss, Operand, cast_kind, copy, set_num_threads};
use freehold_tensor::{DType, Layout, StrideUnit};

/// Bytes of the larger side, with room for a transpose of 32 x 32 `f64`.
const ROOM: usize = 64 << 10;

/// Memory that begins at a cache line, as results do.
#[repr(C, align(64))]
struct Memory([u8; ROOM]);

fn operand<'a>(memory: &mut Memory, dtype: DType, layout: Layout<'a>) -> Operand<'a> {
    let data = memory.0.as_mut_ptr();
    Operand { data, dtype, layout, unit: StrideUnit::Elements, traits: Lazy::PADDED }
}

/// The best of each, in ns a call.
fn compare(mut first: impl FnMut(), mut second: impl FnMut()) -> [f64; 2] {
    let mut best = [f64::INFINITY; 2];
    let time = |f: &mut dyn FnMut(), calls: u32| {
        let start = Instant::now();
        (0..calls).for_each(|_| f());
        start.elapsed().as_nanos() as f64 / f64::from(calls)
    };
    let calls = (200_000.0 / time(&mut first, 100).max(time(&mut second, 100)).max(1.0)) as u32 + 1;
    for _ in 0..60 {
        best[0] = best[0].min(time(&mut first, calls));
        best[1] = best[1].min(time(&mut second, calls));
    }
    best
}

fn line(table: &str, row: &str, names: [&str; 2], ns: [f64; 2]) {
    let [a, b] = names;
    println!(
        "{{\"table\": \"{table}\", \"row\": \"{row}\", \"ns\": {{\"{a}\": {:.1}, \"{b}\": {:.1}}}}}",
        ns[0], ns[1]
    );
}

const SMALL: [&str; 2] = ["loop", "Freehold"];
const SMALL_TITLE: &str = "small copies, plan included";
const LOSSES_TITLE: &str = "what finding losses costs, 8192 elements";

/// One run of `n` elements.
fn run<A: Copy, B: Copy>(
    row: &str,
    (from, to): (DType, DType),
    n: usize,
    [x, y]: &mut [Memory; 2],
    convert: impl Fn(A) -> B,
) {
    let shape = [n as i64];
    let layout = Layout { shape: &shape, strides: &[1] };
    let (src, dst) = (operand(x, from, layout), operand(y, to, layout));
    let (a, b) = (src.data.cast::<A>(), dst.data.cast::<B>());
    let by_loop = || {
        for i in 0..black_box(n) {
            // SAFETY: both memories hold `n` values of at most 8 bytes, of types for which all bits are values.
            unsafe { b.add(i).write(convert(a.add(i).read())) };
        }
        black_box(b);
    };
    let ours = || {
        // SAFETY: as above; they do not overlap.
        unsafe { copy(black_box(&dst), black_box(&src), &CopyOptions::new(OnLoss::Allow)) }
            .expect("nothing is checked");
    };
    line(SMALL_TITLE, &format!("{row}, {n}"), SMALL, compare(by_loop, ours));
}

/// `f32` of `rows` x `cols`, the source with these strides, into a compact destination of the same or another dtype.
fn grid<B: Copy>(
    row: &str,
    (to, convert): (DType, impl Fn(f32) -> B),
    [rows, cols]: [usize; 2],
    strides: [i64; 2],
    [x, y]: &mut [Memory; 2],
) {
    let (shape, compact) = ([rows as i64, cols as i64], [cols as i64, 1]);
    let src = operand(x, DType::F32, Layout { shape: &shape, strides: &strides });
    let dst = operand(y, to, Layout { shape: &shape, strides: &compact });
    let (a, b) = (src.data.cast::<f32>(), dst.data.cast::<B>());
    let by_loop = || {
        let (rows, cols) = (black_box(rows), black_box(cols));
        let [down, right] = black_box(strides).map(|step| step as usize);
        for i in 0..rows {
            for j in 0..cols {
                // SAFETY: both memories hold the grid, whose last element is `ROOM` bytes in at most.
                unsafe { b.add(i * cols + j).write(convert(a.add(i * down + j * right).read())) };
            }
        }
        black_box(b);
    };
    let ours = || {
        // SAFETY: as above; they do not overlap.
        unsafe { copy(black_box(&dst), black_box(&src), &CopyOptions::new(OnLoss::Allow)) }
            .expect("nothing is checked");
    };
    line(SMALL_TITLE, &format!("{row}, {rows} x {cols}"), SMALL, compare(by_loop, ours));
}

/// Every pair of real dtypes in which a value can be lost, unchecked and checked.
fn losses(memory: &mut [Memory; 2]) {
    use DType as D;
    let n = ROOM / 8;
    let shape = [n as i64];
    let layout = Layout { shape: &shape, strides: &[1] };
    let real = [D::I8, D::U8, D::I16, D::I32, D::U32, D::I64, D::U64, D::F16, D::BF16, D::F32, D::F64];
    let [x, y] = memory;
    for from in real {
        for to in real.into_iter().filter(|to| cast_kind(from, *to) == CastKind::MayLose) {
            // Ones and zeros, which every type holds.
            y.0[..n].iter_mut().enumerate().for_each(|(i, byte)| *byte = (i % 2) as u8);
            let (bits, src) = (operand(y, D::BOOL, layout), operand(x, from, layout));
            // SAFETY: both hold `n` elements of at most 8 bytes, and do not overlap.
            unsafe { copy(&src, &bits, &CopyOptions::new(OnLoss::Allow)) }.expect("truth values are numbers");
            let dst = operand(y, to, layout);
            let with = |on_loss| {
                let (src, dst, options) = (&src, &dst, CopyOptions::new(on_loss));
                // SAFETY: as above.
                move || unsafe { copy(dst, src, &options) }.expect("nothing is lost")
            };
            let ns = compare(with(OnLoss::Allow), with(OnLoss::Error));
            line(LOSSES_TITLE, &format!("{from} -> {to}"), ["unchecked", "checked"], ns);
        }
    }
}

fn small(memory: &mut [Memory; 2]) {
    for n in [4, 16, 64, 256, 512] {
        run("float32 -> float64", (DType::F32, DType::F64), n, memory, |x: f32| f64::from(x));
        run("int32 -> float32", (DType::I32, DType::F32), n, memory, |x: i32| x as f32);
        run("float64 -> float32", (DType::F64, DType::F32), n, memory, |x: f64| x as f32);
        run("float32 -> float32", (DType::F32, DType::F32), n, memory, |x: f32| x);
    }
    let (same, wider) = ((DType::F32, |x: f32| x), (DType::F64, |x: f32| f64::from(x)));
    for side in [4, 8, 16, 32] {
        let (rows, turned) = ([64, 1], [1, side as i64]);
        grid("float32 rows of a wider matrix", same, [side, side], rows, memory);
        grid("float32 transposed", same, [side, side], turned, memory);
        let side = side.min(22);
        grid("float32 rows of a wider matrix -> float64", wider, [side, side], rows, memory);
        grid("float32 transposed -> float64", wider, [side, side], turned, memory);
    }
    grid("float32, every other of a run", same, [1, 512], [0, 2], memory);
}

fn main() {
    set_num_threads(1);
    let mut memory = [const { Memory([0; ROOM]) }; 2];
    // Cargo gives `--bench` besides.
    let titles: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    for (title, measure) in [(SMALL_TITLE, small as fn(&mut [Memory; 2])), (LOSSES_TITLE, losses)] {
        if titles.is_empty() || titles.iter().any(|wanted| wanted == title) {
            measure(&mut memory);
        }
    }
}
