//! Python's pickle, as much of it as a snapshot needs: dictionaries, lists, text, integers.
//!
//! Protocol 2, without memoisation: PyTorch's viewer in the browser reads a subset of the opcodes up to protocol 4, and
//! these are in it.

use std::io::{self, Write};

/// Values of a list that one opcode appends.
const BATCH: usize = 1000;

/// Writes one pickle.
pub(super) struct Pickler<'a> {
    w: &'a mut dyn Write,
}

impl<'a> Pickler<'a> {
    pub(super) fn new(w: &'a mut dyn Write) -> io::Result<Pickler<'a>> {
        w.write_all(&[0x80, 2])?;
        Ok(Pickler { w })
    }

    pub(super) fn end(self) -> io::Result<()> {
        self.w.write_all(b".")
    }

    /// A dictionary; `items` writes its keys and values in turn.
    pub(super) fn dict(&mut self, items: impl FnOnce(&mut Self) -> io::Result<()>) -> io::Result<()> {
        self.w.write_all(b"}(")?;
        items(self)?;
        self.w.write_all(b"u")
    }

    /// A list; `item` writes one of them.
    ///
    /// The viewer hands what one opcode appends to a function as its arguments, of which a browser takes some ten
    /// thousands, so they come in batches, as Python's own writer has them.
    pub(super) fn list<T>(
        &mut self,
        items: impl IntoIterator<Item = T>,
        mut item: impl FnMut(&mut Self, T) -> io::Result<()>,
    ) -> io::Result<()> {
        self.w.write_all(b"]")?;
        let mut items = items.into_iter().peekable();
        while items.peek().is_some() {
            self.w.write_all(b"(")?;
            items.by_ref().take(BATCH).try_for_each(|value| item(self, value))?;
            self.w.write_all(b"e")?;
        }
        Ok(())
    }

    pub(super) fn text(&mut self, text: &str) -> io::Result<()> {
        // A length that does not fit is of a text that no snapshot has.
        let len = u32::try_from(text.len()).map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
        self.w.write_all(b"X")?;
        self.w.write_all(&len.to_le_bytes())?;
        self.w.write_all(text.as_bytes())
    }

    pub(super) fn int(&mut self, n: u64) -> io::Result<()> {
        match i32::try_from(n) {
            Ok(n) => {
                self.w.write_all(b"J")?;
                self.w.write_all(&n.to_le_bytes())
            }
            Err(_) => {
                // The viewer makes numbers of up to eight bytes, sign included; of longer ones something that it
                // cannot calculate with.
                self.w.write_all(&[0x8A, 8])?;
                self.w.write_all(&n.min(i64::MAX as u64).to_le_bytes())
            }
        }
    }

    pub(super) fn bool(&mut self, value: bool) -> io::Result<()> {
        self.w.write_all(if value { b"\x88" } else { b"\x89" })
    }

    /// One entry of a dictionary.
    pub(super) fn entry(&mut self, key: &str, value: impl FnOnce(&mut Self) -> io::Result<()>) -> io::Result<()> {
        self.text(key)?;
        value(self)
    }

    pub(super) fn int_entry(&mut self, key: &str, n: u64) -> io::Result<()> {
        self.entry(key, |p| p.int(n))
    }

    pub(super) fn text_entry(&mut self, key: &str, text: &str) -> io::Result<()> {
        self.entry(key, |p| p.text(text))
    }
}
