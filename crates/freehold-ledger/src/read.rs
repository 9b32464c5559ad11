//! A snapshot from its file.

use crate::report::{SCHEMA, Snapshot};

impl Snapshot {
    /// Reads what [`crate::Ledger::write_json`] wrote, in this process or another. Properties that this version does
    /// not know are ignored.
    ///
    /// ```
    /// use freehold_ledger::Snapshot;
    ///
    /// let error = Snapshot::from_json(r#"{"schema": "freehold.ledger/1"}"#).unwrap_err();
    /// assert_eq!(error, "its schema is freehold.ledger/1, and this version of Freehold reads freehold.ledger/2");
    /// ```
    ///
    /// # Errors
    /// What is wrong with the text, in words that name the field or the schema.
    pub fn from_json(text: &str) -> Result<Snapshot, String> {
        #[derive(serde::Deserialize)]
        struct Head {
            schema: Option<String>,
        }
        let head: Head = serde_json::from_str(text).map_err(|error| format!("it is not a saved ledger: {error}"))?;
        match head.schema.as_deref() {
            Some(SCHEMA) => serde_json::from_str(text).map_err(|error| format!("it does not follow {SCHEMA}: {error}")),
            Some(other) => Err(format!("its schema is {other}, and this version of Freehold reads {SCHEMA}")),
            None => Err(format!("it is not a saved ledger: it names no schema such as {SCHEMA}")),
        }
    }
}
