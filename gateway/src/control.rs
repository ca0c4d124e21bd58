//! Reading and changing the control data: what queues, priority classes and the like share.

use muster_api::bus::{ControlChanged, encode, subject};
use muster_core::control::Control;
use muster_runtime::store::control::{ChangeError, Error};

use crate::gateway::Gateway;
use crate::problem::{Answer, Failure};

/// Makes the next version and tells everybody. `change` may be asked several times.
pub(crate) async fn change(
    gateway: &Gateway,
    change: impl Fn(&Control) -> Answer<Control>,
) -> Answer<()> {
    let changed = gateway.deps().control.change(change).await;
    let control = changed.map_err(|error| match error {
        ChangeError::Refused(failure) => failure,
        ChangeError::Store(error) => {
            tracing::warn!(%error, "control data cannot be changed");
            Failure::unavailable("the control data cannot be changed at the moment")
        }
    })?;
    announce(gateway, control.version).await;
    Ok(())
}

/// Reads what others may have changed, so that an answer is as new as the store.
pub(crate) async fn refresh(gateway: &Gateway) -> Answer<()> {
    gateway.deps().control.refresh().await.map(drop).map_err(|error| unreadable(&error))
}

/// Why an answer that needs the newest control data cannot be given.
pub(crate) fn unreadable(error: &Error) -> Failure {
    tracing::warn!(%error, "control data cannot be read");
    Failure::unavailable("the control data cannot be read at the moment")
}

/// Tells everybody that the control data has a new version; who misses it looks by itself.
async fn announce(gateway: &Gateway, version: u64) {
    let wake_up = encode(&ControlChanged { version });
    if let Err(error) = gateway.bus().publish(subject::CONTROL, wake_up).await {
        tracing::warn!(%error, version, "a change of the control data was not announced");
    }
}
