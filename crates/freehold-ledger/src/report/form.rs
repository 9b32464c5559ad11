//! How values are written in JSON, and read from it again.
//!
//! Each module here is for `#[serde(with)]`. Names of frameworks and places are interned when they are read.

use std::fmt;
use std::marker::PhantomData;

use freehold_tensor::{Code, DType, Device, DeviceKind, Overlap, Steps, StrideUnit, Verdict};
use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serializer};

use crate::{HolderFlags, HolderId, Label, Level, Role, Sync};

/// A value that is one word of text.
pub(crate) trait Word: Sized {
    fn show(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result;
    fn read(text: &str) -> Option<Self>;
}

/// A set whose members have names.
pub(crate) trait Names: Sized {
    fn list(&self) -> impl Iterator<Item = &'static str>;
    fn with(self, name: &str) -> Option<Self>;
    const NONE: Self;
}

struct Show<'a, T>(&'a T);

impl<T: Word> fmt::Display for Show<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.show(f)
    }
}

/// Words from a list of all values and their names.
macro_rules! words {
    ($($type:ty, $name:expr, [$($value:expr),*];)*) => {$(
        impl Word for $type {
            fn show(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let name: fn($type) -> &'static str = $name;
                f.write_str(name(*self))
            }

            fn read(text: &str) -> Option<Self> {
                let name: fn($type) -> &'static str = $name;
                [$($value),*].into_iter().find(|value| name(*value) == text)
            }
        }
    )*};
}

words! {
    Role, Role::name, [Role::Owner, Role::Holder];
    Verdict, Verdict::name, [Verdict::Share, Verdict::Copy, Verdict::Reject];
    Sync, Sync::name, [Sync::None, Sync::Event, Sync::Host];
    StrideUnit, unit_name, [StrideUnit::Elements, StrideUnit::Bytes];
    Overlap, overlap_name, [Overlap::None, Overlap::Some, Overlap::Unknown];
}

const fn unit_name(unit: StrideUnit) -> &'static str {
    match unit {
        StrideUnit::Elements => "elements",
        StrideUnit::Bytes => "bytes",
    }
}

const fn overlap_name(overlap: Overlap) -> &'static str {
    match overlap {
        Overlap::None => "none",
        Overlap::Some => "some",
        Overlap::Unknown => "unknown",
    }
}

impl Word for Code {
    fn show(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }

    fn read(text: &str) -> Option<Self> {
        Code::from_name(text)
    }
}

impl Word for Level {
    fn show(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }

    fn read(text: &str) -> Option<Self> {
        Level::from_name(text)
    }
}

impl Word for HolderId {
    fn show(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }

    fn read(text: &str) -> Option<Self> {
        text.parse().ok().map(HolderId::from_raw)
    }
}

impl Word for Device {
    fn show(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }

    fn read(text: &str) -> Option<Self> {
        if text == "cpu" {
            return Some(Device::CPU);
        }
        let (kind, id) = text.rsplit_once(':')?;
        let kind = match DeviceKind::from_name(kind) {
            Some(kind) => kind,
            None => DeviceKind(kind.strip_prefix("device<")?.strip_suffix('>')?.parse().ok()?),
        };
        Some(Device::new(kind, id.parse().ok()?))
    }
}

impl Word for DType {
    fn show(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }

    fn read(text: &str) -> Option<Self> {
        if let Some(dtype) = DType::from_name(text) {
            return Some(dtype);
        }
        if let Some((scalar, lanes)) = text.rsplit_once('x')
            && let (Some(dtype), Ok(lanes)) = (DType::read(scalar), lanes.parse())
        {
            return Some(DType { lanes, ..dtype });
        }
        let (code, bits) = text.strip_prefix("dtype<code ")?.strip_suffix(" bits>")?.split_once(", ")?;
        Some(DType { code: code.parse().ok()?, bits: bits.parse().ok()?, lanes: 1 })
    }
}

impl Names for HolderFlags {
    const NONE: Self = HolderFlags::empty();

    fn list(&self) -> impl Iterator<Item = &'static str> {
        self.names()
    }

    fn with(self, name: &str) -> Option<Self> {
        HolderFlags::all().iter().find(|flag| flag.names().any(|n| n == name)).map(|flag| self | flag)
    }
}

impl Names for Steps {
    const NONE: Self = Steps::empty();

    fn list(&self) -> impl Iterator<Item = &'static str> {
        self.names()
    }

    fn with(self, name: &str) -> Option<Self> {
        Steps::all().iter().find(|step| step.names().any(|n| n == name)).map(|step| self | step)
    }
}

/// Gives text to a function, borrowed where it can be.
struct Text<F>(F);

impl<R, F: FnOnce(&str) -> Option<R>> Visitor<'_> for Text<F> {
    type Value = R;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a word of the ledger's schema")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<R, E> {
        (self.0)(text).ok_or_else(|| E::invalid_value(serde::de::Unexpected::Str(text), &"a word of the schema"))
    }
}

/// One word.
pub(crate) mod word {
    use super::*;

    pub(crate) fn serialize<T: Word, S: Serializer>(value: &T, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(&Show(value))
    }

    pub(crate) fn deserialize<'de, T: Word, D: Deserializer<'de>>(d: D) -> Result<T, D::Error> {
        d.deserialize_str(Text(T::read))
    }
}

/// A word as a value of its own, for lists and options of words.
struct One<T>(T);

impl<'de, T: Word> Deserialize<'de> for One<T> {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        word::deserialize(d).map(One)
    }
}

/// A word or null.
pub(crate) mod word_or_null {
    use super::*;

    pub(crate) fn serialize<T: Word, S: Serializer>(value: &Option<T>, s: S) -> Result<S::Ok, S::Error> {
        match value {
            Some(value) => word::serialize(value, s),
            None => s.serialize_none(),
        }
    }

    pub(crate) fn deserialize<'de, T: Word, D: Deserializer<'de>>(d: D) -> Result<Option<T>, D::Error> {
        Ok(Option::<One<T>>::deserialize(d)?.map(|one| one.0))
    }
}

/// The id of a holder, or null for none.
pub(crate) mod id_or_null {
    use super::*;

    pub(crate) fn serialize<S: Serializer>(id: &HolderId, s: S) -> Result<S::Ok, S::Error> {
        if id.is_none() { s.serialize_none() } else { word::serialize(id, s) }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<HolderId, D::Error> {
        Ok(word_or_null::deserialize(d)?.unwrap_or(HolderId::NONE))
    }
}

/// A list of words.
pub(crate) mod words {
    use super::*;

    pub(crate) fn serialize<T: Word, S: Serializer>(values: &[T], s: S) -> Result<S::Ok, S::Error> {
        s.collect_seq(values.iter().map(|value| Show(value).to_string()))
    }

    pub(crate) fn deserialize<'de, T: Word, D: Deserializer<'de>>(d: D) -> Result<Vec<T>, D::Error> {
        Ok(Vec::<One<T>>::deserialize(d)?.into_iter().map(|one| one.0).collect())
    }
}

/// A set as the list of its members' names.
pub(crate) mod names {
    use super::*;

    pub(crate) fn serialize<T: Names, S: Serializer>(value: &T, s: S) -> Result<S::Ok, S::Error> {
        s.collect_seq(value.list())
    }

    pub(crate) fn deserialize<'de, T: Names, D: Deserializer<'de>>(d: D) -> Result<T, D::Error> {
        struct Set<T>(PhantomData<T>);

        impl<'de, T: Names> Visitor<'de> for Set<T> {
            type Value = T;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of names")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut names: A) -> Result<T, A::Error> {
                let mut set = T::NONE;
                while let Some(name) = names.next_element::<String>()? {
                    set =
                        set.with(&name).ok_or_else(|| A::Error::custom(format_args!("no name of this set: {name}")))?;
                }
                Ok(set)
            }
        }
        d.deserialize_seq(Set(PhantomData))
    }
}

/// An address in hexadecimal.
pub(crate) mod hex {
    use super::*;

    pub(crate) fn serialize<S: Serializer>(value: &u64, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(&format_args!("{value:#x}"))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<u64, D::Error> {
        d.deserialize_str(Text(|text: &str| u64::from_str_radix(text.strip_prefix("0x")?, 16).ok()))
    }
}

/// A name, kept for the life of the process.
pub(crate) mod name {
    use super::*;

    pub(crate) fn serialize<S: Serializer>(name: &str, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(name)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<&'static str, D::Error> {
        d.deserialize_str(Text(|text: &str| Some(Label::intern(text).as_str())))
    }
}

/// A name or null.
pub(crate) mod name_or_null {
    use super::*;

    pub(crate) fn serialize<S: Serializer>(name: &Option<&'static str>, s: S) -> Result<S::Ok, S::Error> {
        match name {
            Some(name) => s.serialize_str(name),
            None => s.serialize_none(),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Option<&'static str>, D::Error> {
        let name: Option<std::borrow::Cow<'de, str>> = Option::deserialize(d)?;
        Ok(name.map(|name| Label::intern(&name).as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trips<T: Word + PartialEq + fmt::Debug>(value: T) {
        let text = Show(&value).to_string();
        assert_eq!(T::read(&text), Some(value), "{text}");
    }

    #[test]
    fn every_word_is_read_as_it_was_written() {
        Code::ALL.iter().copied().for_each(round_trips);
        (0..=4).filter_map(Level::from_number).for_each(round_trips);
        for kind in (-1..40).map(DeviceKind) {
            [0, 1, -1, i32::MAX].into_iter().for_each(|id| round_trips(Device::new(kind, id)));
        }
        for (code, bits) in (0..20).flat_map(|code| [1, 4, 8, 16, 32, 64, 128, 7].map(|bits| (code, bits))) {
            [1, 2, 100].into_iter().for_each(|lanes| round_trips(DType { code, bits, lanes }));
        }
        for text in ["", "cpu:", "device<>:0", "device<1:0", "cuda:x"] {
            assert_eq!(Device::read(text), None, "{text}");
        }
        for text in ["", "f", "x2", "f32x", "dtype<code 1>", "dtype<code 1, 2 bits"] {
            assert_eq!(DType::read(text), None, "{text}");
        }
    }
}
