//! The sources of the crate, as the checks read them.

use std::fs;
use std::path::{Path, PathBuf};

/// All source files: the path below `src`, and the content.
pub(crate) fn files() -> Vec<(String, String)> {
    files_of("src")
}

/// All Rust files below a directory of the crate: the path in it, and the content.
pub(crate) fn files_of(directory: &str) -> Vec<(String, String)> {
    fn collect(directory: &Path, into: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(directory).expect("the sources") {
            let path = entry.expect("the sources").path();
            if path.is_dir() {
                // What the nested package of benches/peers has built is nobody's source.
                if !path.ends_with("target") {
                    collect(&path, into);
                }
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                into.push(path);
            }
        }
    }
    let mut paths = Vec::new();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(directory);
    collect(&root, &mut paths);
    paths.sort();
    let name =
        |path: &Path| path.strip_prefix(&root).expect("below it").to_string_lossy().into_owned();
    paths.iter().map(|path| (name(path), fs::read_to_string(path).expect("text"))).collect()
}

/// The lines that are code: neither comments nor documentation.
pub(crate) fn code(content: &str) -> impl Iterator<Item = &str> {
    content.lines().map(str::trim).filter(|line| !line.starts_with("//"))
}
