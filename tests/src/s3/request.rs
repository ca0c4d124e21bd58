//! What a request asks for: the operation and the key, from its method and URL alone.

use hyper::Method;
use hyper::http::Uri;
use object_store::path::Path;

/// What is asked of the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    /// Write an object, with or without a condition.
    Put,
    /// Read an object or a part of it.
    Get,
    /// Ask about an object.
    Head,
    /// List keys.
    List,
    /// Remove an object.
    Delete,
    /// Remove objects named in the body.
    DeleteMany,
    /// Any step of a write in parts.
    Multipart,
    /// Anything about a bucket.
    Bucket,
}

/// A request as far as locks, counters and faults care.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) operation: Operation,
    /// The key inside the bucket; empty where the request is about the bucket.
    pub(super) key: String,
}

impl Target {
    pub(super) fn of(method: &Method, uri: &Uri) -> Self {
        let path = uri.path().trim_start_matches('/');
        let key = path.split_once('/').map_or("", |(_bucket, key)| key);
        // A key that does not decode stays as it was sent: the server refuses it by itself.
        let key = Path::from_url_path(key).map_or_else(|_| key.to_owned(), String::from);
        let operation = operation_of(method, uri.query().unwrap_or_default(), key.is_empty());
        Self { operation, key }
    }

    /// Whether it only reads.
    pub(super) fn reads(&self) -> bool {
        matches!(self.operation, Operation::Get | Operation::Head | Operation::List)
    }
}

fn operation_of(method: &Method, query: &str, of_bucket: bool) -> Operation {
    let asks = |name: &str| {
        query.split('&').any(|pair| pair.split_once('=').map_or(pair, |(key, _)| key) == name)
    };
    if of_bucket {
        return match method.as_str() {
            "GET" => Operation::List,
            "POST" if asks("delete") => Operation::DeleteMany,
            _ => Operation::Bucket,
        };
    }
    if asks("uploads") || asks("uploadId") {
        return Operation::Multipart;
    }
    match method.as_str() {
        "GET" => Operation::Get,
        "HEAD" => Operation::Head,
        "DELETE" => Operation::Delete,
        _ => Operation::Put,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operation_and_key_come_from_method_and_url() {
        let cases = [
            ("PUT", "/b/a/b%3D1.parquet", Operation::Put, "a/b=1.parquet"),
            ("GET", "/b/a", Operation::Get, "a"),
            ("HEAD", "/b/a", Operation::Head, "a"),
            ("DELETE", "/b/a", Operation::Delete, "a"),
            ("GET", "/b?list-type=2&prefix=a", Operation::List, ""),
            ("POST", "/b?delete", Operation::DeleteMany, ""),
            ("POST", "/b/a?uploads", Operation::Multipart, "a"),
            ("PUT", "/b/a?partNumber=1&uploadId=x", Operation::Multipart, "a"),
            ("PUT", "/b/", Operation::Bucket, ""),
        ];
        for (method, uri, operation, key) in cases {
            let target = Target::of(&method.parse().unwrap(), &uri.parse().unwrap());
            assert_eq!(target, Target { operation, key: key.to_owned() }, "{method} {uri}");
        }
    }
}
