//! `FREEHOLD_LEDGER=path`: the default ledger is written when the process ends.
//!
//! In C and Rust it is written by `atexit`; Python's own exit comes first and writes while its objects still live. It is
//! written once, by whichever is first, so that a crash in what comes between loses nothing. A process that a signal or
//! `_exit` ends writes nothing.
//!
//! ```
//! use freehold::{Dialect, Tensor, exit};
//!
//! let path = std::env::temp_dir().join(format!("freehold-{}.json", std::process::id()));
//! // SAFETY: no other thread reads the environment meanwhile.
//! unsafe { std::env::set_var("FREEHOLD_LEDGER", &path) };
//! exit::face(Dialect::Rust); // what the advice is written in
//! exit::watch();
//! let t = Tensor::from(vec![1.0f32]);
//! exit::save(); // or the end of the process
//! assert!(std::fs::read_to_string(&path)?.contains("freehold.ledger/2"));
//! # std::fs::remove_file(&path)?;
//! # drop(t);
//! # std::io::Result::Ok(())
//! ```

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};

use freehold_ledger::{Dialect, Format};

use crate::runtime::LEDGER;

/// Where it is to be written, and by which process that was asked for.
struct Asked {
    path: PathBuf,
    pid: u32,
}

static ASKED: OnceLock<Option<Asked>> = OnceLock::new();
/// The process that has written its ledger; a forked child has not.
static WRITTEN: AtomicU32 = AtomicU32::new(0);

/// The face whose user reads what is written at exit, by its rank; see [`face`].
static FACE: AtomicU8 = AtomicU8::new(rank(Dialect::Rust));

/// A process has faces inside each other: Python's library has C's in it, and both are this crate. Whoever runs the process
/// wrote for the outermost, in whatever order they are called first.
const fn rank(face: Dialect) -> u8 {
    match face {
        Dialect::Rust => 0,
        Dialect::C => 1,
        Dialect::Python => 2,
    }
}

/// Says which face this process uses, for the advice in what is written at exit. Called often by C, so it only reads
/// where that is known.
#[inline]
pub fn face(dialect: Dialect) {
    if FACE.load(Ordering::Relaxed) < rank(dialect) {
        FACE.fetch_max(rank(dialect), Ordering::Relaxed);
    }
}

fn reader() -> Dialect {
    let of = FACE.load(Ordering::Relaxed);
    [Dialect::Python, Dialect::C].into_iter().find(|face| rank(*face) == of).unwrap_or(Dialect::Rust)
}

/// Has the default ledger written when the process ends, if `FREEHOLD_LEDGER` says so. Done by the first record, too;
/// only the first call reads the variable.
pub fn watch() {
    ASKED.get_or_init(|| {
        let asked = asked()?;
        register();
        Some(asked)
    });
}

fn asked() -> Option<Asked> {
    let pid = std::process::id();
    let text = std::env::var_os("FREEHOLD_LEDGER").filter(|text| !text.is_empty())?;
    let path = match text.to_str() {
        Some(text) => PathBuf::from(text.replace("%p", &pid.to_string())),
        None => PathBuf::from(text),
    };
    if Format::of_path(&path).is_none() {
        let ends: Vec<&str> = Format::ALL.iter().map(|format| format.extension()).collect();
        let (path, ends) = (path.display(), ends.join(" "));
        eprintln!("freehold: FREEHOLD_LEDGER: {path} must end in one of {ends}; the ledger is not written at exit");
        return None;
    }
    // The program may change its working directory.
    let path = std::path::absolute(&path).unwrap_or(path);
    Some(Asked { path, pid })
}

/// Writes the default ledger where `FREEHOLD_LEDGER` says, unless this process has done so.
pub fn save() {
    let Some(Some(asked)) = ASKED.get() else { return };
    let pid = std::process::id();
    if WRITTEN.swap(pid, Ordering::Relaxed) == pid {
        return;
    }
    let path = if pid == asked.pid { asked.path.clone() } else { of_child(&asked.path, pid) };
    if let Err(error) = LEDGER.snapshot().in_dialect(reader()).save(&path) {
        eprintln!("freehold: FREEHOLD_LEDGER: {} could not be written: {error}", path.display());
    }
}

/// `ledger.trace.json` of process 12 is `ledger.12.trace.json`.
fn of_child(path: &Path, pid: u32) -> PathBuf {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let extension = Format::of_path(path).map_or(0, |format| format.extension().len());
    let (stem, extension) = name.split_at(name.len().saturating_sub(extension));
    path.with_file_name(format!("{stem}.{pid}{extension}"))
}

#[cfg(all(unix, not(miri)))]
fn register() {
    extern "C" fn at_exit() {
        // A panic must not unwind into the C library, and there is nobody left to tell of one.
        let _ = std::panic::catch_unwind(save);
    }
    // SAFETY: the function is static and unwinds nowhere. That the registration fails (no memory) leaves a file unwritten.
    unsafe { libc::atexit(at_exit) };
}

#[cfg(not(all(unix, not(miri))))]
fn register() {}

#[cfg(test)]
mod tests {
    use super::*;

    /// The order of the calls says nothing: C++ beside Python may call before Python's library is imported, or after.
    #[test]
    fn the_outermost_face_reads_what_is_written_at_exit() {
        assert_eq!(reader(), Dialect::Rust);
        for (called, reads) in [
            (Dialect::C, Dialect::C),
            (Dialect::Rust, Dialect::C),
            (Dialect::Python, Dialect::Python),
            (Dialect::C, Dialect::Python),
        ] {
            face(called);
            assert_eq!(reader(), reads);
        }
    }

    #[test]
    fn a_childs_file_has_its_number_before_the_extension() {
        let of = |path: &str| of_child(Path::new(path), 12).to_string_lossy().into_owned();
        assert_eq!(of("/tmp/ledger.json"), "/tmp/ledger.12.json");
        assert_eq!(of("a.b.trace.json"), "a.b.12.trace.json");
        assert_eq!(of("x/.html"), "x/.12.html");
    }
}
