//! Packs the committed PTX, which is mostly the same words over and over, for the library to carry.

use std::path::Path;
use std::{env, fs, io};

fn main() -> io::Result<()> {
    let out = env::var_os("OUT_DIR").ok_or(io::Error::other("cargo sets OUT_DIR"))?;
    for name in ["contiguous", "fill", "strided", "turn"] {
        let source = format!("kernels/ptx/{name}.ptx");
        println!("cargo::rerun-if-changed={source}");
        // Comments and the names of files are for people.
        let text = fs::read_to_string(&source)?;
        let code: Vec<&str> = code(&text).collect();
        let packed = miniz_oxide::deflate::compress_to_vec(code.join("\n").as_bytes(), 10);
        fs::write(Path::new(&out).join(format!("{name}.ptx.z")), packed)?;
    }
    Ok(())
}

fn code(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter(|line| !line.trim_start().starts_with("//") && !line.trim().is_empty())
}
