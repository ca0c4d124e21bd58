//! The bus over a NATS server with JetStream (2.10 or newer).
//!
//! The connection is kept up for ever; while it is down every call fails at once instead of being
//! buffered, and a request in flight when it breaks fails as ambiguous. Buckets that the server
//! lost are created again by the next operation on them.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_nats::{
    Client, ConnectError, ConnectErrorKind, ConnectOptions, Event, PublishErrorKind, Request,
    RequestErrorKind, ServerAddr, connection::State, jetstream, rustls,
};
use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use tokio::{sync::watch, time::Instant};

use super::{
    Bus, Error, KeyValue, Message, Options, PAYLOAD_HEADROOM_BYTES, ReplyTo, Subscription, subject,
};

mod bucket;
mod dropped;
mod following;

use dropped::Dropped;

/// The oldest server that has what Muster uses.
const SERVER_VERSION_MIN: &str = "2.10.0";
/// How long one attempt to connect may take.
const CONNECT_ATTEMPT_TIMEOUT: Duration = Duration::from_secs(2);
/// The wait between attempts to connect; the longest one while reconnecting.
const CONNECT_DELAY_MAX: Duration = Duration::from_secs(1);
/// How often the server is pinged; two missing answers break the connection.
const PING_INTERVAL: Duration = Duration::from_secs(5);

/// A connection to a NATS server or cluster.
pub struct Nats {
    link: Link,
    jetstream: jetstream::Context,
    replicas: usize,
}

/// What the parts of the adapter share about the connection.
#[derive(Clone)]
struct Link {
    client: Client,
    operation_timeout: Duration,
    /// Counts how often the connection broke.
    breaks: watch::Receiver<u64>,
    messages_dropped: Arc<AtomicU64>,
}

impl Nats {
    /// Connects to `url` (see [`super::open`]). Keeps trying for [`Options::connect_timeout`].
    pub async fn connect(url: &str, options: &Options) -> Result<Self, Error> {
        let addresses = addresses(url)?;
        let (breaks_sender, breaks) = watch::channel(0_u64);
        let breaks_sender = Arc::new(breaks_sender);
        let messages_dropped = Arc::new(AtomicU64::new(0));
        let dropped = Arc::new(Dropped::start());
        let give_up = Instant::now() + options.connect_timeout;
        let client = loop {
            let settings = settings(options, &breaks_sender, &messages_dropped, &dropped);
            match settings.connect(addresses.as_slice()).await {
                Ok(client) => break client,
                Err(error) => {
                    if let Some(reason) = mistrust(&error) {
                        return Err(Error::Unavailable(reason));
                    }
                    let is_final = matches!(
                        error.kind(),
                        ConnectErrorKind::Authentication
                            | ConnectErrorKind::AuthorizationViolation
                            | ConnectErrorKind::ServerParse
                            | ConnectErrorKind::Tls
                    );
                    if is_final || Instant::now() + CONNECT_DELAY_MAX > give_up {
                        return Err(Error::Unavailable(format!("cannot connect: {error}")));
                    }
                    tracing::info!(%error, "bus cannot be reached, trying again");
                    tokio::time::sleep(CONNECT_DELAY_MAX).await;
                }
            }
        };
        if !client.is_server_compatible(2, 10, 0) {
            let version = client.server_info().version;
            return Err(Error::ServerTooOld { version, required: SERVER_VERSION_MIN });
        }
        let operation_timeout = options.operation_timeout;
        let jetstream = jetstream::ContextBuilder::new()
            .timeout(operation_timeout)
            .ack_timeout(operation_timeout)
            .build(client.clone());
        let link = Link { client, operation_timeout, breaks, messages_dropped };
        Ok(Self { link, jetstream, replicas: options.replicas.max(1) })
    }
}

#[async_trait]
impl Bus for Nats {
    async fn publish(&self, subject: &str, payload: Bytes) -> Result<(), Error> {
        subject::check_subject(subject)?;
        self.link.publish(subject, payload).await
    }

    async fn request(
        &self,
        subject: &str,
        payload: Bytes,
        timeout: Duration,
    ) -> Result<Bytes, Error> {
        subject::check_subject(subject)?;
        self.link.check_payload(&payload)?;
        self.link.check_connected()?;
        let mut breaks = self.link.breaks.clone();
        breaks.mark_unchanged();
        let request = Request::new().payload(payload).timeout(None);
        let request = self.link.client.send_request(subject.to_owned(), request);
        let answer = tokio::select! {
            biased;
            answer = tokio::time::timeout(timeout, request) => answer,
            _ = breaks.changed() => {
                return Err(Error::Unavailable("connection lost while waiting".to_owned()));
            }
        };
        match answer {
            Ok(Ok(message)) => Ok(message.payload),
            Ok(Err(error)) => Err(match error.kind() {
                RequestErrorKind::NoResponders => {
                    Error::NoResponders { subject: subject.to_owned() }
                }
                RequestErrorKind::TimedOut => {
                    Error::Timeout { subject: subject.to_owned(), timeout }
                }
                RequestErrorKind::InvalidSubject
                | RequestErrorKind::MaxPayloadExceeded
                | RequestErrorKind::Other => Error::Unavailable(describe(&error)),
            }),
            Err(_) => Err(Error::Timeout { subject: subject.to_owned(), timeout }),
        }
    }

    async fn subscribe(&self, subject: &str, group: Option<&str>) -> Result<Subscription, Error> {
        subject::check_pattern(subject, group)?;
        self.link.check_connected()?;
        let client = &self.link.client;
        let subscribing = async {
            let subscriber = match group {
                Some(group) => client.queue_subscribe(subject.to_owned(), group.to_owned()).await,
                None => client.subscribe(subject.to_owned()).await,
            }
            .map_err(|error| Error::Unavailable(describe(&error)))?;
            // Once the server has answered this, it knows of the subscription.
            client.flush().await.map_err(|error| Error::Unavailable(describe(&error)))?;
            Ok(subscriber)
        };
        let timeout = self.link.operation_timeout;
        let subscriber = tokio::time::timeout(timeout, subscribing)
            .await
            .map_err(|_| Error::Timeout { subject: subject.to_owned(), timeout })??;
        Ok(Subscription::new(subscriber.map(|message| Message {
            subject: message.subject.to_string(),
            payload: message.payload,
            reply: message.reply.map(|reply| ReplyTo(reply.to_string())),
        })))
    }

    async fn respond(&self, to: &ReplyTo, payload: Bytes) -> Result<(), Error> {
        self.link.publish(&to.0, payload).await
    }

    async fn key_value(
        &self,
        bucket: &str,
        ttl: Option<Duration>,
    ) -> Result<Arc<dyn KeyValue>, Error> {
        subject::check_bucket(bucket)?;
        self.link.check_connected()?;
        let (jetstream, link) = (self.jetstream.clone(), self.link.clone());
        let bucket = bucket::Bucket::open(jetstream, link, bucket, ttl, self.replicas).await?;
        Ok(Arc::new(bucket))
    }

    fn payload_bytes_max(&self) -> usize {
        self.link.payload_bytes_max()
    }

    fn is_connected(&self) -> bool {
        self.link.check_connected().is_ok()
    }

    fn messages_dropped(&self) -> u64 {
        self.link.messages_dropped.load(Ordering::Relaxed)
    }
}

impl Link {
    fn check_connected(&self) -> Result<(), Error> {
        match self.client.connection_state() {
            State::Connected => Ok(()),
            State::Pending | State::Disconnected => {
                Err(Error::Unavailable("not connected to a NATS server".to_owned()))
            }
        }
    }

    fn payload_bytes_max(&self) -> usize {
        self.client.max_payload().saturating_sub(PAYLOAD_HEADROOM_BYTES)
    }

    fn check_payload(&self, payload: &Bytes) -> Result<(), Error> {
        let (bytes, limit) = (payload.len(), self.payload_bytes_max());
        if bytes > limit { Err(Error::PayloadTooLarge { bytes, limit }) } else { Ok(()) }
    }

    async fn publish(&self, subject: &str, payload: Bytes) -> Result<(), Error> {
        self.check_payload(&payload)?;
        self.check_connected()?;
        let timeout = self.operation_timeout;
        // Waits only when the connection's bounded outbox is full.
        match tokio::time::timeout(timeout, self.client.publish(subject.to_owned(), payload)).await
        {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(match error.kind() {
                PublishErrorKind::InvalidSubject => {
                    Error::InvalidName { what: "subject", name: subject.to_owned() }
                }
                PublishErrorKind::MaxPayloadExceeded | PublishErrorKind::Send => {
                    Error::Unavailable(describe(&error))
                }
            }),
            Err(_) => Err(Error::Unavailable(format!("outbox was full for {timeout:?}"))),
        }
    }
}

fn settings(
    options: &Options,
    breaks: &Arc<watch::Sender<u64>>,
    messages_dropped: &Arc<AtomicU64>,
    dropped: &Arc<Dropped>,
) -> ConnectOptions {
    let (breaks, messages_dropped) = (Arc::clone(breaks), Arc::clone(messages_dropped));
    let dropped = Arc::clone(dropped);
    let settings = ConnectOptions::new()
        .name(&options.name)
        .connection_timeout(CONNECT_ATTEMPT_TIMEOUT)
        .ping_interval(PING_INTERVAL)
        .max_reconnects(None)
        .subscription_capacity(options.subscription_messages_max.max(1))
        .reconnect_delay_callback(|attempts| {
            let attempts = u32::try_from(attempts).unwrap_or(u32::MAX);
            Duration::from_millis(50).saturating_mul(attempts).min(CONNECT_DELAY_MAX)
        })
        .event_callback(move |event| {
            on_event(&event, &breaks, &messages_dropped, &dropped);
            std::future::ready(())
        });
    match &options.tls_ca_file {
        Some(file) => settings.add_root_certificates(file.clone()),
        None => settings,
    }
}

/// What is wrong with the server's certificate, if that is why there is no connection: trying again
/// does not help.
fn mistrust(error: &ConnectError) -> Option<String> {
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        let inner = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        let tls = inner.and_then(|inner| inner.downcast_ref::<rustls::Error>());
        if let Some(rustls::Error::InvalidCertificate(reason)) = tls {
            return Some(format!("the certificate of the server is not trusted: {reason}"));
        }
        cause = error.source();
    }
    None
}

fn on_event(
    event: &Event,
    breaks: &watch::Sender<u64>,
    messages_dropped: &AtomicU64,
    dropped: &Dropped,
) {
    match event {
        Event::Connected => tracing::info!("bus connected"),
        Event::Disconnected => {
            breaks.send_modify(|breaks| *breaks += 1);
            tracing::warn!("bus disconnected");
        }
        Event::SlowConsumer(subscription) => {
            messages_dropped.fetch_add(1, Ordering::Relaxed);
            dropped.add(*subscription);
        }
        Event::LameDuckMode
        | Event::Draining
        | Event::Closed
        | Event::ServerError(_)
        | Event::ClientError(_) => tracing::warn!(%event, "bus event"),
    }
}

/// Whether `url` names servers.
pub(super) fn check_url(url: &str) -> Result<(), Error> {
    addresses(url).map(|_| ())
}

/// The servers of `scheme://host:port,host:port`.
fn addresses(url: &str) -> Result<Vec<ServerAddr>, Error> {
    let invalid = |reason: String| Error::InvalidUrl { reason };
    let (scheme, hosts) =
        url.split_once("://").ok_or_else(|| invalid("it has no scheme".to_owned()))?;
    hosts
        .split(',')
        .map(|host| {
            let host = host.trim();
            if host.is_empty() {
                return Err(invalid("a host is empty".to_owned()));
            }
            format!("{scheme}://{host}").parse().map_err(|error| invalid(format!("{error}")))
        })
        .collect()
}

/// The error and its cause as one text.
fn describe(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(cause) if !error.to_string().contains(&cause.to_string()) => {
            format!("{error}: {cause}")
        }
        Some(_) | None => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_host_of_an_address_is_a_server() {
        let servers = addresses("nats://a:1,b:2").unwrap();
        assert_eq!(servers.iter().map(ServerAddr::port).collect::<Vec<_>>(), [1, 2]);
        for bad in ["nats://", "nats://a,,b", "a:4222"] {
            assert!(matches!(addresses(bad), Err(Error::InvalidUrl { .. })), "{bad}");
        }
    }
}
