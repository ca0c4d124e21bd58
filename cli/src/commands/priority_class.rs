//! `muster priority-class`

use clap::Args;
use muster_api::http::{PriorityClass, PriorityClassList, PriorityClassSettings};

use crate::context::Context;
use crate::exit::Outcome;
use crate::show::{self, Rows};

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// List the priority classes, those that are built in too
    List,
    /// Show a priority class
    Get {
        /// Its name
        name: String,
    },
    /// Create a priority class, or change it
    Set(Set),
    /// Take away what was set: jobs of a class that is gone are of the class `default`
    Delete {
        /// Its name
        name: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Set {
    /// Its name, as in `priorityClassName` of pods
    name: String,
    /// Higher goes first; the built-in classes have 1000
    #[arg(long, short, allow_negative_numbers = true)]
    priority: i32,
    /// Its jobs may be told to stop so that others run
    #[arg(long)]
    preemptible: bool,
}

pub(crate) async fn run(context: &Context, command: Command) -> anyhow::Result<Outcome> {
    let client = &context.client;
    match command {
        Command::List => {
            let list = PriorityClassList { priority_classes: client.priority_classes().await? };
            context.show(&list, |context, list| table(context, &list.priority_classes))?;
        }
        Command::Get { name } => show_one(context, &client.priority_class(&name).await?)?,
        Command::Set(Set { name, priority, preemptible }) => {
            let settings = PriorityClassSettings { priority, preemptible };
            show_one(context, &client.put_priority_class(&name, &settings).await?)?;
        }
        Command::Delete { name } => {
            client.delete_priority_class(&name).await?;
            show::note(&format!("priority class `{name}` deleted"));
        }
    }
    Ok(Outcome::Done)
}

fn show_one(context: &Context, class: &PriorityClass) -> anyhow::Result<()> {
    context.show(class, |context, class| table(context, std::slice::from_ref(class)))
}

fn table(context: &Context, classes: &[PriorityClass]) -> String {
    let header = ["CLASS", "PRIORITY", "PREEMPTIBLE", "BUILT IN"];
    let mut rows = Rows::new(context.colour, &header);
    let word = |yes| if yes { "yes" } else { "no" }.to_owned();
    for class in classes {
        rows.add([
            class.name.clone(),
            class.priority.to_string(),
            word(class.preemptible),
            word(class.built_in),
        ]);
    }
    rows.text()
}
