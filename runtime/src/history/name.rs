//! The keys of history objects. Everything that is needed to pass an object by stands in its key:
//! the day, the shard, and the first and last job.
//!
//! `history/finished_date=2026-01-31/{shard}-{after}-{through}-{part}-{first job}-{last
//! job}.parquet`, where `after` and `through` are places in the log (`sequence-row`) and a task is
//! written `array.index`.

use std::fmt;

use muster_core::id::{JobRef, Position, ShardId};
use muster_core::record::HistorySpan;
use muster_core::time::Timestamp;
use object_store::path::Path;

/// Where history lies.
pub(super) const TREE: Tree = Tree { root: "history", day: "finished_date=" };

/// Objects by days: where they begin, and what stands before the day in its directory's name.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tree {
    pub(crate) root: &'static str,
    pub(crate) day: &'static str,
}

/// A day of the calendar (UTC), in days since the Unix epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Day(pub(super) i64);

/// An object's key, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Name {
    pub(super) day: Day,
    pub(super) shard: ShardId,
    pub(super) span: HistorySpan,
    pub(super) part: u32,
    pub(super) first: JobRef,
    pub(super) last: JobRef,
}

impl Tree {
    /// The directory of a day.
    pub(crate) fn prefix(self, day: Day) -> Path {
        Path::from_iter([self.root.to_owned(), format!("{}{day}", self.day)])
    }

    /// The day of a directory.
    pub(crate) fn day(self, prefix: &Path) -> Option<Day> {
        Day::parse(prefix.filename()?.strip_prefix(self.day)?)
    }
}

impl Day {
    pub(crate) fn of(at: Timestamp) -> Self {
        Self(at.days())
    }

    pub(super) fn prefix(self) -> Path {
        TREE.prefix(self)
    }

    /// Where the objects of `shard` begin in a listing of the day.
    pub(super) fn offset(self, shard: ShardId) -> Path {
        self.prefix().join(format!("{:05}", shard.0))
    }

    pub(super) fn from_prefix(prefix: &Path) -> Option<Self> {
        TREE.day(prefix)
    }

    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.splitn(3, '-').map(str::parse::<i64>);
        let (year, month, day) = (parts.next()?.ok()?, parts.next()?.ok()?, parts.next()?.ok()?);
        // Counted in eras of 400 years that begin on the first of March, so that leap days come
        // last.
        let year = if month <= 2 { year - 1 } else { year };
        let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
        let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
        let days = of_era * 365 + of_era / 4 - of_era / 100 + of_year;
        Some(Self(era * 146_097 + days - 719_468))
    }
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shifted = self.0 + 719_468;
        let (era, of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
        let years = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * years + years / 4 - years / 100);
        let month = (5 * of_year + 2) / 153;
        let day = of_year - (153 * month + 2) / 5 + 1;
        let month = if month < 10 { month + 3 } else { month - 9 };
        let year = era * 400 + years + i64::from(month <= 2);
        write!(f, "{year:04}-{month:02}-{day:02}")
    }
}

impl Name {
    pub(super) fn key(&self) -> Path {
        let HistorySpan { after, through } = self.span;
        let name = format!(
            "{:05}-{}-{}-{:05}-{}-{}.parquet",
            self.shard.0,
            Place(after),
            Place(through),
            self.part,
            task(self.first),
            task(self.last),
        );
        self.day.prefix().join(name)
    }

    pub(super) fn parse(key: &Path) -> Option<Self> {
        let parts: Vec<_> = key.parts().collect();
        let [.., day, name] = parts.as_slice() else { return None };
        let day = Day::parse(day.as_ref().strip_prefix(TREE.day)?)?;
        let fields: Vec<&str> = name.as_ref().strip_suffix(".parquet")?.split('-').collect();
        let [shard, after, after_row, through, through_row, part, first, last] = fields[..] else {
            return None;
        };
        let place = |sequence: &str, row: &str| {
            Some(Position { sequence: sequence.parse().ok()?, row: row.parse().ok()? })
        };
        Some(Self {
            day,
            shard: ShardId(shard.parse().ok()?),
            span: HistorySpan {
                after: place(after, after_row)?,
                through: place(through, through_row)?,
            },
            part: part.parse().ok()?,
            first: first.replace('.', "-").parse().ok()?,
            last: last.replace('.', "-").parse().ok()?,
        })
    }
}

/// The prefix of all history.
pub(super) fn root() -> Path {
    Path::from(TREE.root)
}

struct Place(Position);

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:020}-{:010}", self.0.sequence, self.0.row)
    }
}

fn task(job: JobRef) -> String {
    job.to_string().replace('-', ".")
}

#[cfg(test)]
mod tests {
    use muster_core::id::JobId;

    use super::*;

    #[test]
    fn days_are_those_of_the_calendar() {
        let cases =
            [(0, "1970-01-01"), (-1, "1969-12-31"), (20_512, "2026-02-28"), (20_513, "2026-03-01")];
        for (day, text) in cases.into_iter().chain([(19_782, "2024-02-29"), (11_016, "2000-02-29")])
        {
            assert_eq!(Day(day).to_string(), text);
            assert_eq!(Day::parse(text), Some(Day(day)));
        }
        for day in 0..100_000 {
            assert_eq!(Day::parse(&Day(day).to_string()), Some(Day(day)));
        }
    }

    #[test]
    fn a_key_says_what_is_in_the_object() {
        let job = JobId::new(Timestamp(1_790_000_000_123), ShardId(7), 5);
        let place = |sequence, row| Position { sequence, row };
        let name = Name {
            day: Day(20_512),
            shard: ShardId(7),
            span: HistorySpan { after: place(3, 4), through: place(99, 0) },
            part: 2,
            first: JobRef::whole(job),
            last: JobRef::task(job.plus(1), 41),
        };
        let key = name.key();
        assert_eq!(
            key.as_ref(),
            format!(
                "history/finished_date=2026-02-28/00007-00000000000000000003-0000000004-\
                 00000000000000000099-0000000000-00002-{job}-{}.41.parquet",
                job.plus(1)
            )
        );
        assert_eq!(Name::parse(&key), Some(name));
        assert_eq!(Name::parse(&Path::from("history/finished_date=2026-02-28/x.parquet")), None);
        assert_eq!(Day::from_prefix(&Day(20_512).prefix()), Some(Day(20_512)));
        assert!(Day(20_512).offset(ShardId(7)) < key && key < Day(20_512).offset(ShardId(8)));
    }
}
