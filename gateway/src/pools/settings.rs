//! `/pools/{pool}/settings`: control data in the object store.

use axum::Json;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use muster_api::http;
use muster_core::control::{Error, PoolSettings, Rate};
use muster_core::quantity::Quantity;
use muster_core::shape::Placement;

use crate::control;
use crate::gateway::Gateway;
use crate::problem::{Answer, Failure};
use crate::routes::Segments;
use crate::submit::body;

/// `GET`: what is set; nothing for a pool that is as pools are.
pub(crate) async fn get(
    State(gateway): State<Gateway>,
    Segments(pool): Segments<String>,
) -> Answer<Json<http::PoolSettings>> {
    let control = gateway.newest_control().await?;
    let settings = control.pools.get(&pool);
    Ok(Json(settings.map(shown).unwrap_or_default()))
}

/// `PUT`: sets all of it, also for a pool that has no nodes yet.
pub(crate) async fn put(
    State(gateway): State<Gateway>,
    Segments(pool): Segments<String>,
    request: Request<Body>,
) -> Answer<Json<http::PoolSettings>> {
    let (head, content) = request.into_parts();
    let settings: http::PoolSettings = body::json(&gateway, &head.headers, content).await?;
    let settings = read(settings).map_err(Failure::bad_request)?;
    control::change(&gateway, |control| {
        control.with_pool(&pool, settings.clone()).map_err(Failure::bad_request)
    })
    .await?;
    Ok(Json(shown(&settings)))
}

/// `DELETE`: takes away what was set.
pub(crate) async fn delete(
    State(gateway): State<Gateway>,
    Segments(pool): Segments<String>,
) -> Answer<StatusCode> {
    let missing = || Failure::not_found(format!("nothing is set for pool `{pool}`"));
    control::change(&gateway, |control| control.without_pool(&pool).ok_or_else(missing)).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn shown(settings: &PoolSettings) -> http::PoolSettings {
    let floating = settings.floating.iter();
    http::PoolSettings {
        rate: settings.rate.map(http::Rate::from),
        floating_resources: floating.map(|(name, n)| (name.clone(), n.to_string())).collect(),
        placement: settings.placement.map(|placement| placement.name().to_owned()),
        lends_to: settings.lends_to.clone(),
    }
}

fn read(settings: http::PoolSettings) -> Result<PoolSettings, Error> {
    let http::PoolSettings { rate, floating_resources, placement, lends_to } = settings;
    let known = |word: String| Placement::from_name(&word).ok_or(Error::Placement(word));
    let amount = |(name, text): (String, String)| {
        let amount: Quantity = text.parse().map_err(|_| Error::Quantity(text.clone()))?;
        Ok((name, amount))
    };
    Ok(PoolSettings {
        rate: rate.map(|rate| Rate::new(rate.per_second, rate.burst)).transpose()?,
        floating: floating_resources.into_iter().map(amount).collect::<Result<_, Error>>()?,
        placement: placement.map(known).transpose()?,
        lends_to,
    })
}
