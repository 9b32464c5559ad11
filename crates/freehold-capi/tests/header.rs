//! The hand-written header declares what the library has: functions, structs and types against what cbindgen reads from
//! the source, constants against the Rust values that they name, exported symbols against `abi-symbols.txt`.

use std::collections::BTreeMap;
use std::path::Path;

use freehold::tensor_algebra::KNOWN_DTYPES;
use freehold::{Caps, Code, Steps, Traits, Verdict};
use freehold_ledger::{HolderFlags, Level};

mod c;

use c::Declarations;

/// The pages that `freehold.h` includes, as one text. dlpack_abi.h has its own reader: the tests of layouts.
fn header() -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../include/freehold");
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).expect(name);
    let umbrella = read("freehold.h");
    let pages: Vec<&str> =
        umbrella.lines().filter_map(|line| line.strip_prefix("#include \"")?.strip_suffix('"')).collect();
    let entries = folder.read_dir().expect("the headers' folder");
    let mut there: Vec<String> =
        entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("UTF-8")).collect();
    there.retain(|name| name.ends_with(".h") && name != "freehold.h" && name != "dlpack_abi.h");
    there.sort();
    assert_eq!(pages, there, "freehold.h includes every page, in the order of their names");
    pages.iter().map(|page| read(page)).collect()
}

fn generated() -> Declarations {
    let config = cbindgen::Config {
        language: cbindgen::Language::C,
        style: cbindgen::Style::Type,
        usize_is_size_t: true,
        ..cbindgen::Config::default()
    };
    let mut out = Vec::new();
    cbindgen::Builder::new()
        .with_crate(env!("CARGO_MANIFEST_DIR"))
        .with_config(config)
        .generate()
        .expect("cbindgen reads the crate")
        .write(&mut out);
    Declarations::parse(&String::from_utf8(out).expect("text"))
}

/// Every difference on a line of its own: what the header says, what the code says.
fn differences(what: &str, header: &BTreeMap<String, String>, code: &BTreeMap<String, String>) -> String {
    let mut text = String::new();
    for name in header.keys().chain(code.keys().filter(|name| !header.contains_key(*name))) {
        let none = "(nothing)".to_owned();
        let (said, is) = (header.get(name).unwrap_or(&none), code.get(name).unwrap_or(&none));
        if said != is {
            text.push_str(&format!("{what} {name}\n  header: {said}\n  code:   {is}\n"));
        }
    }
    text
}

#[test]
fn declarations_have_not_drifted() {
    let (header, code) = (Declarations::parse(&header()), generated());
    assert!(code.functions.len() > 40 && code.types.len() > 15, "cbindgen found the declarations");
    let text =
        differences("function", &header.functions, &code.functions) + &differences("type", &header.types, &code.types);
    assert!(text.is_empty(), "include/freehold and the crate differ:\n{text}");
}

/// The values behind the names, from the crates below: C cannot include a Rust enum, so a person typed them again.
fn constants_of_the_crates() -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    let mut add = |name: String, value: i64| {
        assert!(all.insert(name.clone(), value.to_string()).is_none(), "{name} twice");
    };
    for code in Code::ALL {
        add(format!("FH_REASON_{code}"), *code as i64);
    }
    for (bit, dtype) in KNOWN_DTYPES.iter().enumerate() {
        add(format!("FH_DTYPE_{}", dtype.name().expect("known").to_uppercase()), bit as i64);
    }
    for (name, flag) in Traits::all().iter_names() {
        // DLPack's own name for the bit.
        let name = if flag == Traits::PADDED { "SUBBYTE_PADDED" } else { name };
        add(format!("FH_FLAG_{name}"), i64::from(flag.bits()));
    }
    for (name, flag) in HolderFlags::all().iter_names() {
        add(format!("FH_HOLDER_{name}"), i64::from(flag.bits()));
    }
    for (name, step) in Steps::all().iter_names() {
        add(format!("FH_STEP_{name}"), i64::from(step.bits()));
    }
    for verdict in [Verdict::Share, Verdict::Copy, Verdict::Reject] {
        add(format!("FH_VERDICT_{}", verdict.name().to_uppercase()), verdict as i64);
    }
    for level in (0..=Level::HIGHEST as u8).filter_map(Level::from_number) {
        add(format!("FH_LEDGER_{}", level.name().to_uppercase()), level as i64);
    }
    let mut part = |name: &str, value: &str| add(format!("FH_VERSION_{name}"), value.parse().expect("a number"));
    part("MAJOR", env!("CARGO_PKG_VERSION_MAJOR"));
    part("MINOR", env!("CARGO_PKG_VERSION_MINOR"));
    part("PATCH", env!("CARGO_PKG_VERSION_PATCH"));
    all
}

#[test]
fn constants_have_not_drifted() {
    let mut code = generated().constants;
    for (name, value) in constants_of_the_crates() {
        assert!(code.insert(name.clone(), value).is_none(), "{name} is declared twice");
    }
    let text = differences("constant", &Declarations::parse(&header()).constants, &code);
    assert!(text.is_empty(), "include/freehold and the crates differ:\n{text}");
}

/// `tests/abi/run.sh` compares the symbols of the built library with the same list.
#[test]
fn the_symbols_are_the_functions() {
    let listed = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("abi-symbols.txt")).unwrap();
    let functions: Vec<String> = generated().functions.into_keys().collect();
    assert_eq!(listed.lines().collect::<Vec<_>>(), functions, "abi-symbols.txt is the sorted list of functions");
}

#[test]
fn the_header_names_every_target() {
    let header = header();
    for row in [Caps::FREEHOLD, Caps::NUMPY, Caps::TORCH, Caps::DLPACK, Caps::DLPACK_LEGACY] {
        assert!(header.contains(&format!("\"{}\"", row.name)), "{} is not in the header", row.name);
    }
}
