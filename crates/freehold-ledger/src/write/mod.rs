//! The formats that a snapshot is written in, one file each.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use crate::Ledger;
use crate::report::Snapshot;

mod graph;
pub(crate) mod json;
mod json_lines;
mod memory_viz;
mod openmetrics;
mod page;
mod perfetto;
mod pickle;
mod place;
mod timeline;

macro_rules! formats {
    ($($(#[$doc:meta])* $name:ident = $word:literal, $extension:literal;)*) => {
        /// A format that a snapshot is written in.
        ///
        /// ```
        /// use freehold_ledger::{Format, Ledger, Level};
        ///
        /// let snapshot = Ledger::new(Level::Records).snapshot();
        /// for format in Format::ALL {
        ///     let mut file = Vec::new();
        ///     snapshot.write(*format, &mut file)?;
        ///     assert!(!file.is_empty());
        /// }
        /// assert_eq!((Format::Trace.name(), Format::Trace.extension()), ("trace", ".trace.json"));
        /// # std::io::Result::Ok(())
        /// ```
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
        #[non_exhaustive]
        pub enum Format { $($(#[$doc])* $name,)* }

        impl Format {
            /// Every format.
            pub const ALL: &[Format] = &[$(Format::$name),*];

            /// The name, such as `json`.
            pub const fn name(self) -> &'static str {
                match self { $(Format::$name => $word,)* }
            }

            /// How the names of its files end, such as `.json`.
            pub const fn extension(self) -> &'static str {
                match self { $(Format::$name => $extension,)* }
            }
        }
    };
}

formats! {
    /// Everything, by `docs/ledger-schema.json`.
    Json = "json", ".json";
    /// Everything, one object a line.
    JsonLines = "jsonl", ".jsonl";
    /// A memory snapshot for PyTorch's viewer.
    MemoryViz = "memory_viz", ".pickle";
    /// Lifetimes and handovers over time, for Perfetto and `chrome://tracing`.
    Trace = "trace", ".trace.json";
    /// Totals for Prometheus.
    OpenMetrics = "openmetrics", ".prom";
    /// Who owns and holds what, for Graphviz.
    Dot = "dot", ".dot";
    /// The same, for Markdown.
    Mermaid = "mermaid", ".mmd";
    /// A page that shows all of it in a browser, in one file.
    Html = "html", ".html";
}

impl Format {
    /// The format of a file by how its name ends.
    ///
    /// ```
    /// use freehold_ledger::Format;
    ///
    /// assert_eq!(Format::of_path("today.trace.json".as_ref()), Some(Format::Trace));
    /// assert_eq!(Format::of_path("ledger.json".as_ref()), Some(Format::Json));
    /// assert_eq!(Format::of_path("ledger.txt".as_ref()), None);
    /// ```
    pub fn of_path(path: &Path) -> Option<Format> {
        let name = path.file_name()?.to_string_lossy().to_lowercase();
        // `.trace.json` ends in `.json` too.
        let named = Format::ALL.iter().copied().filter(|format| name.ends_with(format.extension()));
        named.max_by_key(|format| format.extension().len())
    }
}

impl Snapshot {
    /// Writes the snapshot in a format.
    ///
    /// ```
    /// use freehold_ledger::{Format, Ledger, Level};
    ///
    /// static LEDGER: Ledger = Ledger::new(Level::Records);
    ///
    /// let mut lines = Vec::new();
    /// LEDGER.snapshot().write(Format::JsonLines, &mut lines)?;
    /// assert!(lines.starts_with(br#"{"type":"snapshot","schema":"freehold.ledger/2","#));
    /// # std::io::Result::Ok(())
    /// ```
    ///
    /// # Errors
    /// What `w` returns.
    pub fn write(&self, format: Format, w: &mut dyn Write) -> io::Result<()> {
        match format {
            Format::Json => self.write_json(w, true),
            Format::JsonLines => json_lines::write(self, w),
            Format::MemoryViz => memory_viz::write(self, w),
            Format::Trace => perfetto::write(self, w),
            Format::OpenMetrics => openmetrics::write(self, w),
            Format::Dot => graph::write_dot(self, w),
            Format::Mermaid => graph::write_mermaid(self, w),
            Format::Html => page::write(self, w),
        }
    }

    /// Writes the snapshot as JSON (`docs/ledger-schema.json`), with a newline at the end.
    ///
    /// # Errors
    /// What `w` returns.
    pub fn write_json(&self, mut w: impl Write, pretty: bool) -> io::Result<()> {
        json::write(self, pretty, &mut w)?;
        w.write_all(b"\n")
    }

    /// Writes the snapshot to a file, which is made or replaced, in the format that its name says.
    ///
    /// ```
    /// use freehold_ledger::{Ledger, Level};
    ///
    /// let path = std::env::temp_dir().join(format!("freehold-{}.prom", std::process::id()));
    /// let snapshot = Ledger::new(Level::Records).snapshot();
    /// snapshot.save(&path)?;
    /// assert!(std::fs::read_to_string(&path)?.ends_with("# EOF\n"));
    /// assert!(snapshot.save("ledger.txt".as_ref()).is_err()); // a name that says no format
    /// # std::fs::remove_file(&path)?;
    /// # std::io::Result::Ok(())
    /// ```
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidInput`] for a name that says no format, and what the system says.
    pub fn save(&self, path: &Path) -> io::Result<()> {
        let Some(format) = Format::of_path(path) else {
            let ends: Vec<&str> = Format::ALL.iter().map(|format| format.extension()).collect();
            let text = format!("{} must end in one of {}", path.display(), ends.join(" "));
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        };
        let mut file = BufWriter::new(File::create(path)?);
        self.write(format, &mut file)?;
        file.into_inner().map_err(io::IntoInnerError::into_error)?;
        Ok(())
    }
}

impl Ledger {
    /// Writes [`Ledger::snapshot`] to a file, in the format that its name says; see [`Snapshot::save`].
    ///
    /// # Errors
    /// As [`Snapshot::save`].
    pub fn save(&self, path: &Path) -> io::Result<()> {
        self.snapshot().save(path)
    }
}
