//! Objects as an API server stored them, a folder for each release: `tests/fixtures/objects/v<release>`.

use std::path::{Path, PathBuf};

use serde_json::Value;

/// The list of a folder's files with their checksums, as `sha256sum` writes it.
pub const SUMS: &str = "SHA256SUMS";

/// A stored object.
pub struct Stored {
    /// The release that stored it, as its folder is called.
    pub release: String,
    /// Name of the file, without its ending.
    pub name: String,
    /// The object.
    pub object: Value,
}

/// Folders of all releases, by name.
pub fn releases() -> Vec<PathBuf> {
    files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/objects"))
}

/// What is in a folder, by name.
pub fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

/// The objects of all releases.
pub fn objects() -> Vec<Stored> {
    let mut all = Vec::new();
    for release in releases() {
        for file in files(&release).into_iter().filter(|file| file.extension().is_some_and(|ending| ending == "yaml")) {
            let text = std::fs::read_to_string(&file).unwrap();
            all.push(Stored {
                release: release.file_name().unwrap().to_str().unwrap().to_owned(),
                name: file.file_stem().unwrap().to_str().unwrap().to_owned(),
                object: serde_yaml::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display())),
            });
        }
    }
    all
}
