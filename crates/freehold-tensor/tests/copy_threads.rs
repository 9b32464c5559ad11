//! Large copies: on several threads, in a forked child, and described.
// The threads never end, which Miri calls a leak; and it cannot fork.
#![cfg(not(miri))]

use std::sync::Mutex;

use freehold_tensor::copy::{CopyError, CopyOptions, Lazy, OnLoss, Operand, copy, describe};
use freehold_tensor::copy::{num_threads, set_num_threads, simd_level};
use freehold_tensor::{DType, Layout, Order, StrideUnit, compact_strides};

/// The number of threads is the process's: tests that set it take turns.
static SETTING: Mutex<()> = Mutex::new(());

const OPTIONS: CopyOptions = CopyOptions::new(OnLoss::Error);

fn operand<'a>(data: *mut u8, dtype: DType, shape: &'a [i64], strides: &'a [i64]) -> Operand<'a> {
    Operand { data, dtype, layout: Layout { shape, strides }, unit: StrideUnit::Elements, traits: Lazy::empty() }
}

/// Transposes and widens 1100 x 1300 integers of 2 bytes, and checks every one.
fn transpose_and_check() -> bool {
    let (rows, cols) = (1100usize, 1300usize);
    let mut source: Vec<i16> = (0..rows * cols).map(|i| (i * 31) as i16).collect();
    let mut target = vec![0f32; rows * cols];
    let shape = [cols as i64, rows as i64];
    let src = operand(source.as_mut_ptr().cast(), DType::I16, &shape, &[1, 1300]);
    let dst = operand(target.as_mut_ptr().cast(), DType::F32, &shape, &[1100, 1]);
    // SAFETY: both vectors hold the layouts' elements, with the type that the dtype says.
    let copied = unsafe { copy(&dst, &src, &OPTIONS) };
    copied == Ok(()) && (0..rows * cols).all(|i| target[i] == f32::from(source[i % rows * cols + i / rows]))
}

#[test]
fn one_thread_or_several_copy_the_same_and_count_every_loss() {
    let _turn = SETTING.lock();
    for threads in [1, 2, 3, 5] {
        set_num_threads(threads);
        assert_eq!(num_threads(), threads);
        assert!(transpose_and_check(), "{threads} threads");
        let n = 3_000_001usize;
        let mut source: Vec<i32> = (0..n as i32).collect();
        let mut target = vec![0u16; n];
        let shape = [n as i64];
        let src = operand(source.as_mut_ptr().cast(), DType::I32, &shape, &[1]);
        let dst = operand(target.as_mut_ptr().cast(), DType::U16, &shape, &[1]);
        // SAFETY: as above.
        match unsafe { copy(&dst, &src, &OPTIONS) } {
            Err(CopyError::Loss(loss)) => {
                assert_eq!((loss.count, loss.first_index[0]), ((n - 65_536) as u64, 65_536), "{threads} threads");
            }
            other => panic!("{other:?}"),
        }
    }
    set_num_threads(0);
    assert!(num_threads() >= 1);
}

/// Copies of middle size are shared with a helper while they follow one another.
#[test]
#[cfg(target_os = "linux")]
fn copies_that_follow_one_another_are_shared_from_a_quarter_of_a_mebibyte_on() {
    let _turn = SETTING.lock();
    set_num_threads(2);
    // Helpers are there from the first copy on that is shared.
    let helpers = || {
        let tasks = std::fs::read_dir("/proc/self/task").expect("Linux").flatten();
        let names = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("comm")).ok());
        names.filter(|name| name.starts_with("freehold-copy")).count()
    };
    // Every other one, since a run of so few bytes needs no plan, and is never shared.
    let source: Vec<i32> = (0..2 * 90_007).map(|i| i % 65_536).collect();
    let repeat = |n: usize, until: &dyn Fn(usize) -> bool| {
        let (shape, mut target) = ([n as i64], vec![0u16; n]);
        let src = operand(source.as_ptr().cast_mut().cast(), DType::I32, &shape, &[2]);
        let dst = operand(target.as_mut_ptr().cast(), DType::U16, &shape, &[1]);
        for _ in (0..).take_while(|round| !until(*round)) {
            // SAFETY: both vectors hold the layout's elements, with the type that the dtype says.
            assert_eq!(unsafe { copy(&dst, &src, &OPTIONS) }, Ok(()));
        }
        assert!((0..n).all(|i| i32::from(target[i]) == source[2 * i]));
    };
    let before = helpers();
    repeat(60_000, &|round| round == 2000);
    assert_eq!(helpers(), before, "small copies start nobody");
    let start = std::time::Instant::now();
    // To look takes longer than a helper stays awake: most copies follow another at once.
    repeat(90_007, &|round| round % 50 == 49 && (helpers() > 0 || start.elapsed().as_secs() > 60));
    assert!(helpers() > 0, "a copy was shared");
    set_num_threads(0);
}

/// A transpose of integers of 4 bytes between memory whose rows are further apart than they are long, from and to any
/// element; nothing between the rows is written.
fn transpose_four_bytes(rows: usize, cols: usize, pad: [usize; 2], offset: [usize; 2]) -> bool {
    let (from, to) = (rows + pad[0], cols + pad[1]);
    let mut source: Vec<u32> = (0..(offset[0] + cols * from) as u32).map(|i| i.wrapping_mul(2_654_435_761)).collect();
    let mut target = vec![!0u32; offset[1] + rows * to];
    let shape = [rows as i64, cols as i64];
    let (src_strides, dst_strides) = ([1, from as i64], [to as i64, 1]);
    let src = operand(source[offset[0]..].as_mut_ptr().cast(), DType::U32, &shape, &src_strides);
    let dst = operand(target[offset[1]..].as_mut_ptr().cast(), DType::U32, &shape, &dst_strides);
    // SAFETY: both vectors hold the layouts' elements from their offsets on.
    let copied = unsafe { copy(&dst, &src, &OPTIONS) };
    let expected = |i: usize| match i.checked_sub(offset[1]).map(|i| (i / to, i % to)) {
        Some((row, col)) if col < cols => source[offset[0] + col * from + row],
        _ => !0,
    };
    copied == Ok(()) && target.iter().enumerate().all(|(i, value)| *value == expected(i))
}

#[test]
fn matrices_are_transposed_whole_and_with_every_rest() {
    let _turn = SETTING.lock();
    for threads in [1, 2] {
        set_num_threads(threads);
        // Around the sides of 16 and of 64; past the size from which whole lines are streamed; and rows that are none.
        for (rows, cols) in [(40, 300), (300, 40), (333, 257), (1024, 1024), (1031, 1017), (1000, 1503), (640, 2000)] {
            for (pad, offset) in
                [([0, 0], [0, 0]), ([0, 0], [1, 3]), ([5, 3], [2, 1]), ([16, 16], [4, 12]), ([3, 8], [0, 8])]
            {
                let pad = if cols == 1017 && pad[1] == 3 { [pad[0], 7] } else { pad }; // 1017 + 7: whole lines
                let done = transpose_four_bytes(rows, cols, pad, offset);
                assert!(done, "{rows} x {cols}, {pad:?} between rows, from {offset:?}, {threads} threads");
            }
        }
    }
    set_num_threads(0);
}

#[test]
#[cfg(target_os = "linux")]
fn a_forked_child_copies_with_threads_of_its_own() {
    unsafe extern "C" {
        fn fork() -> i32;
        fn waitpid(process: i32, status: *mut i32, options: i32) -> i32;
        fn _exit(status: i32) -> !;
        fn alarm(seconds: u32) -> u32;
    }
    let _turn = SETTING.lock();
    set_num_threads(3);
    assert!(transpose_and_check(), "the parent's pool is there");
    // SAFETY: the child calls nothing that the parent's other threads could hold a lock of, except the allocator,
    // whose locks glibc resets; it ends without running anybody's destructors, or is killed if it hangs.
    let child = unsafe { fork() };
    if child == 0 {
        // SAFETY: as above.
        unsafe {
            alarm(60);
            _exit(if transpose_and_check() && transpose_and_check() { 7 } else { 1 });
        }
    }
    let mut status = 0;
    // SAFETY: waits for the child just made.
    assert_eq!(unsafe { waitpid(child, &mut status, 0) }, child);
    assert_eq!(status, 7 << 8, "the child copied and said so");
    assert!(transpose_and_check(), "the parent's pool still works");
    set_num_threads(0);
}

/// Describes a copy into C order of a permuted C-ordered source.
fn permuted(from: DType, to: DType, shape: &[i64], order: &[usize]) -> String {
    let strides = compact_strides(shape, Order::C).expect("small");
    let shape: Vec<i64> = order.iter().map(|&i| shape[i]).collect();
    let strides: Vec<i64> = order.iter().map(|&i| strides[i]).collect();
    strided(from, to, &shape, &strides)
}

/// Describes a copy into C order of a source with these strides.
fn strided(from: DType, to: DType, shape: &[i64], strides: &[i64]) -> String {
    let compact = compact_strides(shape, Order::C).expect("small");
    let null = std::ptr::null_mut();
    let described = describe(&operand(null, to, shape, &compact), &operand(null, from, shape, strides), &OPTIONS);
    let text = described.map_or_else(|e| e.to_string(), |d| d.to_string());
    text.replace(simd_level(), "LEVEL")
}

#[test]
fn copies_are_described_before_they_are_made() {
    let _turn = SETTING.lock();
    set_num_threads(2);
    let (u8, f16, f32, bf16, c64) = (DType::U8, DType::F16, DType::F32, DType::BF16, DType::C64);
    let streams = cfg!(target_arch = "x86_64");
    for (described, expected) in [
        (permuted(f32, f32, &[3, 4, 5], &[0, 1, 2]), "run, f32, LEVEL"),
        (permuted(f32, bf16, &[3, 4, 5], &[0, 1, 2]), "run, f32 -> bf16, LEVEL"),
        (permuted(f32, bf16, &[1 << 20], &[0]), "run, f32 -> bf16, LEVEL, 2 threads"),
        (permuted(f32, f32, &[1 << 24], &[0]), "run, f32, LEVEL, streamed, 2 threads"),
        (permuted(f32, f32, &[8192, 8192], &[1, 0]), "tiles 128x64, f32, LEVEL, streamed, 2 threads"),
        (permuted(f32, f32, &[4096, 4096], &[1, 0]), "tiles 16x256, f32, LEVEL, streamed, 2 threads"),
        (permuted(f32, bf16, &[4096, 4096], &[1, 0]), "tiles 128x128, f32 -> bf16, LEVEL, streamed, 2 threads"),
        (permuted(f16, f16, &[40, 50], &[1, 0]), "tiles 50x40, f16, LEVEL"),
        (permuted(u8, f32, &[2, 224, 224, 17], &[0, 3, 1, 2]), "tiles 17x192, u8 -> f32, LEVEL, streamed, 2 threads"),
        (permuted(f32, f32, &[6, 2, 5, 7], &[1, 0, 2, 3]), "rows, f32, LEVEL"),
        (strided(f32, f32, &[100, 100], &[0, 1]), "rows, f32, LEVEL"),
        (strided(f32, bf16, &[100, 100], &[0, 1]), "repeat, f32 -> bf16, LEVEL"),
        (strided(f32, f32, &[100, 3], &[0, 1]), "repeat, f32, LEVEL"),
        (strided(f32, bf16, &[100, 100], &[1, 0]), "fill, f32 -> bf16, LEVEL"),
        (strided(f32, f32, &[100], &[-1]), "strided, f32, LEVEL"),
        (strided(c64, c64, &[100], &[3]), "strided, c64, LEVEL"),
        (strided(f32, f32, &[0, 3], &[9, 9]), "empty, f32, LEVEL"),
        (strided(c64, f32, &[2], &[1]), "a copy of c64 into f32"),
    ] {
        // Whole tiles are turned where they lie from AVX2 on; with AVX-512 not by one line of the cache of each line.
        let expected = match simd_level() {
            "baseline" => expected.replace("128x64", "32x32").replace("128x128", "32x64").replace("16x256", "32x32"),
            "avx2" => expected.to_owned(),
            _ => expected.replace("16x256", "128x64"),
        };
        let expected = if streams { expected } else { expected.replace(", streamed", "") };
        if expected.starts_with("a copy") {
            assert!(!described.contains("LEVEL"), "refused: {described}");
        } else if described != expected && !streams {
            // A tile that would be streamed has another shape where nothing is: the rest says the same.
            let rest = |text: &str| text.split_once(", ").map(|(_, rest)| rest.to_owned());
            assert!(described.starts_with("tiles "), "{described}");
            assert_eq!(rest(&described), rest(&expected));
        } else {
            assert_eq!(described, expected);
        }
    }
    // Pixels: kernels of their own where the machine can pick bytes.
    let pixels = permuted(u8, u8, &[2, 224, 224, 3], &[0, 3, 1, 2]);
    let planes = permuted(u8, u8, &[2, 3, 224, 224], &[0, 2, 3, 1]);
    let class = |picks, plain| if simd_level() == "baseline" { plain } else { picks };
    assert!(pixels.starts_with(class("split 3x", "tiles 3x")), "{pixels}");
    assert!(planes.starts_with(class("join ", "tiles ")), "{planes}");
    set_num_threads(0);
}
