//! What users may call things: one check per kind of name, used by every way in.

use crate::limits;

/// Why a name was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Nothing was given.
    #[error("{what} is empty")]
    Empty {
        /// Which field.
        what: &'static str,
    },
    /// Longer than allowed.
    #[error("{what} has {len} bytes, limit is {max}")]
    TooLong {
        /// Which field.
        what: &'static str,
        /// Bytes given.
        len: usize,
        /// Bytes allowed.
        max: usize,
    },
    /// A character that is not allowed.
    #[error("{what} `{name}` holds {found:?}; allowed are {allowed}")]
    BadCharacter {
        /// Which field.
        what: &'static str,
        /// The name as given.
        name: String,
        /// The first offending character.
        found: char,
        /// What would be allowed.
        allowed: &'static str,
    },
}

/// A queue: letters, digits, `-`, `_`, `.` and `/` (queues form a tree), not at an end.
///
/// # Errors
/// When it is empty, too long or holds another character.
pub fn queue(name: &str) -> Result<(), Error> {
    const ALLOWED: &str = "letters, digits, `-`, `_`, `.` and, between them, `/`";
    length("queue", name, limits::QUEUE_NAME_BYTES_MAX)?;
    let edge = |c: char| !c.is_ascii_alphanumeric();
    let bad = name
        .chars()
        .find(|&c| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/')))
        .or_else(|| name.chars().next().filter(|&c| edge(c)))
        .or_else(|| name.chars().last().filter(|&c| edge(c)))
        .or_else(|| name.contains("//").then_some('/'));
    match bad {
        Some(found) => Err(Error::BadCharacter {
            what: "queue",
            name: name.to_owned(),
            found,
            allowed: ALLOWED,
        }),
        None => Ok(()),
    }
}

/// A job set: any text without control characters.
///
/// # Errors
/// When it is empty, too long or holds a control character.
pub fn job_set(name: &str) -> Result<(), Error> {
    printable("job set", name, limits::JOB_SET_NAME_BYTES_MAX)
}

/// A client id: any text without control characters.
///
/// # Errors
/// When it is empty, too long or holds a control character.
pub fn client_id(name: &str) -> Result<(), Error> {
    printable("client id", name, limits::CLIENT_ID_BYTES_MAX)
}

/// An `Idempotency-Key`: any text without control characters.
///
/// # Errors
/// When it is empty, too long or holds a control character.
pub fn idempotency_key(name: &str) -> Result<(), Error> {
    printable("idempotency key", name, limits::IDEMPOTENCY_KEY_BYTES_MAX)
}

/// A namespace: a Kubernetes DNS label (RFC 1123).
///
/// # Errors
/// When it is empty, longer than 63 bytes or no DNS label.
pub fn namespace(name: &str) -> Result<(), Error> {
    length("namespace", name, 63)?;
    let bad = name
        .chars()
        .find(|&c| !(c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-'))
        .or_else(|| (name.starts_with('-') || name.ends_with('-')).then_some('-'));
    match bad {
        Some(found) => Err(Error::BadCharacter {
            what: "namespace",
            name: name.to_owned(),
            found,
            allowed: "lower-case letters, digits and, between them, `-`",
        }),
        None => Ok(()),
    }
}

/// A pool: the value of a Kubernetes node label, and without two dots in a row, since it is a part
/// of a subject of the bus.
///
/// # Errors
/// When it is empty, longer than 63 bytes or no such value.
pub fn pool(name: &str) -> Result<(), Error> {
    length("pool", name, 63)?;
    let bad = name
        .chars()
        .find(|&c| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.')))
        .or_else(|| name.chars().next().filter(|c| !c.is_ascii_alphanumeric()))
        .or_else(|| name.chars().last().filter(|c| !c.is_ascii_alphanumeric()))
        .or_else(|| name.contains("..").then_some('.'));
    match bad {
        Some(found) => Err(Error::BadCharacter {
            what: "pool",
            name: name.to_owned(),
            found,
            allowed: "letters, digits and, between them, `-`, `_` and single `.`",
        }),
        None => Ok(()),
    }
}

/// A resource: a Kubernetes qualified name is one.
///
/// # Errors
/// When it is empty, longer than 317 bytes or holds a control character.
pub fn resource(name: &str) -> Result<(), Error> {
    printable("resource", name, 317)
}

/// A cluster: letters, digits, `-` and `_`, since it is a part of subjects of the bus.
///
/// # Errors
/// When it is empty, longer than 253 bytes or holds another character.
pub fn cluster(name: &str) -> Result<(), Error> {
    length("cluster", name, 253)?;
    match name.chars().find(|&c| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_'))) {
        Some(found) => Err(Error::BadCharacter {
            what: "cluster",
            name: name.to_owned(),
            found,
            allowed: "letters, digits, `-` and `_`",
        }),
        None => Ok(()),
    }
}

/// A node: any text without control characters.
///
/// # Errors
/// When it is empty, longer than 253 bytes or holds a control character.
pub fn node(name: &str) -> Result<(), Error> {
    printable("node", name, 253)
}

/// Why somebody does something, in their words: any text without control characters.
///
/// # Errors
/// When it is empty, too long or holds a control character.
pub fn reason(text: &str) -> Result<(), Error> {
    printable("reason", text, limits::REASON_BYTES_MAX)
}

/// A gang: any text without control characters.
///
/// # Errors
/// When it is empty, too long or holds a control character.
pub fn gang(name: &str) -> Result<(), Error> {
    printable("gang", name, limits::GANG_ID_BYTES_MAX)
}

/// A priority class: a Kubernetes DNS subdomain (RFC 1123).
///
/// # Errors
/// When it is empty, too long or no such name.
pub fn priority_class(name: &str) -> Result<(), Error> {
    length("priority class", name, limits::PRIORITY_CLASS_NAME_BYTES_MAX)?;
    let edge = |c: char| !(c.is_ascii_lowercase() || c.is_ascii_digit());
    let bad = name
        .chars()
        .find(|&c| edge(c) && !matches!(c, '-' | '.'))
        .or_else(|| name.chars().next().filter(|&c| edge(c)))
        .or_else(|| name.chars().last().filter(|&c| edge(c)))
        .or_else(|| name.contains("..").then_some('.'));
    match bad {
        Some(found) => Err(Error::BadCharacter {
            what: "priority class",
            name: name.to_owned(),
            found,
            allowed: "lower-case letters, digits and, between them, `-` and single `.`",
        }),
        None => Ok(()),
    }
}

fn printable(what: &'static str, name: &str, max: usize) -> Result<(), Error> {
    length(what, name, max)?;
    match name.chars().find(|c| c.is_control()) {
        Some(found) => Err(Error::BadCharacter {
            what,
            name: name.to_owned(),
            found,
            allowed: "all but control characters",
        }),
        None => Ok(()),
    }
}

fn length(what: &'static str, name: &str, max: usize) -> Result<(), Error> {
    match name.len() {
        0 => Err(Error::Empty { what }),
        len if len > max => Err(Error::TooLong { what, len, max }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_accepted_at_the_limit_and_refused_one_past_it() {
        assert!(queue(&"q".repeat(limits::QUEUE_NAME_BYTES_MAX)).is_ok());
        assert!(queue(&"q".repeat(limits::QUEUE_NAME_BYTES_MAX + 1)).is_err());
        assert!(job_set(&"s".repeat(limits::JOB_SET_NAME_BYTES_MAX)).is_ok());
        assert!(job_set(&"s".repeat(limits::JOB_SET_NAME_BYTES_MAX + 1)).is_err());
        assert!(client_id(&"c".repeat(limits::CLIENT_ID_BYTES_MAX)).is_ok());
        assert!(client_id(&"c".repeat(limits::CLIENT_ID_BYTES_MAX + 1)).is_err());
        assert!(namespace(&"n".repeat(63)).is_ok());
        assert!(namespace(&"n".repeat(64)).is_err());
        let max = limits::PRIORITY_CLASS_NAME_BYTES_MAX;
        assert!(priority_class(&"p".repeat(max)).is_ok());
        assert!(priority_class(&"p".repeat(max + 1)).is_err());
        assert!(pool(&"p".repeat(63)).is_ok());
        assert!(pool(&"p".repeat(64)).is_err());
    }

    #[test]
    fn names_that_would_confuse_are_refused() {
        for bad in ["", "/a", "a/", "a//b", "a b", "é", "-a", "a\n"] {
            assert!(queue(bad).is_err(), "{bad:?}");
        }
        for good in ["a", "team/project/user", "A.b-c_9"] {
            assert!(queue(good).is_ok(), "{good:?}");
        }
        for bad in ["", "Upper", "-a", "a-", "a.b"] {
            assert!(namespace(bad).is_err(), "{bad:?}");
        }
        assert!(job_set("a\u{7}").is_err());
        for bad in ["", "-a", "a.", "a..b", "a/b", "a b", "é", "a.*", ">"] {
            assert!(pool(bad).is_err(), "{bad:?}");
        }
        for bad in ["", "-a", "a.", "a..b", "A", "a_b", "a/b", "é"] {
            assert!(priority_class(bad).is_err(), "{bad:?}");
        }
        for good in ["a", "armada-default", "team.urgent-2"] {
            assert!(priority_class(good).is_ok(), "{good:?}");
        }
        for good in ["a", "gpu-A100_80.big"] {
            assert!(pool(good).is_ok(), "{good:?}");
        }
    }
}
