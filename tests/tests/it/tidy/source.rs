//! The rules of Rust sources.

use std::path::Path;

use super::scan::{Function, code_of, functions};
use super::{Finding, files, relative};

const FILE_LINES_MAX: usize = 500;
const FUNCTION_LINES_MAX: usize = 70;
const LINE_WIDTH_MAX: usize = 100;

/// Macros that say "not done yet", or that were left over.
const FORBIDDEN: [&str; 3] = ["todo!", "unimplemented!", "dbg!"];

/// Where the tests may let time pass: everything else waits for a condition.
const SLEEPERS: [&str; 5] = [
    "tests/src/wait.rs",
    "tests/src/s3/service.rs",
    "tests/src/network.rs",
    "tests/src/kubernetes/kubelet/pods.rs",
    "tests/src/kubernetes/proxy.rs",
];

pub(super) fn findings(root: &Path) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in files(root, &[".rs"]) {
        let path = relative(root, &file);
        let text = std::fs::read_to_string(&file).unwrap();
        check(&path, &text, &mut findings);
    }
    findings
}

fn check(path: &str, text: &str, findings: &mut Vec<Finding>) {
    let mut add = |rule, subject: &str, detail: String| {
        let (path, subject) = (path.to_owned(), subject.to_owned());
        findings.push(Finding { rule, path, subject, detail });
    };
    if !text.starts_with("//!") && !path.ends_with("build.rs") {
        add("header", "", "it does not begin with `//!` and what it is for".to_owned());
    }
    // A text is not broken for its length: it would be harder to find.
    let is_wide = |line: &str| line.chars().count() > LINE_WIDTH_MAX && !line.contains('"');
    let wide = (1..).zip(text.lines()).filter(|(_, line)| is_wide(line));
    let wide = wide.map(|(number, _): (u32, _)| number.to_string()).collect::<Vec<_>>();
    if !wide.is_empty() {
        add("width", "", format!("wider than {LINE_WIDTH_MAX}: lines {}", wide.join(", ")));
    }
    let code = code_of(text);
    for word in FORBIDDEN.into_iter().filter(|word| has_word(&code, word)) {
        add("forbidden", word, "finish it".to_owned());
    }
    // What the simulated world takes is time of the simulation, and costs none.
    let is_world = path.starts_with("tests/sim/src/");
    let sleeps = path.starts_with("tests/") && !is_world && !SLEEPERS.contains(&path);
    if sleeps && has_word(&code, "sleep(") {
        add("sleep", "", "wait for a condition with `muster_tests::wait::eventually`".to_owned());
    }
    if is_test(path) {
        return;
    }
    let code = without_tests(&code);
    let lines = code.lines().count();
    if lines > FILE_LINES_MAX {
        add("file-length", "", format!("{lines} lines, limit is {FILE_LINES_MAX}"));
    }
    for Function { name, lines } in functions(code) {
        if lines > FUNCTION_LINES_MAX {
            add("function-length", &name, format!("{lines} lines, limit is {FUNCTION_LINES_MAX}"));
        }
    }
}

/// Whether a file holds nothing but tests or benchmarks.
fn is_test(path: &str) -> bool {
    let inside = path.split_once('/').map_or(path, |(_crate, inside)| inside);
    inside.ends_with("tests.rs")
        || inside.split('/').any(|part| part == "tests" || part == "benches")
}

/// The part of a file before its module of tests, which stands last.
fn without_tests(code: &str) -> &str {
    let mut from = 0;
    while let Some(found) = code[from..].find("#[cfg(test)]") {
        let start = from + found;
        let item = code[start..].lines().find(|line| !line.trim_start().starts_with('#'));
        if item.is_some_and(|item| item.trim_start().starts_with("mod ") && item.contains('{')) {
            return &code[..start];
        }
        from = start + 1;
    }
    code
}

/// Whether `word` stands in `code` other than as the end of a longer name.
fn has_word(code: &str, word: &str) -> bool {
    code.match_indices(word).any(|(at, _)| {
        !code[..at].ends_with(|before: char| before.is_alphanumeric() || before == '_')
    })
}

#[test]
fn findings_name_what_is_wrong() {
    let long = format!("fn long() {{\n{}}}\n", "    step();\n".repeat(FUNCTION_LINES_MAX));
    let text = format!("{}\n{long}fn x() {{ todo!() }} // {}\n", "use a;", "y".repeat(100));
    let mut found = Vec::new();
    check("core/src/x.rs", &text, &mut found);
    let keys = found.iter().map(Finding::key).collect::<Vec<_>>();
    let path = "core/src/x.rs";
    assert_eq!(
        keys,
        [
            format!("header {path}"),
            format!("width {path}"),
            format!("forbidden {path} todo!"),
            format!("function-length {path} long"),
        ]
    );
}

#[test]
fn tests_are_not_counted() {
    let lines = "// a line\n".repeat(FILE_LINES_MAX - 1);
    let tests = "#[cfg(test)]\nmod faulty;\n#[cfg(test)]\nmod tests {\n// more\n}\n";
    let mut found = Vec::new();
    check("core/src/x.rs", &format!("//! X.\n{lines}"), &mut found);
    assert_eq!(found, []);
    check("core/src/x.rs", &format!("//! X.\n{lines}{tests}"), &mut found);
    assert_eq!(found[0].detail, "502 lines, limit is 500");
}
