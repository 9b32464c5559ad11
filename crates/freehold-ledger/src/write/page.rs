//! The page: one HTML file that shows a snapshot in any browser, without a network.
//!
//! Its parts lie in `page/`: the frame, the style, our scripts, and the libraries that draw (`page/vendor.js`, made by
//! `scripts/page.sh` from `page/package-lock.json`); `build.rs` puts them together and packs them. The snapshot is
//! data in a script element that is never run.

use std::io::{self, Write};

use super::{Format, json};
use crate::report::Snapshot;

/// The most bytes of another format that a page carries for its buttons.
const CARRIED: usize = 8 << 20;

/// The page but for its data, packed by `build.rs`.
const PACKED: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/page.html.z"));

pub(super) fn write(snapshot: &Snapshot, w: &mut dyn Write) -> io::Result<()> {
    let page = page()?;
    let (before, after) = page.split_once("<!-- data -->").ok_or_else(damaged)?;
    w.write_all(before.as_bytes())?;
    data(w, snapshot)?;
    w.write_all(after.as_bytes())
}

fn page() -> io::Result<String> {
    let page = miniz_oxide::inflate::decompress_to_vec(PACKED).map_err(|_| damaged())?;
    String::from_utf8(page).map_err(|_| damaged())
}

/// `build.rs` made the page whole: only a damaged library says this.
fn damaged() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the page that the library carries does not unpack")
}

fn data(w: &mut dyn Write, snapshot: &Snapshot) -> io::Result<()> {
    w.write_all(b"<script type=\"application/json\" id=\"ledger\">")?;
    json::write(snapshot, false, &mut Inert(&mut *w))?;
    w.write_all(b"</script>\n")?;
    // What the buttons hand on. A page that would grow too large names the call that makes the file instead.
    carry(w, "mermaid", snapshot, Format::Mermaid, |w, bytes| {
        json::write(&String::from_utf8_lossy(bytes), false, &mut Inert(w))
    })?;
    carry(w, "trace", snapshot, Format::Trace, |w, bytes| Inert(w).write_all(bytes))?;
    carry(w, "pickle", snapshot, Format::MemoryViz, |w, bytes| w.write_all(base64(bytes).as_bytes()))
}

fn carry(
    w: &mut dyn Write,
    id: &str,
    snapshot: &Snapshot,
    format: Format,
    put: impl FnOnce(&mut dyn Write, &[u8]) -> io::Result<()>,
) -> io::Result<()> {
    let mut bytes = Vec::new();
    snapshot.write(format, &mut bytes)?;
    if bytes.len() > CARRIED {
        return Ok(());
    }
    write!(w, "<script type=\"application/json\" id=\"{id}\">")?;
    put(w, &bytes)?;
    w.write_all(b"</script>\n")
}

/// Writes text that no HTML parser takes for the end of a script element or the start of a comment.
///
/// In JSON `<` occurs in strings only, where `\u003c` is the same character; nothing else is written through this.
struct Inert<'a>(&'a mut dyn Write);

impl Write for Inert<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        for part in bytes.split_inclusive(|byte| *byte == b'<') {
            match part.split_last() {
                Some((b'<', before)) => {
                    self.0.write_all(before)?;
                    self.0.write_all(b"\\u003c")?;
                }
                _ => self.0.write_all(part)?,
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let word = chunk.iter().fold(0u32, |word, byte| word << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for i in 0..4 {
            let digit = DIGITS[(word >> (18 - 6 * i) & 63) as usize];
            out.push(if i <= chunk.len() { char::from(digit) } else { '=' });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg_attr(miri, ignore = "unpacks the page: safe code, and minutes of it where it is interpreted")]
    fn no_script_or_style_ends_its_own_element() {
        let page = page().unwrap();
        // The frame's own element of each kind, and one for each script of `build.rs`.
        for (tag, count) in [("style", 1), ("script", 8)] {
            assert_eq!(page.matches(&format!("<{tag}>\n")).count(), count);
            assert_eq!(page.to_lowercase().matches(&format!("</{tag}")).count(), count);
        }
        assert_eq!(page.matches("<!--").count(), 1);
    }

    #[test]
    fn base64_is_that_of_the_standard() {
        // RFC 4648, section 10.
        let cases =
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg=="), ("foobar", "Zm9vYmFy")];
        for (text, encoded) in cases {
            assert_eq!(base64(text.as_bytes()), encoded);
        }
        assert_eq!(base64(&[0xFB, 0xFF]), "+/8=");
    }
}
