//! What clusters say of their runs.

use muster_core::Name;
use muster_core::command::{self, Command, RunStatus};
use muster_core::job::{Address, Exit, Usage};
use muster_core::time::Timestamp;

use crate::bus;

/// A cluster's reports as a command.
#[must_use]
pub fn report(request: bus::ReportRuns) -> Command {
    let reports = request.reports.into_iter().map(|report| {
        let exit = exit(report.exit);
        let used = exit.usage.filter(|_| report.status == bus::RunStatus::Running);
        let status = match report.status {
            bus::RunStatus::Pending => RunStatus::Pending,
            bus::RunStatus::Running => RunStatus::Running,
            bus::RunStatus::Succeeded => RunStatus::Succeeded(exit),
            bus::RunStatus::Failed => RunStatus::Failed(exit),
            bus::RunStatus::Returned => RunStatus::Returned(exit),
            bus::RunStatus::Lost => RunStatus::Lost(exit),
        };
        let addresses = report.addresses.into_iter();
        let addresses =
            addresses.map(|at| Address { port: at.port, address: Name::from(at.address) });
        command::Report {
            job: report.job,
            attempt: report.attempt,
            status,
            at: Timestamp(report.at_ms),
            addresses: addresses.collect(),
            used,
        }
    });
    Command::Report { cluster: request.cluster.into(), reports: reports.collect() }
}

fn exit(exit: bus::Exit) -> Exit {
    Exit {
        code: exit.code,
        signal: exit.signal,
        reason: exit.reason.map(Name::from),
        message: exit.message.map(Name::from),
        usage: exit.usage.map(|usage| Usage {
            memory_peak_bytes: usage.memory_peak_bytes,
            cpu_time_ms: usage.cpu_time_ms,
        }),
    }
}
