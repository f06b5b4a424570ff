//! Publishing and subscribing on a connection, from any task.

use hostbus_wire::QoS;
use rumqttc::AsyncClient;
use tokio::sync::watch;

use crate::error::ClientError;

/// Publishes on a connection.
#[derive(Debug, Clone)]
pub struct Sender {
    pub(crate) client: AsyncClient,
    pub(crate) connected: watch::Receiver<bool>,
    /// Publishes that the broker has not acknowledged yet; those of QoS 0 don't count.
    pub(crate) unacknowledged: watch::Sender<usize>,
}

impl Sender {
    /// Publishes. Returns once the message is handed to the connection, which is no word of its
    /// arrival. Messages of one sender keep their order.
    ///
    /// # Errors
    /// There is no connection, or it is lost while the message waits for its turn.
    pub async fn publish(
        &self,
        topic: impl Into<String>,
        qos: QoS,
        retain: bool,
        payload: impl Into<Vec<u8>>,
    ) -> Result<(), ClientError> {
        if !self.is_connected() {
            return Err(ClientError::NotConnected);
        }
        let mut waits = Waits::new((qos != QoS::AtMostOnce).then_some(&self.unacknowledged));
        let mut connected = self.connected.clone();
        let publish = self
            .client
            .publish(topic, library_qos(qos), retain, payload);
        tokio::select! {
            biased;
            published = publish => published.map_err(|_| ClientError::NotConnected)?,
            _ = connected.wait_for(|connected| !connected) => return Err(ClientError::NotConnected),
        }
        // From here on the broker's answer ends the wait.
        waits.0 = None;
        Ok(())
    }

    /// Publishes, and returns once the broker has acknowledged it and all that was published before it;
    /// with [`QoS::AtMostOnce`] there is nothing to wait for.
    ///
    /// # Errors
    /// There is no connection, or it is lost before the broker has answered: then nobody knows whether the
    /// message has arrived.
    pub async fn publish_acknowledged(
        &self,
        topic: impl Into<String>,
        qos: QoS,
        retain: bool,
        payload: impl Into<Vec<u8>>,
    ) -> Result<(), ClientError> {
        let mut connected = self.connected.clone();
        // From here on any change means that this connection was lost.
        connected.mark_unchanged();
        self.publish(topic, qos, retain, payload).await?;
        let mut unacknowledged = self.unacknowledged.subscribe();
        tokio::select! {
            _ = connected.changed() => return Err(ClientError::NotConnected),
            _ = unacknowledged.wait_for(|count| *count == 0) => {}
        }
        match connected.has_changed() {
            Ok(false) => Ok(()),
            _ => Err(ClientError::NotConnected),
        }
    }

    /// Subscribes to one more filter, for as long as this connection lasts. What is retained for it comes
    /// after what is retained for the filters before it, from brokers that serve one filter after the other.
    ///
    /// # Errors
    /// There is no connection, or its queue is full: then it may be tried again.
    pub fn subscribe(&self, filter: &str, qos: QoS) -> Result<(), ClientError> {
        if !self.is_connected() {
            return Err(ClientError::NotConnected);
        }
        self.client
            .try_subscribe(filter, library_qos(qos))
            .map_err(|_| ClientError::NotConnected)
    }

    /// Tells whether there is a connection at this moment.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        *self.connected.borrow()
    }
}

/// A publish that is counted as unacknowledged; what is given up before it was handed over, is not.
struct Waits<'s>(Option<&'s watch::Sender<usize>>);

impl<'s> Waits<'s> {
    fn new(count: Option<&'s watch::Sender<usize>>) -> Self {
        if let Some(count) = count {
            count.send_modify(|count| *count += 1);
        }
        Self(count)
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        if let Some(count) = self.0 {
            count.send_modify(less_one);
        }
    }
}

/// The count may have been cleared by a lost connection meanwhile.
pub(crate) fn less_one(count: &mut usize) {
    *count = count.saturating_sub(1);
}

pub(crate) fn library_qos(qos: QoS) -> rumqttc::QoS {
    match qos {
        QoS::AtMostOnce => rumqttc::QoS::AtMostOnce,
        QoS::AtLeastOnce => rumqttc::QoS::AtLeastOnce,
        QoS::ExactlyOnce => rumqttc::QoS::ExactlyOnce,
    }
}
