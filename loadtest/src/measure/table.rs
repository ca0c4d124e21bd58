//! The table that docs/benchmarks.md holds: Markdown, a line a row.

use std::fmt;

/// One measurement beside its goal.
#[derive(Debug, Clone)]
pub struct Row {
    /// What was measured.
    pub what: String,
    /// What came out.
    pub measured: String,
    /// Floors, ratios and what else belongs to it.
    pub beside: String,
    /// What was promised.
    pub goal: String,
    /// Whether it was kept.
    pub met: Met,
}

/// Whether a goal was reached.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Met {
    /// It was.
    Yes,
    /// It was missed by this part of it.
    MissedBy(f64),
    /// There is none: the figure is there to be known.
    NoGoal,
}

impl Met {
    /// A value that should be at most `goal`.
    #[must_use]
    pub fn at_most(value: f64, goal: f64) -> Self {
        if value <= goal { Self::Yes } else { Self::MissedBy(value / goal - 1.0) }
    }

    /// A value that should be at least `goal`.
    #[must_use]
    pub fn at_least(value: f64, goal: f64) -> Self {
        if value >= goal { Self::Yes } else { Self::MissedBy(1.0 - value / goal) }
    }

    /// Both.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::NoGoal, other) | (other, Self::NoGoal) | (Self::Yes, other) => other,
            (this, Self::Yes) => this,
            (Self::MissedBy(a), Self::MissedBy(b)) => Self::MissedBy(a.max(b)),
        }
    }
}

impl fmt::Display for Met {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Yes => write!(f, "yes"),
            Self::NoGoal => write!(f, "–"),
            Self::MissedBy(part) if *part < 0.01 => write!(f, "no, by less than 1 %"),
            Self::MissedBy(part) => write!(f, "no, by {:.0} %", part * 100.0),
        }
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, measured, beside, goal, met } = self;
        write!(f, "| {what} | {measured} | {beside} | {goal} | {met} |")
    }
}

/// Rows under their heads.
#[must_use]
pub fn table(rows: &[Row]) -> String {
    let mut text = String::from("| what | measured | beside | goal | met |\n");
    text += "| --- | --- | --- | --- | --- |\n";
    for row in rows {
        text += &format!("{row}\n");
    }
    text
}

/// A number with commas between its thousands.
#[must_use]
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let groups: Vec<&str> = digits
        .as_bytes()
        .rchunks(3)
        .rev()
        .map(|group| std::str::from_utf8(group).expect("digits are text"))
        .collect();
    groups.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_miss_says_by_how_much() {
        assert_eq!(Met::at_most(2.0, 2.0).to_string(), "yes");
        assert_eq!(Met::at_most(2.5, 2.0).to_string(), "no, by 25 %");
        assert_eq!(Met::at_least(70.0, 100.0).to_string(), "no, by 30 %");
        assert_eq!(Met::at_most(2.01, 2.0).to_string(), "no, by less than 1 %");
        let both = Met::at_most(3.0, 2.0).and(Met::at_least(1.0, 1.1));
        assert_eq!(both.to_string(), "no, by 50 %");
        assert_eq!(Met::Yes.and(Met::Yes), Met::Yes);
        assert_eq!(Met::NoGoal.to_string(), "–");
        assert_eq!((Met::NoGoal.and(Met::Yes), Met::Yes.and(Met::NoGoal)), (Met::Yes, Met::Yes));
    }

    #[test]
    fn numbers_are_grouped_by_thousands() {
        let texts = [0, 999, 1_000, 1_234_567].map(grouped);
        assert_eq!(texts, ["0", "999", "1,000", "1,234,567"]);
    }

    #[test]
    fn a_table_is_markdown() {
        let row = Row {
            what: "a".to_owned(),
            measured: "1".to_owned(),
            beside: "2".to_owned(),
            goal: "3".to_owned(),
            met: Met::Yes,
        };
        let text = table(&[row]);
        assert_eq!(text.lines().last(), Some("| a | 1 | 2 | 3 | yes |"));
        assert_eq!(text.lines().count(), 3);
    }
}
