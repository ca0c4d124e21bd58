//! Names on the bus: which are valid, which pattern matches which subject, and how any text becomes
//! one token of a subject or key.

use std::fmt::Write as _;

use super::Error;

/// Bytes that a subject or key may have.
const NAME_BYTES_MAX: usize = 1024;

/// Whether `subject` can be published to: dot-separated tokens, none empty, no blanks, controls or
/// wildcards.
#[must_use]
pub fn is_valid_subject(subject: &str) -> bool {
    is_valid_pattern(subject) && !subject.split('.').any(|token| token == "*" || token == ">")
}

/// Whether `key` can stand in a bucket: letters, digits and `-/_=.`, no dot at either end, no two
/// dots in a row.
#[must_use]
pub fn is_valid_key(key: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-/_=.".contains(&byte);
    key.len() <= NAME_BYTES_MAX
        && key.bytes().all(is_allowed)
        && !key.split('.').any(|token| token.is_empty())
}

/// Whether `subject` falls under `pattern`, where `*` stands for one token and a final `>` for one
/// or more.
#[must_use]
pub fn matches(pattern: &str, subject: &str) -> bool {
    let mut tokens = subject.split('.');
    for wanted in pattern.split('.') {
        let Some(token) = tokens.next() else { return false };
        match wanted {
            ">" => return true,
            "*" => {}
            exact if exact == token => {}
            _ => return false,
        }
    }
    tokens.next().is_none()
}

/// `text` as one token of a subject or key: letters, digits, `-` and `_` stay, every other byte
/// becomes `=` and two hexadecimal digits. Different texts give different tokens; the empty text
/// gives `=`.
#[must_use]
pub fn token(text: &str) -> String {
    if text.is_empty() {
        return "=".to_owned();
    }
    let mut token = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_' {
            token.push(char::from(byte));
        } else {
            write!(token, "={byte:02x}").expect("writing to a string cannot fail");
        }
    }
    token
}

pub(super) fn check_subject(subject: &str) -> Result<(), Error> {
    check(is_valid_subject(subject), "subject", subject)
}

pub(super) fn check_pattern(pattern: &str, group: Option<&str>) -> Result<(), Error> {
    check(is_valid_pattern(pattern), "subject", pattern)?;
    match group {
        Some(group) => check(is_valid_subject(group), "group", group),
        None => Ok(()),
    }
}

pub(super) fn check_key(key: &str) -> Result<(), Error> {
    check(is_valid_key(key), "key", key)
}

pub(super) fn check_bucket(bucket: &str) -> Result<(), Error> {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    check(!bucket.is_empty() && bucket.bytes().all(is_allowed), "bucket", bucket)
}

fn check(is_valid: bool, what: &'static str, name: &str) -> Result<(), Error> {
    if is_valid { Ok(()) } else { Err(Error::InvalidName { what, name: name.to_owned() }) }
}

fn is_valid_pattern(pattern: &str) -> bool {
    let mut tokens = pattern.split('.').peekable();
    if pattern.len() > NAME_BYTES_MAX {
        return false;
    }
    while let Some(token) = tokens.next() {
        let is_last = tokens.peek().is_none();
        let has_bad_char = token.chars().any(|c| c.is_whitespace() || c.is_control());
        if token.is_empty() || has_bad_char || (token == ">" && !is_last) {
            return false;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards_match_as_in_nats() {
        let cases = [
            ("a.b", "a.b", true),
            ("a.b", "a.c", false),
            ("a.b", "a", false),
            ("a", "a.b", false),
            ("a.*", "a.b", true),
            ("a.*", "a.b.c", false),
            ("a.*.c", "a.b.c", true),
            ("a.>", "a.b.c", true),
            ("a.>", "a", false),
            (">", "a", true),
        ];
        for (pattern, subject, expected) in cases {
            assert_eq!(matches(pattern, subject), expected, "{pattern} {subject}");
        }
    }

    #[test]
    fn names_that_the_bus_would_misread_are_refused() {
        for subject in ["", ".", "a.", ".a", "a..b", "a b", "a\n", "a.*", ">"] {
            assert!(!is_valid_subject(subject), "{subject:?}");
        }
        assert!(is_valid_pattern("a.*.>") && !is_valid_pattern("a.>.b"));
        assert!(is_valid_key("a/b-c_d=e.f") && !is_valid_key("a:b") && !is_valid_key(".a"));
        assert!(check_bucket("leases_v1").is_ok() && check_bucket("a.b").is_err());
    }

    #[test]
    fn any_text_becomes_one_distinct_token() {
        assert_eq!(token("team-a_1"), "team-a_1");
        assert_eq!(token("a.b c=é"), "a=2eb=20c=3d=c3=a9");
        assert_eq!(token(""), "=");
        assert!(is_valid_key(&token("*.>")) && is_valid_subject(&token("*.>")));
    }
}
