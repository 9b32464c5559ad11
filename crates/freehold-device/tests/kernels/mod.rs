//! Compiles the kernels for the processor, launches them there, and holds what they write to what the copy engine writes.

use std::ffi::{CStr, c_char};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::ptr;
use std::sync::{Mutex, PoisonError};

use freehold_device::cuda::launch::{Launch, Module, plan, plan_fill};
use freehold_device::cuda::walk::Walk;
use freehold_tensor::copy::{self, CopyError, CopyOptions, Lazy, Operand};
use freehold_tensor::{DType, Layout, StrideUnit};
use libloading::Library;

/// One side of a copy, without its memory.
#[derive(Clone, Debug)]
pub struct Spec {
    pub dtype: DType,
    pub strides: Vec<i64>,
    pub unit: StrideUnit,
    pub traits: Lazy,
    /// Bytes by which the memory begins after a multiple of 16.
    pub shift: usize,
}

impl Spec {
    pub fn of(dtype: DType, strides: &[i64]) -> Spec {
        Spec { dtype, strides: strides.to_vec(), unit: StrideUnit::Elements, traits: Lazy::empty(), shift: 0 }
    }

    /// Axes in any order, with gaps, backwards, and (of a source) repeated.
    pub fn random(dtype: DType, shape: &[i64], is_source: bool, rng: &mut Rng) -> Spec {
        let mut order: Vec<usize> = (0..shape.len()).collect();
        if rng.below(2) == 0 {
            for i in (1..order.len()).rev() {
                order.swap(i, rng.below(i as u64 + 1) as usize);
            }
        }
        let size = dtype.padded_size() as i64;
        let bytes = rng.below(4) == 0;
        let gaps = rng.below(3);
        let mut strides = vec![0; shape.len()];
        let mut step = if bytes { size } else { 1 };
        for &axis in order.iter().rev() {
            let gap = if gaps == 0 && rng.below(2) == 0 { rng.below(5) as i64 } else { 0 };
            strides[axis] = step + gap;
            step = strides[axis] * shape[axis].max(1);
            match rng.below(10) {
                0 => strides[axis] = -strides[axis],
                1 if is_source => strides[axis] = 0,
                _ => {}
            }
        }
        let unit = if bytes { StrideUnit::Bytes } else { StrideUnit::Elements };
        let shift = if rng.below(3) == 0 { rng.below(16) as usize } else { 0 };
        Spec { dtype, strides, unit, traits: Lazy::empty(), shift }
    }

    fn layout<'a>(&'a self, shape: &'a [i64]) -> Layout<'a> {
        Layout::new(shape, &self.strides)
    }
}

/// Bytes from the lowest to the highest that a layout reaches.
pub fn reach(spec: &Spec, shape: &[i64]) -> usize {
    spec.layout(shape).extent(spec.dtype, false, spec.unit).expect("small").len() as usize
}

#[derive(Clone, Debug)]
pub struct Case {
    pub shape: Vec<i64>,
    pub src: Spec,
    pub dst: Spec,
    pub options: CopyOptions,
    /// The bytes of the source, from the lowest that it reaches; what is missing is zero.
    pub values: Vec<u8>,
}

/// What became of a case.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Seen {
    Ran(String),
    /// No elements, or the processor's engine refuses it with the same error.
    Nothing,
    Unsupported,
}

/// Bytes that end where a page begins that faults.
struct Guarded {
    map: *mut u8,
    len: usize,
    at: *mut u8,
    size: usize,
}

impl Guarded {
    /// The block begins `shift` bytes after a multiple of 16 where it ends up to 16 bytes before the page.
    fn new(size: usize, shift: usize, fill: u8) -> Guarded {
        let page = 4096;
        let len = (size + shift + 16).next_multiple_of(page) + page;
        // SAFETY: a new private mapping; its last page is made unreadable.
        let map = unsafe {
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
            let map = libc::mmap(ptr::null_mut(), len, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0);
            assert_ne!(map, libc::MAP_FAILED);
            assert_eq!(libc::mprotect(map.byte_add(len - page), page, libc::PROT_NONE), 0);
            map.cast::<u8>()
        };
        let end = map.wrapping_add(len - page);
        let at = end.wrapping_sub((size + shift).next_multiple_of(16)).wrapping_add(shift);
        let guarded = Guarded { map, len, at, size };
        // SAFETY: all but the last page is ours.
        unsafe { ptr::write_bytes(map, fill, len - page) };
        guarded
    }

    /// All bytes before the page, with those around the block.
    fn bytes(&self) -> &[u8] {
        // SAFETY: all but the last page is readable and initialised.
        unsafe { std::slice::from_raw_parts(self.map, self.len - 4096) }
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        // SAFETY: our mapping.
        unsafe { libc::munmap(self.map.cast(), self.len) };
    }
}

#[repr(C)]
struct Unaligned {
    file: *const c_char,
    line: u32,
    address: u64,
}

type HostLaunch = unsafe extern "C" fn(*const (), *const Walk, u32, i32, i32, *mut Unaligned) -> u64;

/// The kernels of every module.
pub struct Kernels([Library; 4]);

/// Compiles them, or says on the terminal that the test is skipped.
pub fn library(test: &str) -> Option<Kernels> {
    // The tests of one process take turns; those of others write files of other names.
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let compiler = std::env::var_os("CXX").unwrap_or_else(|| "c++".into());
    // A file for each version of the sources, so that tests of one run share what the first of them compiled.
    let mut hash = std::hash::DefaultHasher::new();
    let sources = ["cast.cuh", "walk.cuh", "contiguous.cu", "strided.cu", "turn.cu", "fill.cu"]
        .map(|name| root.join("kernels").join(name));
    for path in sources.iter().chain([&root.join("tests/kernels/host.cpp")]) {
        std::hash::Hash::hash(&std::fs::read(path).expect("a source of this crate"), &mut hash);
    }
    let version = std::hash::Hasher::finish(&hash);
    let mut libraries = Vec::new();
    for name in ["contiguous", "strided", "turn", "fill"] {
        let out = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("kernels-{name}-{version:016x}.so"));
        if !out.exists() && !compile(test, &compiler, root, name, &out) {
            return None;
        }
        // SAFETY: what was just compiled; it has no initialisers that do anything.
        libraries.push(unsafe { Library::new(&out) }.expect("a library that we compiled"));
    }
    libraries.try_into().ok().map(Kernels)
}

fn compile(test: &str, compiler: &std::ffi::OsStr, root: &Path, name: &str, out: &Path) -> bool {
    let (object, made) =
        (out.with_extension(format!("{}.o", std::process::id())), out.with_extension(std::process::id().to_string()));
    let mut build = Command::new(compiler);
    build.args(["-std=c++17", "-O1", "-fPIC", "-fno-strict-aliasing", "-ffp-contract=off", "-fsanitize=alignment"]);
    build.arg(format!("-DKERNELS=\"{name}.cu\"")).arg("-I").arg(root.join("kernels"));
    build.arg("-c").arg(root.join("tests/kernels/host.cpp")).arg("-o").arg(&object);
    // Linked without the sanitizer's library: its one function that is called is ours.
    let mut link = Command::new(compiler);
    link.arg("-shared").arg(&object).arg("-o").arg(&made);
    for mut command in [build, link] {
        match command.output() {
            Ok(done) if done.status.success() => {}
            Ok(done) => panic!("{name}.cu does not compile for the host: {}", String::from_utf8_lossy(&done.stderr)),
            Err(why) => {
                let text = format!("SKIP: {test}: no C++ compiler ({}: {why})", compiler.to_string_lossy());
                let forbidden = std::env::var_os("FREEHOLD_NO_SKIP").is_some_and(|value| !value.is_empty());
                assert!(!forbidden, "{text}");
                writeln!(std::io::stderr(), "{text}").expect("standard error is open");
                return false;
            }
        }
    }
    std::fs::remove_file(&object).expect("ours");
    std::fs::rename(&made, out).expect("the same folder");
    true
}

impl Kernels {
    fn run(&self, launch: &Launch, backwards: bool) {
        let library = &self.0[launch.module as usize];
        let mut error = Unaligned { file: ptr::null(), line: 0, address: 0 };
        // SAFETY: the function is there with this signature, and every kernel takes one `Walk` by value, whose addresses the
        // caller's layouts reach; that the kernel keeps to them is what is tested.
        let unaligned = unsafe {
            let host = library.get::<HostLaunch>(b"host_launch").expect("a function of host.cpp");
            let kernel = library.get::<unsafe extern "C" fn()>(launch.kernel.as_bytes());
            let kernel = *kernel.unwrap_or_else(|_| panic!("{} is not in its module", launch.kernel)) as *const ();
            let barriers = launch.module == Module::Turn;
            host(kernel, &raw const launch.walk, launch.blocks, barriers.into(), backwards.into(), &raw mut error)
        };
        if unaligned > 0 {
            // SAFETY: a string of the library.
            let file = unsafe { CStr::from_ptr(error.file) };
            panic!(
                "{unaligned} unaligned accesses, the first in {file:?}:{} at {:#x}, by {launch:?}",
                error.line, error.address
            );
        }
    }

    /// Makes a copy by both, and compares every byte.
    pub fn check(&self, case: &Case) -> Seen {
        let Case { shape, src, dst, options, values } = case;
        let side = |spec: &Spec, fill: u8| {
            let extent = spec.layout(shape).extent(spec.dtype, false, spec.unit).expect("small");
            let memory = Guarded::new(extent.len() as usize, spec.shift, fill);
            let first = memory.at.wrapping_add(extent.lo.unsigned_abs() as usize);
            (memory, first)
        };
        fn operand<'a>(spec: &'a Spec, shape: &'a [i64], data: *mut u8) -> Operand<'a> {
            Operand { data, dtype: spec.dtype, layout: spec.layout(shape), unit: spec.unit, traits: spec.traits }
        }
        let (source, first) = side(src, 0);
        // SAFETY: the block has this size.
        unsafe { ptr::copy_nonoverlapping(values.as_ptr(), source.at, values.len().min(source.size)) };
        let source_operand = operand(src, shape, first);
        let (want, at) = side(dst, 0xa5);
        // SAFETY: both blocks hold what their layouts reach, initialised; elements of the destination do not overlap.
        let engine = unsafe { copy::copy(&operand(dst, shape, at), &source_operand, options) };
        let mut kernel = String::new();
        for backwards in [false, true] {
            let (got, at) = side(dst, 0xa5);
            let planned = match (plan(&operand(dst, shape, at), &source_operand, options), &engine) {
                (Ok(planned), _) => planned,
                (Err(CopyError::Unsupported { .. }), _) => return Seen::Unsupported,
                (Err(error), Err(same)) if error == *same => return Seen::Nothing,
                (Err(error), _) => panic!("the plan says {error:?}, the engine {engine:?}: {case:?}"),
            };
            let Some(mut launch) = planned else {
                assert_eq!(engine, Ok(()), "{case:?}");
                return Seen::Nothing;
            };
            let mut lost = 0_u32;
            if launch.checks {
                launch.walk.lost = (&raw mut lost).expose_provenance() as u64;
            }
            self.run(&launch, backwards);
            let about = || format!("{launch:?} of {:?} -> {:?}, shape {shape:?}, {options:?}", src, dst);
            match &engine {
                Ok(()) => {
                    assert_eq!(lost, 0, "nothing is lost in {}", about());
                    let (a, b) = (got.bytes(), want.bytes());
                    if let Some(at) = (0..a.len()).find(|&i| a[i] != b[i]) {
                        let size = dst.dtype.padded_size();
                        let from = got.at.addr() - got.map.addr();
                        let element = from + (at - from) / size * size;
                        panic!(
                            "at byte {} is {:x?}, not {:x?}, in {}",
                            at - from,
                            &a[element..element + size],
                            &b[element..element + size],
                            about()
                        );
                    }
                }
                Err(CopyError::Loss(loss)) => {
                    assert!(launch.checks && lost == 1, "a loss is not seen: {loss} by {}", about());
                }
                Err(error) => panic!("the engine says {error}, and {} runs", about()),
            }
            kernel = launch.kernel;
            // The order of threads matters to those that share memory, if they miss a barrier.
            if launch.module != Module::Turn {
                break;
            }
        }
        Seen::Ran(kernel)
    }
}

impl Kernels {
    /// Fills, and compares every byte around and between with what writing one element after the other gives.
    pub fn check_fill(&self, spec: &Spec, shape: &[i64], value: &[u8]) -> Seen {
        let layout = spec.layout(shape);
        let extent = layout.extent(spec.dtype, false, spec.unit).expect("small");
        let memory = || Guarded::new(extent.len() as usize, spec.shift, 0xa5);
        let before = extent.lo.unsigned_abs() as usize;
        let (want, got) = (memory(), memory());
        let unit = if spec.unit == StrideUnit::Bytes { 1 } else { value.len() as i64 };
        let mut index = vec![0_i64; shape.len()];
        for _ in 0..layout.numel().expect("small") {
            let offset: i64 = index.iter().zip(&spec.strides).map(|(i, stride)| i * stride * unit).sum();
            // SAFETY: an element of the layout, in a block that has all of them.
            unsafe {
                let at = want.at.offset(before as isize + offset as isize);
                ptr::copy_nonoverlapping(value.as_ptr(), at, value.len());
            }
            for (i, n) in index.iter_mut().zip(shape).rev() {
                *i = (*i + 1) % n;
                if *i != 0 {
                    break;
                }
            }
        }
        let (dtype, unit, traits) = (spec.dtype, spec.unit, spec.traits);
        let operand = Operand { data: got.at.wrapping_add(before), dtype, layout, unit, traits };
        let launch = match plan_fill(&operand, value) {
            Ok(Some(launch)) => launch,
            Ok(None) => return Seen::Nothing,
            Err(CopyError::Unsupported { .. }) => return Seen::Unsupported,
            Err(error) => panic!("{error}: {spec:?}, shape {shape:?}"),
        };
        self.run(&launch, false);
        let wrong = got.bytes().iter().zip(want.bytes()).position(|(a, b)| a != b);
        let first = wrong.map(|at| at as isize - (got.at.addr() - got.map.addr()) as isize);
        assert_eq!(first, None, "the first wrong byte of {launch:?} of {spec:?}, shape {shape:?}");
        Seen::Ran(launch.kernel)
    }
}

/// All values of a dtype of up to 16 bits; of wider ones the edges of every other type, and what chance gives.
pub fn values(dtype: DType, rng: &mut Rng) -> Vec<u8> {
    let size = dtype.padded_size();
    match size {
        1 if dtype.is_bool() => vec![0, 1, 1, 0, 1],
        1 => (0..=u8::MAX).collect(),
        2 => (0..=u16::MAX).flat_map(u16::to_ne_bytes).collect(),
        _ => {
            let mut out = Vec::new();
            let mut put = |bits: u64| out.extend_from_slice(&bits.to_le_bytes()[..size]);
            let is_float = dtype.is_float();
            for exp in -160..160 {
                // Around powers of two, halves and the ties of every format between.
                for bits in [0, 1, 2, 3, 4, 7, 8, 10, 11, 23, 24, 31, 32, 52] {
                    for nudge in [-1_i64, 0, 1] {
                        let x = 2_f64.powi(exp) * (1.0 + 0.5_f64.powi(bits));
                        for x in [x, -x] {
                            match (is_float, size) {
                                (true, 4) => put(u64::from((x as f32).to_bits().wrapping_add_signed(nudge as i32))),
                                (true, _) => put(x.to_bits().wrapping_add_signed(nudge)),
                                (false, _) if (0..64).contains(&exp) => {
                                    put((x as i128 as i64).wrapping_add(nudge) as u64)
                                }
                                _ => {}
                            }
                        }
                    }
                }
            }
            for _ in 0..3000 {
                put(rng.next());
                put(rng.next() >> rng.below(64));
            }
            // NaN of either sign, quiet and not, with payloads in the top and the bottom; infinities and zeros.
            for bits in
                [0x7f80_0000_u64, 0x7fc0_0000, 0x7f80_0001, 0x7f80_2000, 0x7fa0_0000, 0x7fff_ffff, 0x7fe0_1234, 0, 1]
            {
                let wide = bits << 32 | 0x1234;
                let double = [
                    0x7ff0_0000_0000_0000,
                    0x7ff8_0000_0000_0000,
                    0x7ff0_0000_0000_0001,
                    0x7ff0_0400_0000_0000,
                    0x7fff_ffff_ffff_ffff,
                ];
                for bits in
                    [bits, bits | 0x8000_0000, wide].into_iter().chain(double).chain(double.map(|x| x | 1 << 63))
                {
                    put(bits);
                }
            }
            out
        }
    }
}

/// A xorshift generator, for cases that a seed brings back.
pub struct Rng(pub u64);

impl Rng {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let x = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ x >> 31
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len() as u64) as usize]
    }

    pub fn bytes(&mut self, n: usize) -> Vec<u8> {
        (0..n).map(|_| self.next() as u8).collect()
    }
}
