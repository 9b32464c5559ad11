//! Puts the page together from its parts in `page/` and packs it, for the library to carry.

use std::path::Path;
use std::{env, fs, io};

/// In the order in which they run: the libraries that draw, then ours.
const SCRIPTS: [&str; 8] =
    ["vendor.js", "data.js", "timeline.js", "lanes.js", "graph.js", "panel.js", "tables.js", "main.js"];

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-changed=page");
    let out = env::var_os("OUT_DIR").ok_or(io::Error::other("cargo sets OUT_DIR"))?;
    let style = element("style", "page.css")?;
    let scripts = SCRIPTS.iter().map(|name| element("script", name)).collect::<io::Result<String>>()?;
    // The frame has a comment `<!-- part -->` where each part goes; the data goes in when a page is written.
    let mut page = fs::read_to_string("page/page.html")?;
    for (part, text) in [("<!-- style -->", style), ("<!-- scripts -->", scripts), (DATA, DATA.into())] {
        if page.matches(part).count() != 1 {
            return Err(io::Error::other(format!("page/page.html and what goes into it have {part} exactly once")));
        }
        page = page.replace(part, &text);
    }
    fs::write(Path::new(&out).join("page.html.z"), miniz_oxide::deflate::compress_to_vec(page.as_bytes(), 10))
}

const DATA: &str = "<!-- data -->";

/// A part of the page in the element that holds it, which the part itself must not end.
fn element(tag: &str, name: &str) -> io::Result<String> {
    let text = fs::read_to_string(Path::new("page").join(name))?;
    if text.to_lowercase().contains(&format!("</{tag}")) || text.contains("<!--") {
        return Err(io::Error::other(format!("page/{name} has a </{tag} or a <!--, which end or swallow its element")));
    }
    Ok(format!("<{tag}>\n{text}</{tag}>\n"))
}
