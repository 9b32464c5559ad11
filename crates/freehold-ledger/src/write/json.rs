//! One writer of JSON for all that is written, compact and indented: a second one would be all of it a second time.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::ser::{CompactFormatter, Formatter, PrettyFormatter, Serializer};

enum Form {
    Compact(CompactFormatter),
    Indented(PrettyFormatter<'static>),
}

macro_rules! either {
    ($($name:ident($($first:ident)?);)*) => {
        impl Formatter for Form {
            $(#[inline(never)]
            fn $name<W: ?Sized + Write>(&mut self, writer: &mut W $(, $first: bool)?) -> io::Result<()> {
                match self {
                    Form::Compact(form) => form.$name(writer $(, $first)?),
                    Form::Indented(form) => form.$name(writer $(, $first)?),
                }
            })*
        }
    };
}
either! {
    begin_array();
    end_array();
    begin_array_value(first);
    end_array_value();
    begin_object();
    end_object();
    begin_object_key(first);
    begin_object_value();
    end_object_value();
}

/// Writes a value as JSON.
///
/// # Errors
/// What `w` returns.
pub(crate) fn write(value: &impl Serialize, indented: bool, w: &mut dyn Write) -> io::Result<()> {
    let form = if indented { Form::Indented(PrettyFormatter::new()) } else { Form::Compact(CompactFormatter) };
    Ok(value.serialize(&mut Serializer::with_formatter(w, form))?)
}
