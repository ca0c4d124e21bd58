//! How long a round of the solver takes, how many jobs it places in a second, and what memory it
//! needs beside the problem: a table in Markdown, as docs/benchmarks.md holds it.
//!
//! Each figure is the median of seven rounds; each case in each size is measured in a process of
//! its own, so that none finds memory that another has left. Not a test: it holds nothing to a
//! floor. Given a text (`cargo bench … -- "free slots"`), only the cases whose names contain it.

mod cases;
mod measure;
mod pool;

use std::env::{args, current_exe};
use std::io::{Error, Result, Write, stdout};
use std::process::{Command, Stdio};

use self::cases::{CASES, Case};
use self::measure::Figures;

/// Says that one case in one size is to be measured here: both follow.
const ONE: &str = "--one";
const PLACEMENTS_PER_SECOND_MIN: f64 = 100_000.0;
const MEGABYTES_MAX: f64 = 100.0;

fn main() -> Result<()> {
    let arguments: Vec<String> = args().skip(1).collect();
    if let [one, case, size, ..] = &arguments[..]
        && one == ONE
    {
        let number = |text: &String| text.parse::<usize>().map_err(Error::other);
        let problem = (CASES[number(case)?].problem)(number(size)?);
        return writeln!(stdout(), "{}", Figures::measure(&problem)?);
    }
    // Cargo says `--bench` of its own accord.
    let chosen = arguments.into_iter().find(|argument| !argument.starts_with("--"));
    let chosen = chosen.unwrap_or_default();
    let mut out = stdout().lock();
    writeln!(
        out,
        "| case | sizes | ms | placements/s | nodes looked at per search | MB beside the problem \
         | goal | met |\n| --- | --- | --- | --- | --- | --- | --- | --- |"
    )?;
    for (number, case) in CASES.iter().enumerate().filter(|(_, c)| c.name.contains(&chosen)) {
        let figures = [0, 1, 2].map(|size| elsewhere(number, size));
        let [first, second, third] = figures;
        row(&mut out, case, &[first?, second?, third?])?;
    }
    Ok(())
}

/// Measures in another process.
fn elsewhere(case: usize, size: usize) -> Result<Figures> {
    let mut command = Command::new(current_exe()?);
    command.args([ONE, &case.to_string(), &size.to_string()]).stderr(Stdio::inherit());
    let output = command.output()?;
    if !output.status.success() {
        return Err(Error::other(format!("case {case} in size {size}: {}", output.status)));
    }
    Figures::read(&String::from_utf8_lossy(&output.stdout))
}

fn row(out: &mut impl Write, case: &Case, sizes: &[Figures; 3]) -> Result<()> {
    let list = |text: fn(&Figures) -> String| sizes.each_ref().map(text).join(", ");
    // Few placements do not say how many there would be in a second.
    let places = sizes.iter().all(|figures| figures.placed >= 1_000);
    let rates = if places {
        list(|figures| format!("{:.2} million", figures.rate() / 1e6))
    } else {
        "–".to_owned()
    };
    let in_time = sizes.iter().all(|figures| figures.ms <= case.ms_max);
    let fast = !places || sizes.iter().all(|f| f.rate() >= PLACEMENTS_PER_SECOND_MIN);
    let small = sizes.iter().all(|figures| figures.megabytes <= MEGABYTES_MAX);
    writeln!(
        out,
        "| {} | {} | {} | {rates} | {} | {} | ≤ {} ms{}, ≤ 100 MB | {} |",
        case.name,
        case.sizes,
        list(|figures| format!("{:.1}", figures.ms)),
        list(|figures| format!("{:.1}", figures.looked_at_per_search)),
        list(|figures| format!("{:.0}", figures.megabytes)),
        case.ms_max,
        if places { ", ≥ 100,000/s" } else { "" },
        if in_time && fast && small { "yes" } else { "no" },
    )
}
