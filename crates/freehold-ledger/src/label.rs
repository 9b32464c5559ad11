//! Interned names: frameworks and call sites as four bytes.
//!
//! A record holds labels, not strings, so that opening one copies no text. The table is one per process, only ever
//! grows, and is bounded. It takes no lock: a thread that is stopped in the middle of an insertion (by `fork`, by a
//! signal) cannot block another.

use std::fmt;

use crate::sync::{AtomicPtr, AtomicU32, Ordering};

/// A short name that was interned: a framework (`numpy`) or a call site (`train.py:31`).
///
/// ```
/// use freehold_ledger::Label;
///
/// let site = Label::intern("train.py:31");
/// assert_eq!((site, site.as_str()), (Label::intern("train.py:31"), "train.py:31"));
/// assert_eq!(Label::intern("numpy"), Label::NUMPY);
/// assert_eq!((Label::well_known(b"torch"), Label::well_known(b"abacus")), (Some(Label::TORCH), None));
/// assert!(Label::NONE.is_none() && Label::NONE.as_str().is_empty());
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Label(u32);

/// The most names that [`Label::intern`] keeps, the well-known ones not counted.
///
/// ```
/// use freehold_ledger::{Label, MAX_LABELS};
///
/// for n in 0..MAX_LABELS {
///     Label::intern(&n.to_string());
/// }
/// assert_eq!(Label::intern("one too many"), Label::OTHER);
/// assert_eq!(Label::intern("7").as_str(), "7");
/// ```
pub const MAX_LABELS: u32 = 65_536;

/// The most bytes of a name that are kept; a longer one is cut at a character boundary.
///
/// ```
/// use freehold_ledger::{Label, MAX_LABEL_BYTES};
///
/// assert_eq!(Label::intern(&"x".repeat(MAX_LABEL_BYTES + 1)).as_str().len(), MAX_LABEL_BYTES);
/// ```
pub const MAX_LABEL_BYTES: usize = 1024;

macro_rules! well_known {
    ($($(#[$doc:meta])* $name:ident = $number:literal, $text:literal;)*) => {
        impl Label { $($(#[$doc])* pub const $name: Label = Label($number);)* }

        const WELL_KNOWN: &[&str] = &[$($text),*];
    };
}

well_known! {
    /// No name was given.
    NONE = 0, "";
    /// The caller did not say which framework it is.
    UNKNOWN = 1, "unknown";
    /// Stands for every name after the table is full.
    OTHER = 2, "(other)";
    /// Freehold itself.
    FREEHOLD = 3, "freehold";
    /// NumPy.
    NUMPY = 4, "numpy";
    /// PyTorch.
    TORCH = 5, "torch";
    /// JAX.
    JAX = 6, "jax";
    /// TensorFlow.
    TENSORFLOW = 7, "tensorflow";
    /// CuPy.
    CUPY = 8, "cupy";
    /// Paddle.
    PADDLE = 9, "paddle";
    /// MLX.
    MLX = 10, "mlx";
    /// Arrow.
    PYARROW = 11, "pyarrow";
    /// TVM FFI.
    TVM_FFI = 12, "tvm_ffi";
    /// pandas.
    PANDAS = 13, "pandas";
    /// An object with the buffer protocol and nothing else.
    BUFFER = 14, "buffer";
    /// A caller in C that gave no name.
    C = 15, "c";
    /// A caller in C++ that gave no name.
    CPP = 16, "c++";
    /// A caller in Rust that gave no name.
    RUST = 17, "rust";
    /// A caller in Python that gave no name.
    PYTHON = 18, "python";
}

/// Names start here; below are the well-known ones and room for more of them.
const FIRST: u32 = 64;
/// Twice as many places as names, so that a probe stays short. Miri needs seconds to set up a large table.
const PLACES: usize = if cfg!(loom) {
    8
} else if cfg!(miri) {
    1 << 10
} else {
    2 * MAX_LABELS as usize
};

/// An interned name; never freed.
struct Entry {
    hash: u64,
    text: Box<str>,
}

#[cfg(not(loom))]
static TABLE: [AtomicPtr<Entry>; PLACES] = [const { AtomicPtr::new(std::ptr::null_mut()) }; PLACES];
#[cfg(not(loom))]
static COUNT: AtomicU32 = AtomicU32::new(0);
#[cfg(loom)]
loom::lazy_static! {
    static ref TABLE: [AtomicPtr<Entry>; PLACES] = std::array::from_fn(|_| AtomicPtr::new(std::ptr::null_mut()));
    static ref COUNT: AtomicU32 = AtomicU32::new(0);
}

/// The first eight bytes of the well-known names, for those that have no more.
const KEYS: [u64; WELL_KNOWN.len()] = {
    let mut keys = [u64::MAX; WELL_KNOWN.len()];
    let mut i = 0;
    while i < keys.len() {
        let name = WELL_KNOWN[i].as_bytes();
        if name.len() <= 8 {
            let (mut word, mut at) = ([0; 8], 0);
            while at < name.len() {
                word[at] = name[at];
                at += 1;
            }
            keys[i] = u64::from_le_bytes(word);
        }
        i += 1;
    }
    keys
};

/// Where a key would be in [`SLOTS`].
const fn slot(key: u64, multiplier: u64) -> usize {
    (key.wrapping_mul(multiplier) >> 58) as usize
}

/// The first odd number that sends every key to a slot of its own.
const MULTIPLIER: u64 = {
    let mut multiplier = 0x9E37_79B9_7F4A_7C15;
    'search: loop {
        let (mut taken, mut i) = (0_u64, 0);
        while i < KEYS.len() {
            if KEYS[i] != u64::MAX {
                let bit = 1 << slot(KEYS[i], multiplier);
                if taken & bit != 0 {
                    multiplier += 2;
                    continue 'search;
                }
                taken |= bit;
            }
            i += 1;
        }
        break multiplier;
    }
};

/// The well-known name at each slot: its key and its number.
const SLOTS: [(u64, u32); 64] = {
    let mut slots = [(u64::MAX, 0); 64];
    let mut i = 0;
    while i < KEYS.len() {
        if KEYS[i] != u64::MAX {
            slots[slot(KEYS[i], MULTIPLIER)] = (KEYS[i], i as u32);
        }
        i += 1;
    }
    slots
};

impl Label {
    #[inline]
    fn of_key(key: u64) -> Option<Label> {
        let (known, number) = SLOTS[slot(key, MULTIPLIER)];
        (known == key).then_some(Label(number))
    }

    /// The label of a short well-known name, which is what callers pass most; `None` for any other.
    #[inline]
    pub fn well_known(name: &[u8]) -> Option<Label> {
        // The length too: a name may end with NUL.
        if name.len() > 8 || name.last() == Some(&0) {
            return None;
        }
        Label::of_key(name.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte)))
    }

    /// As [`Label::well_known`], of a C string, which is read no further than needed.
    ///
    /// ```
    /// use freehold_ledger::Label;
    ///
    /// // SAFETY: a C string.
    /// assert_eq!(unsafe { Label::well_known_in_c(c"jax".as_ptr()) }, Some(Label::JAX));
    /// ```
    ///
    /// # Safety
    ///
    /// * `text` points to readable bytes up to a NUL.
    #[inline]
    pub unsafe fn well_known_in_c(text: *const std::ffi::c_char) -> Option<Label> {
        let mut key = 0;
        for i in 0..9 {
            // SAFETY: no byte before this one was NUL.
            let byte = unsafe { text.cast::<u8>().add(i).read() };
            if byte == 0 {
                return Label::of_key(key);
            }
            if i < 8 {
                key |= u64::from(byte) << (8 * i);
            }
        }
        None
    }

    /// The label of a name. The same name gives the same label for the life of the process.
    ///
    /// The table keeps [`MAX_LABELS`] names of at most [`MAX_LABEL_BYTES`] bytes; after that every new name is
    /// [`Label::OTHER`].
    pub fn intern(name: &str) -> Label {
        if let Some(label) = Label::well_known(name.as_bytes()) {
            return label;
        }
        let name = clip(name);
        if let Some(i) = WELL_KNOWN.iter().position(|known| *known == name) {
            return Label(i as u32);
        }
        let hash = hash(name.as_bytes());
        let mut made: *mut Entry = std::ptr::null_mut();
        let mut place = hash as usize % PLACES;
        let label = loop {
            let found = TABLE[place].load(Ordering::Acquire);
            if found.is_null() {
                if made.is_null() {
                    if COUNT.fetch_add(1, Ordering::Relaxed) as usize >= PLACES / 2 {
                        COUNT.fetch_sub(1, Ordering::Relaxed);
                        return Label::OTHER;
                    }
                    made = Box::into_raw(Box::new(Entry { hash, text: name.into() }));
                }
                let empty = std::ptr::null_mut();
                match TABLE[place].compare_exchange(empty, made, Ordering::AcqRel, Ordering::Acquire) {
                    Ok(_) => return Label(FIRST + place as u32),
                    // Another thread took the place; it may have brought the same name.
                    Err(_) => continue,
                }
            }
            // SAFETY: a non-null pointer in the table came from `Box::into_raw` above and is never freed or changed.
            let entry = unsafe { &*found };
            if entry.hash == hash && *entry.text == *name {
                break Label(FIRST + place as u32);
            }
            place = (place + 1) % PLACES;
        };
        if !made.is_null() {
            COUNT.fetch_sub(1, Ordering::Relaxed);
            // SAFETY: `made` came from `Box::into_raw` in this call and was not put into the table.
            drop(unsafe { Box::from_raw(made) });
        }
        label
    }

    /// The name.
    pub fn as_str(self) -> &'static str {
        if self.0 < FIRST {
            return WELL_KNOWN.get(self.0 as usize).copied().unwrap_or("");
        }
        let Some(place) = TABLE.get((self.0 - FIRST) as usize) else { return "" };
        let entry = place.load(Ordering::Acquire);
        if entry.is_null() {
            return "";
        }
        // SAFETY: a non-null pointer in the table came from `Box::into_raw` and is never freed or changed.
        unsafe { &(*entry).text }
    }

    /// Whether no name was given.
    pub const fn is_none(self) -> bool {
        self.0 == 0
    }

    pub(crate) const fn number(self) -> u32 {
        self.0
    }

    pub(crate) const fn from_number(number: u32) -> Label {
        Label(number)
    }
}

/// The name, cut at a character boundary if it is too long.
fn clip(name: &str) -> &str {
    if name.len() <= MAX_LABEL_BYTES {
        return name;
    }
    let end = (0..=MAX_LABEL_BYTES).rev().find(|&i| name.is_char_boundary(i)).unwrap_or(0);
    &name[..end]
}

fn hash(bytes: &[u8]) -> u64 {
    const MULTIPLIER: u64 = 0x9E37_79B9_7F4A_7C15;
    let mut state = bytes.len() as u64;
    for chunk in bytes.chunks(8) {
        let mut word = [0u8; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        let product = u128::from(state ^ u64::from_le_bytes(word)) * u128::from(MULTIPLIER);
        state = (product as u64) ^ (product >> 64) as u64;
        state = state.wrapping_add(MULTIPLIER);
    }
    state ^ (state >> 32)
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.as_str())
    }
}

#[cfg(all(test, loom))]
mod model {
    use super::*;

    #[test]
    fn loom_threads_that_bring_one_name_get_one_label_and_find_the_name_there() {
        loom::model(|| {
            let others = ["one-name.py", "another.py"].map(|name| {
                loom::thread::spawn(move || {
                    let label = Label::intern(name);
                    assert_eq!(label.as_str(), name);
                    label
                })
            });
            let label = Label::intern("one-name.py");
            // Whatever is in the table is whole.
            (0..PLACES as u32).map(|place| Label(FIRST + place).as_str()).for_each(|name| {
                assert!(["", "one-name.py", "another.py"].contains(&name));
            });
            let [same, another] = others.map(|other| other.join().unwrap());
            assert!(same == label && another != label);
            assert_eq!(COUNT.load(Ordering::Relaxed), 2);
        });
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip() {
        for (i, name) in WELL_KNOWN.iter().enumerate() {
            assert_eq!(Label::intern(name), Label(i as u32));
            assert_eq!(Label(i as u32).as_str(), *name);
            let known = (name.len() <= 8).then_some(Label(i as u32));
            assert_eq!(Label::well_known(name.as_bytes()), known);
            let text = std::ffi::CString::new(*name).expect("no NUL");
            // SAFETY: a C string.
            assert_eq!(unsafe { Label::well_known_in_c(text.as_ptr()) }, known);
        }
        for other in ["c\0", "torchx", "torc", "\0", "tensorflow"] {
            assert_eq!(Label::well_known(other.as_bytes()), None, "{other:?}");
        }
        let site = Label::intern("model.py:12 in forward");
        assert_eq!(site.as_str(), "model.py:12 in forward");
        assert_eq!(Label::intern("model.py:12 in forward"), site);
        assert_ne!(Label::intern("model.py:13 in forward"), site);
        assert_eq!(Label::from_number(u32::MAX).as_str(), "");
    }

    #[test]
    fn a_long_name_is_cut_between_characters() {
        let long = "é".repeat(MAX_LABEL_BYTES);
        let label = Label::intern(&long);
        assert_eq!(label.as_str().len(), MAX_LABEL_BYTES);
        assert_eq!(Label::intern(&format!("x{long}")).as_str().len(), MAX_LABEL_BYTES - 1);
    }

    #[test]
    fn threads_agree() {
        let names: Vec<String> = (0..if cfg!(miri) { 8 } else { 500 }).map(|i| format!("agree-{i}")).collect();
        let labels: Vec<Vec<Label>> = std::thread::scope(|scope| {
            let workers: Vec<_> =
                (0..4).map(|_| scope.spawn(|| names.iter().map(|n| Label::intern(n)).collect::<Vec<_>>())).collect();
            workers.into_iter().map(|w| w.join().expect("no panic")).collect()
        });
        for (i, name) in names.iter().enumerate() {
            assert_eq!(labels[0][i].as_str(), name);
            assert!(labels.iter().all(|of_thread| of_thread[i] == labels[0][i]));
        }
    }
}
