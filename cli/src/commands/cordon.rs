//! `muster cluster` and `muster node`: cordons, and nodes that were taken out.

use clap::Subcommand;

use crate::context::Context;
use crate::exit::Outcome;
use crate::show;

#[derive(Debug, Subcommand)]
pub(crate) enum Cluster {
    /// Place nothing new on a cluster; what runs there runs on
    Cordon {
        /// The cluster
        name: String,
        /// Why, for people
        #[arg(long)]
        reason: Option<String>,
    },
    /// Place jobs on a cluster again
    Uncordon {
        /// The cluster
        name: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Node {
    /// Place nothing new on a node; what runs there runs on
    Cordon {
        /// Its cluster
        cluster: String,
        /// The node
        name: String,
        /// Why, for people
        #[arg(long)]
        reason: Option<String>,
    },
    /// Place jobs on a node again
    Uncordon {
        /// Its cluster
        cluster: String,
        /// The node
        name: String,
    },
    /// Place jobs again on a node that was taken out because jobs failed there
    PutBack {
        /// Its cluster
        cluster: String,
        /// The node
        name: String,
    },
}

pub(crate) async fn cluster(context: &Context, command: Cluster) -> anyhow::Result<Outcome> {
    match command {
        Cluster::Cordon { name, reason } => {
            context.client.cordon_cluster(&name, reason).await?;
            show::note(&format!("cluster `{name}` cordoned"));
        }
        Cluster::Uncordon { name } => {
            context.client.uncordon_cluster(&name).await?;
            show::note(&format!("cluster `{name}` uncordoned"));
        }
    }
    Ok(Outcome::Done)
}

pub(crate) async fn node(context: &Context, command: Node) -> anyhow::Result<Outcome> {
    match command {
        Node::Cordon { cluster, name, reason } => {
            context.client.cordon_node(&cluster, &name, reason).await?;
            show::note(&format!("node `{name}` of cluster `{cluster}` cordoned"));
        }
        Node::Uncordon { cluster, name } => {
            context.client.uncordon_node(&cluster, &name).await?;
            show::note(&format!("node `{name}` of cluster `{cluster}` uncordoned"));
        }
        Node::PutBack { cluster, name } => {
            context.client.put_node_back(&cluster, &name).await?;
            show::note(&format!("node `{name}` of cluster `{cluster}` put back"));
        }
    }
    Ok(Outcome::Done)
}
