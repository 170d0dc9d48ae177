//! What every source file keeps to.

use super::strip::code_of;

/// Longest file that is still one room.
const MAX_LINES: usize = 600;

/// Findings about one file, named from the workspace's root.
pub(super) fn check(name: &str, text: &str) -> Vec<String> {
    let mut findings = Vec::new();
    let lines = text.lines().count();
    if lines > MAX_LINES {
        findings.push(format!("{name}: {lines} lines, more than {MAX_LINES}; split it by decision"));
    }
    if !text.starts_with("//!") {
        findings.push(format!("{name}:1: does not begin with `//!` and a sentence on what it is for"));
    }
    if !name.starts_with("crates/linux/") {
        for (number, line) in (1..).zip(code_of(text).lines()) {
            if words(line).any(|w| w == "unsafe") {
                findings.push(format!("{name}:{number}: `unsafe` outside crates/linux"));
            }
            if line.contains("allow(unsafe_code") || line.contains("expect(unsafe_code") {
                findings.push(format!("{name}:{number}: lets `unsafe` in outside crates/linux"));
            }
        }
    }
    findings
}

fn words(line: &str) -> impl Iterator<Item = &str> {
    line.split(|c: char| !(c.is_alphanumeric() || c == '_'))
}

#[cfg(test)]
mod tests {
    use super::check;

    #[test]
    fn a_plain_file_is_fine() {
        let text = "//! Says `unsafe`.\n#![forbid(unsafe_code)]\n// unsafe\nconst A: &str = \"unsafe { }\";\n";
        assert_eq!(check("crates/api/src/lib.rs", text), Vec::<String>::new());
    }

    #[test]
    fn unsafe_is_found_with_its_line_but_not_in_linux() {
        let text = "//! A.\nfn f() {\n    unsafe { g() }\n}\n";
        assert_eq!(check("crates/api/src/a.rs", text), ["crates/api/src/a.rs:3: `unsafe` outside crates/linux"]);
        assert_eq!(check("crates/linux/src/a.rs", text), Vec::<String>::new());
        assert_eq!(check("crates/api/src/a.rs", "//! A.\n#[allow(unsafe_code)]\n").len(), 1);
    }

    #[test]
    fn a_file_begins_with_its_purpose_and_ends_in_time() {
        assert!(check("xtask/src/a.rs", "use std::io;\n")[0].contains("`//!`"));
        let long = format!("//! A.\n{}", "\n".repeat(600));
        assert!(check("xtask/src/a.rs", &long)[0].contains("601 lines"));
    }
}
