//! Where one road becomes faster than another: defaults, or what was measured on this machine and kept in a file.

use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock};

use crate::cuda::Context;

/// Where roads cross over, and how pageable memory is staged. Each field is brought into its range when it is used.
///
/// ```
/// use freehold_device::cuda::transfer::Tuning;
///
/// let tuning = Tuning::default();
/// assert_eq!((tuning.staged_from, tuning.piece, tuning.threads), (64 << 10, 2 << 20, 8));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Tuning {
    /// Bytes from which on pageable memory goes through page-locked slots of ours. Below, the driver copies it.
    pub staged_from: u64,
    /// The most bytes of a piece, and of a slot: 4 KiB to 64 MiB.
    pub piece: usize,
    /// The most threads that pack or unpack pieces: 1 to 16. What a call, or the process, allows may be fewer.
    pub threads: usize,
    /// The shortest row, in bytes, with which page-locked rows are copied as they lie. With shorter ones they are packed.
    pub pitched_from: u64,
    /// The same for runs that are copied in one batch.
    pub batched_from: u64,
}

impl Default for Tuning {
    fn default() -> Tuning {
        Tuning { staged_from: 64 << 10, piece: 2 << 20, threads: 8, pitched_from: 512, batched_from: 16 << 10 }
    }
}

impl Tuning {
    /// With every field in its range.
    fn clamped(self) -> Tuning {
        Tuning {
            piece: self.piece.clamp(4 << 10, 64 << 20),
            threads: self.threads.clamp(1, super::lanes::LANES),
            ..self
        }
    }

    fn fields(&self) -> [(&'static str, u64); 5] {
        [
            ("staged_from", self.staged_from),
            ("piece", self.piece as u64),
            ("threads", self.threads as u64),
            ("pitched_from", self.pitched_from),
            ("batched_from", self.batched_from),
        ]
    }

    /// The text of the file: a name and a number a line.
    fn to_text(self) -> String {
        let lines = self.fields().map(|(name, value)| format!("{name} {value}\n"));
        format!("{HEAD}\n{}", lines.concat())
    }

    /// `None` for a file of another version, or one that is not whole.
    fn from_text(text: &str) -> Option<Tuning> {
        let mut lines = text.lines();
        if lines.next() != Some(HEAD) {
            return None;
        }
        let lines: Vec<&str> = lines.collect();
        let get = |name: &str| {
            let value = lines.iter().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            value?.trim().parse::<u64>().ok()
        };
        let tuning = Tuning {
            staged_from: get("staged_from")?,
            piece: usize::try_from(get("piece")?).ok()?,
            threads: usize::try_from(get("threads")?).ok()?,
            pitched_from: get("pitched_from")?,
            batched_from: get("batched_from")?,
        };
        Some(tuning.clamped())
    }
}

/// The first line of a file, with the version of what follows.
const HEAD: &str = "freehold transfers 1";

/// The environment variable that names another folder for what is measured.
pub const CACHE_VARIABLE: &str = "FREEHOLD_CACHE_DIR";

struct Kept(RwLock<Tuning>);

fn kept(context: &'static Context) -> &'static Kept {
    context.room(|| {
        let read = path(context).and_then(|path| std::fs::read_to_string(path).ok());
        Kept(RwLock::new(read.and_then(|text| Tuning::from_text(&text)).unwrap_or_default()))
    })
}

/// What copies of a context go by: what was set, else what was measured on this machine before, else the defaults.
///
/// ```no_run
/// use freehold_device::cuda::Context;
/// use freehold_device::cuda::transfer::tuning;
///
/// assert!((1..=16).contains(&tuning(Context::of(0)?).threads));
/// # Ok::<(), freehold_device::cuda::CudaError>(())
/// ```
pub fn tuning(context: &'static Context) -> Tuning {
    *kept(context).0.read().unwrap_or_else(PoisonError::into_inner)
}

/// Changes what copies of a context go by, for this process. Fields are brought into their ranges.
///
/// ```no_run
/// use freehold_device::cuda::Context;
/// use freehold_device::cuda::transfer::{set_tuning, tuning};
///
/// let context = Context::of(0)?;
/// let mut changed = tuning(context);
/// changed.threads = 1000;
/// set_tuning(context, changed);
/// assert_eq!(tuning(context).threads, 16);
/// # Ok::<(), freehold_device::cuda::CudaError>(())
/// ```
pub fn set_tuning(context: &'static Context, tuning: Tuning) {
    *kept(context).0.write().unwrap_or_else(PoisonError::into_inner) = tuning.clamped();
}

/// Keeps what was measured for the next processes. `false` where it cannot be written, which is no failure.
pub(super) fn keep(context: &'static Context, tuning: Tuning) -> bool {
    set_tuning(context, tuning);
    path(context).is_some_and(|path| write(&path, &tuning.to_text()).is_ok())
}

/// Whole or not at all: another process may read it meanwhile.
fn write(path: &Path, text: &str) -> std::io::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let draft = path.with_extension(format!("{}.part", std::process::id()));
    std::fs::write(&draft, text)?;
    std::fs::rename(&draft, path).inspect_err(|_| _ = std::fs::remove_file(&draft))
}

/// The file of a device of this machine: the driver and the number of processors matter too.
fn path(context: &'static Context) -> Option<PathBuf> {
    let driver = context.driver();
    let device = driver.devices.get(usize::try_from(context.ordinal()).ok()?)?;
    let name: String = device.name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    Some(folder()?.join(format!("transfers-{name}-cuda{}-{processors}.txt", driver.version)))
}

fn folder() -> Option<PathBuf> {
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    // The XDG base directory specification: relative paths are to be ignored.
    absolute(CACHE_VARIABLE)
        .or_else(|| Some(absolute("XDG_CACHE_HOME")?.join("freehold")))
        .or_else(|| Some(absolute("HOME")?.join(".cache").join("freehold")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_reads_back_and_anything_else_is_nothing() {
        let tuning = Tuning { staged_from: 1, piece: 8192, threads: 3, pitched_from: 4, batched_from: 5 };
        assert_eq!(Tuning::from_text(&tuning.to_text()), Some(tuning));
        let text = tuning.to_text();
        for cut in 0..text.len() - 1 {
            // A number that is cut is another number, in the last line alone.
            let found = Tuning::from_text(&text[..cut]);
            assert!(found.is_none() || cut > text.rfind(' ').expect("a line"), "{cut}: {found:?}");
        }
        assert_eq!(Tuning::from_text("freehold transfers 2\npiece 4096\n"), None);
        let wild = text.replace("threads 3", "threads 99999").replace("piece 8192", "piece 1");
        let found = Tuning::from_text(&wild).expect("whole");
        assert_eq!((found.threads, found.piece), (super::super::lanes::LANES, 4096));
    }
}
