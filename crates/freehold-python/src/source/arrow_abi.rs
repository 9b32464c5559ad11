//! The structs of the Arrow C data and stream interfaces, and who releases them.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::mem::MaybeUninit;
use std::ops::Deref;
use std::ptr::{self, NonNull};

use freehold::{Code, Owner};

use super::Fail;

/// `struct ArrowSchema`
#[repr(C)]
pub(super) struct Schema {
    format: *const c_char,
    name: *const c_char,
    metadata: *const c_char,
    flags: i64,
    n_children: i64,
    children: *mut *mut Schema,
    dictionary: *mut Schema,
    release: Option<unsafe extern "C" fn(*mut Schema)>,
    private_data: *mut c_void,
}

/// `struct ArrowArray`
#[repr(C)]
pub(super) struct Array {
    pub(super) length: i64,
    null_count: i64,
    pub(super) offset: i64,
    n_buffers: i64,
    n_children: i64,
    buffers: *const *const c_void,
    children: *const *const Array,
    dictionary: *const Array,
    release: Option<unsafe extern "C" fn(*mut Array)>,
    private_data: *mut c_void,
}

/// `struct ArrowArrayStream`
#[repr(C)]
pub(super) struct Stream {
    get_schema: Option<unsafe extern "C" fn(*mut Stream, *mut Schema) -> c_int>,
    get_next: Option<unsafe extern "C" fn(*mut Stream, *mut Array) -> c_int>,
    get_last_error: Option<unsafe extern "C" fn(*mut Stream) -> *const c_char>,
    release: Option<unsafe extern "C" fn(*mut Stream)>,
    private_data: *mut c_void,
}

const _: () = assert!(size_of::<Schema>() == 72 && size_of::<Array>() == 80 && size_of::<Stream>() == 40);

/// A struct that breaks a rule of the interface.
pub(super) fn failed(what: &'static str) -> Fail {
    Fail::refused(Code::CP02, "ArrowArray".to_owned(), what)
}

impl Schema {
    /// The format, that of fixed-size lists followed by that of their items: `+w:3|f`; `dictionary` for one.
    ///
    /// # Safety
    ///
    /// * The schema is a live one, as its producer filled it.
    pub(super) unsafe fn format(&self) -> Result<String, Fail> {
        if self.release.is_none() || self.format.is_null() {
            return Err(failed("the schema was released, or has no format"));
        }
        if !self.dictionary.is_null() {
            return Ok("dictionary".to_owned());
        }
        // SAFETY: a live schema's format is a C string.
        let format = unsafe { CStr::from_ptr(self.format) }.to_string_lossy().into_owned();
        if !format.starts_with("+w:") {
            return Ok(format);
        }
        if self.n_children != 1 || self.children.is_null() {
            return Err(failed("a fixed-size list has one child"));
        }
        // SAFETY: a live schema of one child has one pointer to a live schema here.
        let child = unsafe { (*self.children).as_ref() }.ok_or_else(|| failed("a child is NULL"))?;
        // SAFETY: the child lives as long as its parent. Children are owned by their parents, so there is no cycle.
        Ok(format!("{format}|{}", unsafe { child.format() }?))
    }

    /// What a producer attached under a key, such as the parameters of an extension type.
    ///
    /// # Safety
    ///
    /// * The schema is a live one, as its producer filled it.
    pub(super) unsafe fn metadata(&self, key: &str) -> Option<String> {
        if self.release.is_none() || self.metadata.is_null() {
            return None;
        }
        let mut at = self.metadata.cast::<u8>();
        // SAFETY: the interface lays metadata out as a count of pairs, and each of a pair as a length and so many bytes; all
        // integers are native, of 32 bits and not aligned. Where it ends only these say, which are the producer's word.
        unsafe {
            let count = at.cast::<i32>().read_unaligned();
            at = at.add(4);
            for _ in 0..count {
                let mut text = || {
                    let length = usize::try_from(at.cast::<i32>().read_unaligned()).unwrap_or(0);
                    let bytes = std::slice::from_raw_parts(at.add(4), length);
                    at = at.add(4 + length);
                    bytes
                };
                let (name, value) = (text(), text());
                if name == key.as_bytes() {
                    return String::from_utf8(value.to_vec()).ok();
                }
            }
        }
        None
    }

    /// The format, and for an array of tensors of one shape (`arrow.fixed_shape_tensor`) that shape, as JSON.
    ///
    /// # Safety
    ///
    /// * The schema is a live one, as its producer filled it.
    pub(super) unsafe fn described(&self) -> Result<Described, Fail> {
        // SAFETY: forwarded from the caller.
        unsafe {
            let extension = self.metadata("ARROW:extension:name");
            let cell = extension.filter(|name| name == "arrow.fixed_shape_tensor");
            Ok(Described { format: self.format()?, cell: cell.and_then(|_| self.metadata("ARROW:extension:metadata")) })
        }
    }
}

/// What a schema says of an array's elements.
pub(super) struct Described {
    pub(super) format: String,
    pub(super) cell: Option<String>,
}

impl Array {
    /// The buffer of the values of an array of numbers.
    pub(super) fn data(&self) -> Result<*const c_void, Fail> {
        if self.n_buffers != 2 || self.buffers.is_null() {
            return Err(failed("an array of numbers has two buffers"));
        }
        // SAFETY: an array that is not released has `n_buffers` pointers here.
        Ok(unsafe { *self.buffers.add(1) })
    }

    /// The only child.
    pub(super) fn child(&self) -> Option<&Array> {
        if self.n_children != 1 || self.children.is_null() {
            return None;
        }
        // SAFETY: an array that is not released has `n_children` pointers here, to arrays that live as long as it does.
        unsafe { (*self.children).as_ref() }.filter(|child| child.length >= 0 && child.offset >= 0)
    }

    /// Null elements among `count` from `first` on.
    pub(super) fn nulls(&self, first: i64, count: i64) -> Result<i64, Fail> {
        if self.null_count == 0 || count == 0 {
            return Ok(0);
        }
        if self.n_buffers < 1 || self.buffers.is_null() {
            return Err(failed("an array has at least one buffer"));
        }
        if first == self.offset && count == self.length && self.null_count > 0 {
            return Ok(self.null_count);
        }
        Ok((first..first + count).filter(|i| self.is_null(*i)).count() as i64)
    }

    /// Whether an element between 0 and `offset + length` is null, in an array whose `nulls` were counted.
    pub(super) fn is_null(&self, i: i64) -> bool {
        if self.null_count == 0 || self.n_buffers < 1 || self.buffers.is_null() {
            return false;
        }
        // SAFETY: as in `data`; the first buffer is the validity bitmap.
        let bitmap = unsafe { *self.buffers }.cast::<u8>();
        // SAFETY: the bitmap has a bit for each element from 0 to `offset + length`, among which this is.
        !bitmap.is_null() && unsafe { *bitmap.add((i >> 3) as usize) } >> (i & 7) & 1 == 0
    }
}

/// An array that is ours to release.
pub(super) struct ArrayBox(NonNull<Array>);

impl ArrayBox {
    /// Moves an array out of where its producer put it.
    ///
    /// # Safety
    ///
    /// * `from` points to an initialised struct that the caller may move out of.
    pub(super) unsafe fn take(from: *mut Array) -> Result<ArrayBox, Fail> {
        // SAFETY: by the caller's word. The interface says that structs may be moved, and that a NULL release marks one that
        // was moved out of.
        let array = unsafe {
            if (*from).release.is_none() {
                return Err(failed("the array was released"));
            }
            let array = ptr::read(from);
            (*from).release = None;
            array
        };
        let boxed = ArrayBox(NonNull::from(Box::leak(Box::new(array))));
        if boxed.length < 0 || boxed.offset < 0 || boxed.offset.checked_add(boxed.length).is_none() {
            return Err(failed("length or offset is out of range"));
        }
        Ok(boxed)
    }

    /// The array as what keeps a tensor's memory alive.
    pub(super) fn into_owner(self) -> Owner {
        let context = self.0.as_ptr().cast();
        std::mem::forget(self);
        Owner::Raw { context, drop: drop_array }
    }
}

impl Deref for ArrayBox {
    type Target = Array;

    fn deref(&self) -> &Array {
        // SAFETY: the box is ours until dropped.
        unsafe { self.0.as_ref() }
    }
}

impl Drop for ArrayBox {
    fn drop(&mut self) {
        // SAFETY: the box is ours, and is dropped once.
        unsafe { drop_array(self.0.as_ptr().cast()) }
    }
}

/// Releases an array. The interface lets any thread do that, without the GIL.
///
/// # Safety
///
/// * `array` was leaked by [`ArrayBox::take`], and is given up.
unsafe fn drop_array(array: *mut c_void) {
    // SAFETY: by the caller's word.
    let mut array = unsafe { Box::from_raw(array.cast::<Array>()) };
    if let Some(release) = array.release {
        // SAFETY: a live array, released once: the struct is gone after this.
        unsafe { release(&mut *array) };
    }
}

impl Stream {
    /// The format, and every chunk that has elements (one of those without, if there is no other).
    ///
    /// # Safety
    ///
    /// * The stream is initialised, and only this call reads from it.
    pub(super) unsafe fn read(&mut self) -> Result<(Described, Vec<ArrayBox>), Fail> {
        let (Some(get_schema), Some(get_next), Some(_)) = (self.get_schema, self.get_next, self.release) else {
            return Err(failed("the stream was released"));
        };
        let mut schema = MaybeUninit::<Schema>::zeroed();
        // SAFETY: a live stream's functions may be called with the stream and a place for the result.
        let format = unsafe {
            if get_schema(self, schema.as_mut_ptr()) != 0 {
                return Err(self.error());
            }
            let mut schema = schema.assume_init();
            let format = schema.described();
            if let Some(release) = schema.release {
                release(&mut schema);
            }
            format?
        };
        let mut arrays: Vec<ArrayBox> = Vec::new();
        loop {
            let mut array = MaybeUninit::<Array>::zeroed();
            // SAFETY: as above; after 0 the struct is initialised, and its release is NULL at the end of the stream.
            let next = unsafe {
                if get_next(self, array.as_mut_ptr()) != 0 {
                    return Err(self.error());
                }
                let mut array = array.assume_init();
                if array.release.is_none() {
                    return Ok((format, arrays));
                }
                ArrayBox::take(&mut array)?
            };
            if arrays.first().is_some_and(|first| first.length == 0) {
                arrays.clear();
            }
            if next.length > 0 || arrays.is_empty() {
                arrays.push(next);
            }
        }
    }

    /// What the stream says went wrong.
    ///
    /// # Safety
    ///
    /// * The stream is live, and one of its functions has just failed.
    unsafe fn error(&mut self) -> Fail {
        let text = match self.get_last_error {
            // SAFETY: by the caller's word; the text is valid until the next call.
            Some(last) => unsafe {
                let text = last(self);
                if text.is_null() { String::new() } else { CStr::from_ptr(text).to_string_lossy().into_owned() }
            },
            None => String::new(),
        };
        Fail::refused(Code::OB01, "ArrowArrayStream".to_owned(), format!("the stream failed: {text}"))
    }
}
