//! Makes a schedule come true on the processes of a plant, and starts what ends by itself.

use std::time::Duration;

use anyhow::{Context, Result};
use muster_runtime::clock::Clock;

use super::plant::{Disks, Part, Plant};
use super::schedule::{Fault, Kind};
use crate::network::Mode;

/// How often it looks whether everything runs, as an orchestrator would.
const LOOK: Duration = Duration::from_millis(250);
/// How late everything is on a slow network.
const SLOW: Duration = Duration::from_millis(40);

/// A fault as it happened: times of the run's clock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Happened {
    /// How.
    pub kind: Kind,
    /// To whom.
    pub victim: String,
    /// From when.
    pub began: Duration,
    /// To when.
    pub ended: Duration,
}

/// What it did and saw.
#[derive(Debug, Default)]
pub struct Account {
    /// The faults.
    pub happened: Vec<Happened>,
    /// Processes that ended by themselves, and how their logs ended.
    pub ended: Vec<String>,
    /// The machine's load average when the last fault was put right.
    pub load_average: Option<f64>,
}

enum Step {
    Begin(Fault),
    End(Fault, Duration),
}

/// Goes through the schedule to its end. `say` hears of each fault.
///
/// # Errors
/// When a process cannot be signalled or started.
pub async fn run(
    plant: &mut Plant,
    schedule: &[Fault],
    clock: &Clock,
    mut say: impl FnMut(&str),
) -> Result<Account> {
    let began = clock.monotonic();
    let mut account = Account::default();
    let mut steps: Vec<(Duration, Step)> = Vec::new();
    steps.extend(schedule.iter().map(|fault| (fault.at, Step::Begin(fault.clone()))));
    steps.sort_by_key(|(at, _)| std::cmp::Reverse(*at));
    while let Some((at, step)) = steps.pop() {
        loop {
            look_after(plant, &mut account)?;
            let now = clock.monotonic() - began;
            if now >= at {
                break;
            }
            clock.sleep_until(began + at.min(now + LOOK)).await;
        }
        let now = clock.monotonic();
        match step {
            Step::Begin(fault) => {
                let victim = begin(plant, &fault)?;
                let since = (now - began).as_secs_f64();
                say(&format!("{since:6.1} s: {} ({victim})", fault.kind.name()));
                let end = now - began + fault.lasts;
                let place = steps.partition_point(|(at, _)| *at > end);
                steps.insert(place, (end, Step::End(fault, now)));
            }
            Step::End(fault, from) => {
                let victim = end(plant, &fault)?;
                let ended = clock.monotonic();
                account.happened.push(Happened { kind: fault.kind, victim, began: from, ended });
            }
        }
    }
    Ok(account)
}

/// Starts what has ended by itself.
///
/// # Errors
/// When it cannot be started.
pub fn look_after(plant: &mut Plant, account: &mut Account) -> Result<()> {
    let roles = plant.roles.iter_mut().map(|role| &mut role.part);
    for part in roles.chain([&mut plant.store]) {
        if part.revive()? {
            let log = part.log()?;
            let last = log.lines().last().unwrap_or_default().to_owned();
            account.ended.push(format!("{}: {last}", part.name()));
        }
    }
    for node in 0..plant.nats.size() {
        if plant.nats.process(node).is_ok() && !plant.nats.is_running(node)? {
            account.ended.push(format!("NATS node {node}"));
            plant.nats.kill9(node)?;
            plant.nats.spawn(node)?;
        }
    }
    Ok(())
}

/// The place of a victim among all roles.
fn role(plant: &Plant, fault: &Fault) -> usize {
    let size = plant.size();
    match fault.kind {
        Kind::KillShard | Kind::FreezeShard => size.gateways + fault.target,
        Kind::KillExecutor | Kind::FreezeExecutor => size.gateways + size.shards + fault.target,
        Kind::KillGateway
        | Kind::FreezeGateway
        | Kind::RestartRole
        | Kind::CutBus
        | Kind::SilenceBus
        | Kind::CutStore
        | Kind::SilenceStore
        | Kind::SlowLinks => fault.target,
        Kind::KillNats
        | Kind::KillStore
        | Kind::FreezeNats
        | Kind::FreezeStore
        | Kind::WipeNode
        | Kind::WipeBus
        | Kind::FillStore
        | Kind::FillNode => unreachable!("it befalls no role"),
    }
}

/// What happens to the processes of a plant when a fault begins and when it ends.
fn begin(plant: &mut Plant, fault: &Fault) -> Result<String> {
    let node = fault.target;
    match fault.kind {
        Kind::KillGateway | Kind::KillShard | Kind::KillExecutor => {
            victim(plant, fault).kill9()?;
        }
        Kind::FreezeGateway | Kind::FreezeShard | Kind::FreezeExecutor => {
            victim(plant, fault).freeze()?;
        }
        Kind::RestartRole => victim(plant, fault).terminate()?,
        Kind::CutBus => plant.roles[role(plant, fault)].bus.set(Mode::Cut),
        Kind::SilenceBus => plant.roles[role(plant, fault)].bus.set(Mode::Silent),
        Kind::CutStore => plant.roles[role(plant, fault)].store.set(Mode::Cut),
        Kind::SilenceStore => plant.roles[role(plant, fault)].store.set(Mode::Silent),
        Kind::SlowLinks => links(plant, fault, Mode::Slow(SLOW)),
        Kind::KillStore => plant.store.kill9()?,
        Kind::FreezeStore => plant.store.freeze()?,
        Kind::KillNats => plant.nats.kill9(node)?,
        Kind::FreezeNats => plant.nats.process(node)?.suspend()?,
        Kind::WipeNode => {
            plant.nats.kill9(node)?;
            plant.nats.wipe(node)?;
        }
        Kind::WipeBus => {
            for node in 0..plant.nats.size() {
                plant.nats.kill9(node)?;
            }
            for node in 0..plant.nats.size() {
                plant.nats.wipe(node)?;
            }
        }
        Kind::FillStore => disks(plant)?.store.fill()?,
        Kind::FillNode => disks(plant)?.nats[node].fill()?,
    }
    Ok(name(plant, fault))
}

fn end(plant: &mut Plant, fault: &Fault) -> Result<String> {
    let node = fault.target;
    match fault.kind {
        Kind::KillGateway | Kind::KillShard | Kind::KillExecutor => {
            victim(plant, fault).spawn()?;
        }
        Kind::FreezeGateway | Kind::FreezeShard | Kind::FreezeExecutor => {
            victim(plant, fault).thaw()?;
        }
        // It was started as soon as it had ended; see `look_after`.
        Kind::RestartRole => {}
        Kind::CutBus | Kind::SilenceBus => plant.roles[role(plant, fault)].bus.set(Mode::Open),
        Kind::CutStore | Kind::SilenceStore => {
            plant.roles[role(plant, fault)].store.set(Mode::Open);
        }
        Kind::SlowLinks => links(plant, fault, Mode::Open),
        Kind::KillStore => plant.store.spawn()?,
        Kind::FreezeStore => plant.store.thaw()?,
        Kind::KillNats | Kind::WipeNode => plant.nats.spawn(node)?,
        Kind::FreezeNats => plant.nats.process(node)?.resume()?,
        Kind::WipeBus => {
            for node in 0..plant.nats.size() {
                plant.nats.spawn(node)?;
            }
        }
        Kind::FillStore => disks(plant)?.store.free()?,
        Kind::FillNode => {
            disks(plant)?.nats[node].free()?;
            // A node that ran out of space has given JetStream up until it is started again.
            plant.nats.kill9(node)?;
            plant.nats.spawn(node)?;
        }
    }
    Ok(name(plant, fault))
}

fn victim<'a>(plant: &'a mut Plant, fault: &Fault) -> &'a mut Part {
    let place = role(plant, fault);
    &mut plant.roles[place].part
}

fn links(plant: &Plant, fault: &Fault, mode: Mode) {
    let role = &plant.roles[role(plant, fault)];
    role.bus.set(mode);
    role.store.set(mode);
}

fn disks(plant: &Plant) -> Result<&Disks> {
    plant.disks.as_ref().ok().context("there are no disks to fill")
}

fn name(plant: &Plant, fault: &Fault) -> String {
    match fault.kind {
        Kind::KillStore | Kind::FreezeStore | Kind::FillStore => "s3".to_owned(),
        Kind::WipeBus => "nats".to_owned(),
        Kind::KillNats | Kind::FreezeNats | Kind::WipeNode | Kind::FillNode => {
            format!("nats-{}", fault.target)
        }
        Kind::KillGateway
        | Kind::KillShard
        | Kind::KillExecutor
        | Kind::FreezeGateway
        | Kind::FreezeShard
        | Kind::FreezeExecutor
        | Kind::RestartRole
        | Kind::CutBus
        | Kind::SilenceBus
        | Kind::CutStore
        | Kind::SilenceStore
        | Kind::SlowLinks => plant.roles[role(plant, fault)].part.name().to_owned(),
    }
}
