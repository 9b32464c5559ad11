//! Places in the caller's code, taken apart for the formats that want file, line and function.

/// `train.py:31` or `train.py:31 in step`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Place<'a> {
    pub(crate) file: &'a str,
    pub(crate) line: u32,
    pub(crate) function: &'a str,
}

impl<'a> Place<'a> {
    /// A site that has another form is taken as a file name.
    pub(crate) fn of(site: &'a str) -> Place<'a> {
        let (place, function) = site.rsplit_once(" in ").unwrap_or((site, ""));
        match place.rsplit_once(':').and_then(|(file, line)| Some((file, line.parse().ok()?))) {
            Some((file, line)) => Place { file, line, function },
            None => Place { file: site, line: 0, function: "" },
        }
    }
}

/// Element type and shape: `f32[2,3]`.
pub(crate) fn layout(dtype: freehold_tensor::DType, shape: &[i64]) -> String {
    let shape: Vec<String> = shape.iter().map(i64::to_string).collect();
    format!("{dtype}[{}]", shape.join(","))
}

/// A framework's name, or `unknown`.
pub(crate) fn named(framework: &str) -> &str {
    if framework.is_empty() { "unknown" } else { framework }
}

/// How a holder got its view: `share RO02`, `copy CA01`; empty for one that came from nobody.
pub(crate) fn how(verdict: Option<freehold_tensor::Verdict>, reasons: &[freehold_tensor::Code]) -> String {
    let Some(verdict) = verdict else { return String::new() };
    let mut text = verdict.name().to_owned();
    reasons.iter().for_each(|code| text.extend([" ", code.name()]));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_taken_apart() {
        let of = |site| {
            let Place { file, line, function } = Place::of(site);
            (file, line, function)
        };
        assert_eq!(of("train.py:31"), ("train.py", 31, ""));
        assert_eq!(of("C:\\in my.py:7 in f"), ("C:\\in my.py", 7, "f"));
        assert_eq!(of("a/b.py:31 in Model.forward"), ("a/b.py", 31, "Model.forward"));
        assert_eq!(of("load step"), ("load step", 0, ""));
        assert_eq!(of(""), ("", 0, ""));
    }
}
