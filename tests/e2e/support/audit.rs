//! What `tests/audit.rs` reads after a run: the audit logs of the control planes, and which accounts are the chart's.

use std::io::Write;
use std::path::{Path, PathBuf};

/// Where logs and accounts go; nowhere when nobody reads them.
fn folder() -> Option<PathBuf> {
    let dir = PathBuf::from(std::env::var_os("DCI_AUDIT_DIR")?);
    std::fs::create_dir_all(&dir).unwrap();
    Some(dir)
}

fn name(plane: &Path) -> String {
    plane.file_name().unwrap().to_string_lossy().into_owned()
}

/// Notes an account that has exactly the chart's permissions. Accounts with fewer of them, of tests that take some away, are not
/// noted.
pub fn account(plane: &Path, mode: &str, namespace: &str, account: &str) {
    let Some(dir) = folder() else { return };
    let line = format!("{}\t{mode}\tsystem:serviceaccount:{namespace}:{account}\n", name(plane));
    // One write each: tests run side by side.
    let mut file = std::fs::File::options().create(true).append(true).open(dir.join("accounts")).unwrap();
    file.write_all(line.as_bytes()).unwrap();
}

/// Keeps the log of a control plane that is going.
pub fn keep(plane: &Path) {
    let Some(dir) = folder() else { return };
    let _ = std::fs::copy(plane.join("audit.log"), dir.join(format!("{}.log", name(plane))));
}
