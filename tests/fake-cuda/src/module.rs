//! Modules: the kernels that an image names, and their launches.

use std::sync::Arc;

use crate::kernels;
use crate::memory::{Launch, Memory, Params};
use crate::order::Touch;
use crate::state::State;
use crate::status::{Outcome, Status};

/// A loaded image.
pub struct Module {
    /// The device of its context.
    pub device: usize,
    /// The kernels that it has.
    pub entries: Vec<Entry>,
}

/// A kernel that an image has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its name.
    pub name: String,
    /// The bytes of each parameter, where the image says them.
    pub params: Option<Vec<usize>>,
}

/// A kernel that was asked for.
#[derive(Clone)]
pub struct Function {
    /// The module.
    pub module: usize,
    /// The device of its context.
    pub device: usize,
    /// The kernel.
    pub entry: Entry,
}

/// A launch with its arguments, as they were when it was asked for.
pub struct LaunchJob {
    /// The kernel.
    pub name: String,
    pub(crate) kernel: kernels::Kernel,
    pub(crate) grid: [u32; 3],
    pub(crate) block: [u32; 3],
    pub(crate) shared: u32,
    pub(crate) params: Params,
    pub(crate) device: usize,
}

impl LaunchJob {
    /// Runs the kernel on this thread.
    /// Gives the memory that it touched.
    pub fn run(self: &Arc<LaunchJob>) -> Outcome<Vec<Touch>> {
        let memory = Memory::of(self.device);
        let launch = Launch {
            name: &self.name,
            grid: self.grid,
            block: self.block,
            shared: self.shared,
            params: &self.params,
            memory: &memory,
        };
        (self.kernel)(&launch)?;
        Ok(memory.touches())
    }
}

/// The first bytes of an image that is no text.
const ELF: [u8; 4] = [0x7f, b'E', b'L', b'F'];

/// The kernels of an image.
///
/// # Safety
///
/// * `image` is text that a NUL ends, or a whole ELF file.
pub unsafe fn entries(state: &State, device: usize, image: *const u8) -> Outcome<Vec<Entry>> {
    if image.is_null() {
        return Err(Status::INVALID_VALUE);
    }
    // SAFETY: text has at least its NUL, and bytes are looked at one by one until one differs.
    let is_elf = (0..ELF.len()).all(|i| unsafe { image.add(i).read() } == ELF[i]);
    if is_elf {
        // SAFETY: the caller vouches for a whole file.
        return unsafe { cubin(image) }.ok_or(Status::INVALID_IMAGE);
    }
    // SAFETY: the caller vouches for the NUL.
    let text = unsafe { std::ffi::CStr::from_ptr(image.cast()) };
    let text = text.to_str().map_err(|_| Status::INVALID_IMAGE)?;
    let (version, target, entries) = ptx(text)?;
    if version > highest_ptx(state.version) {
        return Err(Status::UNSUPPORTED_PTX_VERSION);
    }
    let capability = state.attribute(device, 75)? * 10 + state.attribute(device, 76)?;
    if target > capability {
        return Err(Status::NO_BINARY_FOR_GPU);
    }
    Ok(entries)
}

/// The newest PTX that a driver of a CUDA version compiles, by the release notes: 87 is 8.7.
fn highest_ptx(version: i32) -> i32 {
    match (version / 1000, version % 1000 / 10) {
        (11, minor) => 70 + minor,
        (12, minor @ 0..=5) => 80 + minor,
        (12, minor) => 79 + minor,
        (major @ 13.., minor) => (major - 4) * 10 + minor,
        _ => 60,
    }
}

/// Version, target and kernels of PTX text.
fn ptx(text: &str) -> Outcome<(i32, i32, Vec<Entry>)> {
    let text = without_comments(text);
    let mut words = text.split_whitespace();
    if words.next() != Some(".version") {
        return Err(Status::INVALID_IMAGE);
    }
    let version = words.next().and_then(|word| {
        let (major, minor) = word.split_once('.')?;
        Some(major.parse::<i32>().ok()? * 10 + minor.parse::<i32>().ok()?)
    });
    let target = text.split(".target").nth(1).and_then(|rest| {
        let number = rest.trim_start().strip_prefix("sm_")?;
        number.split(|c: char| !c.is_ascii_digit()).next()?.parse::<i32>().ok()
    });
    let (version, target) = (version.ok_or(Status::INVALID_PTX)?, target.ok_or(Status::INVALID_PTX)?);
    if !text.contains(".address_size 64") {
        return Err(Status::INVALID_PTX);
    }
    let entries = text.split(".entry").skip(1).map(entry).collect::<Option<Vec<_>>>().ok_or(Status::INVALID_PTX)?;
    Ok((version, target, entries))
}

fn without_comments(text: &str) -> String {
    let mut left = text;
    let mut kept = String::with_capacity(text.len());
    while let Some(at) = left.find("//").into_iter().chain(left.find("/*")).min() {
        kept.push_str(&left[..at]);
        let end =
            if left[at..].starts_with("//") { left[at..].find('\n') } else { left[at..].find("*/").map(|i| i + 2) };
        left = end.map_or("", |end| &left[at + end..]);
    }
    kept.push_str(left);
    kept
}

/// The name and the parameters behind `.entry`.
fn entry(text: &str) -> Option<Entry> {
    let text = text.trim_start();
    let end = text.find(|c: char| c == '(' || c == '{' || c.is_whitespace())?;
    let (name, rest) = text.split_at(end);
    let rest = rest.trim_start();
    let mut params = Vec::new();
    if let Some(list) = rest.strip_prefix('(') {
        let list = list.split_once(')')?.0;
        for param in list.split(',').filter(|param| !param.trim().is_empty()) {
            let width = param.split_whitespace().filter_map(width).next()?;
            let count = match param.split_once('[') {
                Some((_, count)) => count.split(']').next()?.trim().parse().ok()?,
                None => 1,
            };
            params.push(width * count);
        }
    }
    Some(Entry { name: name.to_owned(), params: Some(params) })
}

/// The bytes of a type of PTX.
fn width(word: &str) -> Option<usize> {
    match word.strip_prefix('.')? {
        "b8" | "u8" | "s8" => Some(1),
        "b16" | "u16" | "s16" | "f16" => Some(2),
        "b32" | "u32" | "s32" | "f32" => Some(4),
        "b64" | "u64" | "s64" | "f64" => Some(8),
        _ => None,
    }
}

/// The kernels of a cubin: each has a section `.text.NAME`.
///
/// # Safety
///
/// * `image` is a whole ELF file.
unsafe fn cubin(image: *const u8) -> Option<Vec<Entry>> {
    // SAFETY: fields of the header and of sections that the file has, by its own words, which the caller vouches for.
    let bytes = |at: usize, len: usize| unsafe { std::slice::from_raw_parts(image.add(at), len) };
    let number = |at: usize, len: usize| bytes(at, len).iter().rev().fold(0_usize, |n, &byte| n << 8 | byte as usize);
    // 64 bits, little-endian.
    if number(4, 1) != 2 || number(5, 1) != 1 {
        return None;
    }
    let (table, size, count, names) = (number(40, 8), number(58, 2), number(60, 2), number(62, 2));
    if size < 64 || names >= count {
        return None;
    }
    let strings = number(table + names * size + 24, 8);
    let mut entries = Vec::new();
    for section in 0..count {
        let at = strings + number(table + section * size, 4);
        // SAFETY: a section's name ends with a NUL in the table of names.
        let name = unsafe { std::ffi::CStr::from_ptr(image.add(at).cast()) }.to_str().ok()?;
        if let Some(name) = name.strip_prefix(".text.") {
            entries.push(Entry { name: name.to_owned(), params: None });
        }
    }
    Some(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_and_parameters_are_read_from_ptx() {
        let text = "// made\n/* a\n.entry no */\n.version 8.0\n.target sm_75, debug\n.address_size 64\n\
            .visible .entry one(\n.param .u64 .ptr .global .align 16 one_param_0,\n.param .align 8 .b8 one_param_1[48],\n\
            .param .f32 one_param_2\n)\n.maxntid 256, 1, 1\n{ ret; }\n.entry two\n{ ret; }\n.entry three(){ret;}";
        let (version, target, entries) = ptx(text).expect("well formed");
        assert_eq!((version, target), (80, 75));
        let found: Vec<_> =
            entries.iter().map(|entry| (entry.name.as_str(), entry.params.clone().expect("said"))).collect();
        assert_eq!(found, [("one", vec![8, 48, 4]), ("two", vec![]), ("three", vec![])]);
        assert_eq!(ptx("hello"), Err(Status::INVALID_IMAGE));
        assert_eq!(ptx(".version 8.0\n.target compute\n.address_size 64"), Err(Status::INVALID_PTX));
    }

    #[test]
    fn drivers_know_ptx_up_to_their_version() {
        let known = [(11020, 72), (12000, 80), (12050, 85), (12060, 85), (12080, 87), (12090, 88), (13000, 90)];
        for (version, ptx) in known {
            assert_eq!(highest_ptx(version), ptx, "{version}");
        }
    }
}
