//! The proof, at the start of every process, that the store is safe: everything that Muster
//! promises rests on create-if-absent letting exactly one writer win, and on a write being seen by
//! the next read.

use bytes::Bytes;
use futures::TryStreamExt;
use futures::future::{join_all, try_join_all};
use object_store::ObjectStoreExt;
use object_store::path::Path;

use super::{Created, Kind, Store};
use crate::Random;

/// Writers of one key at the same time.
const CREATORS: usize = 8;
/// Races on a store behind a network.
const ROUNDS_REMOTE: usize = 16;
/// Races on a store of this machine.
const ROUNDS_LOCAL: usize = 2;

/// Why a store is not used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A second write of a key was not refused.
    #[error(
        "the store let a second writer replace an object that was to be created only if absent: \
         it is not safe for Muster"
    )]
    Replaced,
    /// Several won a race.
    #[error(
        "the store let {winners} of {creators} creators of one key win: it is not safe for Muster"
    )]
    Winners {
        /// How many were told that they won.
        winners: usize,
        /// How many tried.
        creators: usize,
    },
    /// A read returned something else than what was written.
    #[error(
        "the store returned other content than was written to `{key}`: it is not safe for Muster"
    )]
    Content {
        /// The object.
        key: String,
    },
    /// A read did not see a write.
    #[error("the store did not find `{key}` right after writing it: it is not safe for Muster")]
    Unread {
        /// The object.
        key: String,
    },
    /// A listing did not show a write.
    #[error("the store did not list `{key}` right after writing it: it is not safe for Muster")]
    Unlisted {
        /// The object.
        key: String,
    },
    /// A request failed.
    #[error("the store cannot {action}")]
    Request {
        /// What was tried.
        action: &'static str,
        /// Why it failed.
        #[source]
        source: object_store::Error,
    },
}

/// Proves that the store is safe, on keys of its own under `probe/`, which it deletes again.
///
/// # Errors
/// When the store is not safe, or a request fails.
pub async fn probe(store: &Store, random: &Random) -> Result<(), Error> {
    let rounds = match store.kind() {
        Kind::S3 => ROUNDS_REMOTE,
        Kind::File | Kind::Memory => ROUNDS_LOCAL,
    };
    let name = format!("{:032x}", random.u128());
    let keys: Vec<Path> = (0..=rounds)
        .map(|n| Path::from_iter(["probe".to_owned(), format!("{name}-{n:02}")]))
        .collect();
    let result = check(store, &keys).await;
    let deleted = delete(store, &keys).await;
    // What is wrong with the store matters more than that its probe could not be cleaned up.
    result.and(deleted)
}

async fn check(store: &Store, keys: &[Path]) -> Result<(), Error> {
    let (first, raced) =
        keys.split_first().expect("there is a key for the sequence and one a round");
    refuses_in_sequence(store, first).await?;
    for key in raced {
        one_wins(store, key).await?;
    }
    lists(store, keys).await
}

async fn refuses_in_sequence(store: &Store, key: &Path) -> Result<(), Error> {
    let write = |text: &'static str| create(store, key, text.into());
    if write("first").await? == Created::Refused {
        // Nobody else knows the key: this was a repetition of our own write within the client, or a
        // conflict that the store made up; the content tells.
        expect_content(store, key, &["first"]).await?;
    }
    let second = write("second").await?;
    expect_content(store, key, &["first"]).await.map_err(|error| match error {
        Error::Content { .. } => Error::Replaced,
        other => other,
    })?;
    if second == Created::Yes { Err(Error::Replaced) } else { Ok(()) }
}

async fn one_wins(store: &Store, key: &Path) -> Result<(), Error> {
    let names: Vec<String> = (0..CREATORS).map(|n| format!("creator {n}")).collect();
    let tries = names.iter().map(|name| create(store, key, Bytes::from(name.clone())));
    let mut winners = Vec::new();
    for (name, created) in names.iter().zip(join_all(tries).await) {
        if created? == Created::Yes {
            winners.push(name.as_str());
        }
    }
    match winners.len() {
        // The winner's own write may have been repeated within the client and refused.
        0 => {
            let all: Vec<&str> = names.iter().map(String::as_str).collect();
            expect_content(store, key, &all).await
        }
        1 => expect_content(store, key, &winners).await,
        winners => Err(Error::Winners { winners, creators: CREATORS }),
    }
}

async fn expect_content(store: &Store, key: &Path, any_of: &[&str]) -> Result<(), Error> {
    let read = store.read(key).await;
    let content = read.map_err(|source| Error::Request { action: "read an object", source })?;
    let content = content.ok_or_else(|| Error::Unread { key: key.to_string() })?;
    if any_of.iter().any(|text| text.as_bytes() == content) {
        Ok(())
    } else {
        Err(Error::Content { key: key.to_string() })
    }
}

async fn lists(store: &Store, keys: &[Path]) -> Result<(), Error> {
    let prefix = Path::from("probe");
    let listed = store.objects().list(Some(&prefix));
    let listed: Result<Vec<Path>, _> = listed.map_ok(|object| object.location).try_collect().await;
    let listed = listed.map_err(|source| Error::Request { action: "list objects", source })?;
    match keys.iter().find(|key| !listed.contains(key)) {
        Some(missing) => Err(Error::Unlisted { key: missing.to_string() }),
        None => Ok(()),
    }
}

async fn create(store: &Store, key: &Path, data: Bytes) -> Result<Created, Error> {
    let action = "create an object only if it is absent";
    store.create(key, data).await.map_err(|source| Error::Request { action, source })
}

async fn delete(store: &Store, keys: &[Path]) -> Result<(), Error> {
    let objects = store.objects();
    let deleted = try_join_all(keys.iter().map(|key| async {
        match objects.delete(key).await {
            // A probe that failed early did not write them all.
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(source) => Err(Error::Request { action: "delete an object", source }),
        }
    }));
    deleted.await.map(drop)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use super::super::faulty::Faulty;
    use super::super::{Config, open};
    use super::*;

    async fn left_over(store: &Store) -> usize {
        let listed: Vec<_> = store.objects().list(None).try_collect().await.unwrap();
        listed.len()
    }

    #[tokio::test]
    async fn a_directory_and_memory_pass_and_nothing_is_left() {
        let directory = tempfile::tempdir().unwrap();
        let url = format!("file://{}", directory.path().display());
        for url in ["memory:///", &url] {
            let store = open(&Config::at(url)).unwrap();
            probe(&store, &Random::from_os()).await.unwrap();
            assert_eq!(left_over(&store).await, 0, "{url}");
        }
    }

    #[tokio::test]
    async fn a_store_that_replaces_objects_is_refused() {
        let faulty = Faulty::new();
        faulty.ignore_create.store(true, Ordering::SeqCst);
        let error = probe(&faulty.store(), &Random::seeded(1)).await.unwrap_err();
        assert!(matches!(error, Error::Replaced), "{error}");
        assert_eq!(left_over(&faulty.store()).await, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_that_lets_several_racers_win_is_refused() {
        let faulty = Faulty::new();
        faulty.ignore_races.store(true, Ordering::SeqCst);
        faulty.answer_slowly.store(true, Ordering::SeqCst);
        let error = probe(&faulty.store(), &Random::seeded(1)).await.unwrap_err();
        assert!(matches!(error, Error::Winners { winners: 2.., creators: 8 }), "{error}");
        assert!(error.to_string().contains("creators of one key win"), "{error}");
    }
}
