//! One file per command; here it is decided which one runs.

pub(crate) mod admin;
pub(crate) mod cancel;
pub(crate) mod clusters;
pub(crate) mod completions;
pub(crate) mod cordon;
pub(crate) mod get;
pub(crate) mod list;
pub(crate) mod logs;
pub(crate) mod pool;
pub(crate) mod priority_class;
pub(crate) mod queue;
pub(crate) mod reprioritize;
pub(crate) mod shares;
pub(crate) mod simulate;
pub(crate) mod submit;
pub(crate) mod target;
pub(crate) mod watch;
pub(crate) mod why;

use crate::args::{Cli, Command, Global};
use crate::context::{Context, write_out};
use crate::exit::{self, Outcome};

/// Runs the command until it ends or somebody presses Ctrl-C.
pub(crate) async fn run(cli: Cli) -> anyhow::Result<Outcome> {
    match cli.command {
        // These end tidily by themselves when they are interrupted.
        Command::Up(arguments) => served(crate::up::run(arguments).await),
        Command::Gateway(arguments) => served(crate::roles::run_gateway(arguments).await),
        Command::Shard(arguments) => served(crate::roles::run_shard(arguments).await),
        Command::Executor(arguments) => served(crate::roles::run_executor(arguments).await),
        Command::Demo(arguments) => crate::demo::run(arguments).await,
        Command::Completions(arguments) => completions::run(&arguments),
        Command::ExitCodes => write_out(&format!("{}\n", exit::HELP)).map(|()| Outcome::Done),
        Command::Admin(command) => interruptible(admin::run(&cli.global, command)).await,
        Command::Simulate(arguments) => interruptible(simulate::run(arguments)).await,
        command => interruptible(remote(&cli.global, command)).await,
    }
}

/// What may end anywhere.
async fn interruptible(
    work: impl Future<Output = anyhow::Result<Outcome>>,
) -> anyhow::Result<Outcome> {
    tokio::select! {
        result = work => result,
        interrupted = tokio::signal::ctrl_c() => {
            interrupted?;
            Ok(Outcome::Interrupted)
        }
    }
}

/// A server that was asked to stop is done.
fn served(result: anyhow::Result<()>) -> anyhow::Result<Outcome> {
    result.map(|()| Outcome::Done)
}

async fn remote(global: &Global, command: Command) -> anyhow::Result<Outcome> {
    let context = Context::new(global)?;
    match command {
        Command::Queue(command) => queue::run(&context, command).await,
        Command::PriorityClass(command) => priority_class::run(&context, command).await,
        Command::Pool(command) => pool::run(&context, command).await,
        Command::Submit(arguments) => submit::run(&context, arguments).await,
        Command::Get(command) => get::run(&context, command).await,
        Command::List(command) => list::run(&context, command).await,
        Command::Watch(arguments) => watch::run(&context, arguments).await,
        Command::Cancel(arguments) => cancel::run(&context, arguments).await,
        Command::Reprioritize(arguments) => reprioritize::run(&context, arguments).await,
        Command::Logs(arguments) => logs::run(&context, &arguments).await,
        Command::Why(arguments) => why::run(&context, &arguments).await,
        Command::Shares(arguments) => shares::run(&context, &arguments).await,
        Command::Cluster(command) => cordon::cluster(&context, command).await,
        Command::Node(command) => cordon::node(&context, command).await,
        Command::Clusters => clusters::run(&context).await,
        Command::Admin(_)
        | Command::Up(_)
        | Command::Gateway(_)
        | Command::Shard(_)
        | Command::Executor(_)
        | Command::Demo(_)
        | Command::Simulate(_)
        | Command::Completions(_)
        | Command::ExitCodes => {
            unreachable!("`run` has taken those that need no deployment")
        }
    }
}
