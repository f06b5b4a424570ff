//! One conversation with a mail server: connect, encrypt, log in, hand over one mail.
//!
//! lettre's own transport gives up the whole mail when one of its recipients is refused. Here a wrong
//! address among three does not keep the mail from the other two.

use std::time::Duration;

use hostbus_daemon::secret::Secret;
use lettre::Address;
use lettre::transport::smtp::authentication::{Credentials, Mechanism};
use lettre::transport::smtp::client::{AsyncSmtpConnection, TlsParameters};
use lettre::transport::smtp::commands::{Data, Mail, Rcpt};
use lettre::transport::smtp::extension::ClientId;

use super::answer::{Stage, Trouble};

/// How long saying good-bye may take; the mail has been taken by then.
const QUIT_WITHIN: Duration = Duration::from_secs(2);

/// How to reach a server and who we are there.
pub(super) struct Server {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) encryption: Encryption,
    pub(super) credentials: Option<Credentials>,
    /// What of the login must not be shown where the server repeats it.
    pub(super) hidden: Vec<Secret>,
    /// For the whole conversation.
    pub(super) timeout: Duration,
}

/// When a connection becomes encrypted.
pub(super) enum Encryption {
    Never,
    /// After `STARTTLS`; without it nothing is said.
    Upgraded(TlsParameters),
    /// From its first byte.
    Whole(TlsParameters),
}

/// Where and why a conversation failed.
pub(super) type Failure = (Stage, Trouble);

/// Who of the recipients was not taken, and why; the others have the mail. All of them: nobody has.
pub(super) type TurnedAway = Vec<(Address, Trouble)>;

impl Server {
    /// Hands over `mail`, in the format of the internet, lines ended by CR LF.
    ///
    /// # Errors
    /// Nobody has the mail; or, where the answer to it was lost, it is not known.
    pub(super) async fn hand_over(
        &self,
        from: &Address,
        to: &[Address],
        mail: &[u8],
    ) -> Result<TurnedAway, Failure> {
        let talk = self.talk(from, to, mail);
        let Ok((given, connection)) = tokio::time::timeout(self.timeout, talk).await else {
            let seconds = self.timeout.as_secs();
            let text = format!("it took longer than {seconds} s (`timeout_seconds`)");
            return Err((Stage::Connect, Trouble::Network(text)));
        };
        let given = given.map_err(|(stage, trouble)| (stage, trouble.hiding(&self.hidden)));
        if let Some(mut connection) = connection {
            // Whoever has the mail has it, however the good-bye goes.
            let _ = tokio::time::timeout(QUIT_WITHIN, connection.abort()).await;
        }
        given
    }

    /// Host and port, to be shown.
    pub(super) fn shown(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    /// The conversation but for its good-bye, for which it leaves the connection.
    async fn talk(
        &self,
        from: &Address,
        to: &[Address],
        mail: &[u8],
    ) -> (Result<TurnedAway, Failure>, Option<AsyncSmtpConnection>) {
        match self.connect().await {
            Ok(mut connection) => {
                let given = give(&mut connection, self.credentials.as_ref(), from, to, mail).await;
                (given, Some(connection))
            }
            Err(failure) => (Err(failure), None),
        }
    }

    async fn connect(&self) -> Result<AsyncSmtpConnection, Failure> {
        let at = |stage| move |error| (stage, Trouble::from(error));
        let hello = ClientId::default();
        let whole = match &self.encryption {
            Encryption::Whole(parameters) => Some(parameters.clone()),
            Encryption::Upgraded(_) | Encryption::Never => None,
        };
        let address = (self.host.as_str(), self.port);
        let mut connection =
            AsyncSmtpConnection::connect_tokio1(address, Some(self.timeout), &hello, whole, None)
                .await
                .map_err(at(Stage::Connect))?;
        if let Encryption::Upgraded(parameters) = &self.encryption {
            let upgraded = connection.starttls(parameters.clone(), &hello).await;
            upgraded.map_err(at(Stage::Tls))?;
        }
        Ok(connection)
    }
}

async fn give(
    connection: &mut AsyncSmtpConnection,
    credentials: Option<&Credentials>,
    from: &Address,
    to: &[Address],
    mail: &[u8],
) -> Result<TurnedAway, Failure> {
    let at = |stage| move |error| (stage, Trouble::from(error));
    if let Some(credentials) = credentials {
        connection
            .auth(&[Mechanism::Plain, Mechanism::Login], credentials)
            .await
            .map_err(at(Stage::Login))?;
    }
    connection
        .command(Mail::new(Some(from.clone()), Vec::new()))
        .await
        .map_err(at(Stage::Sender))?;
    let mut turned_away = TurnedAway::new();
    for address in to {
        match connection
            .command(Rcpt::new(address.clone(), Vec::new()))
            .await
            .map_err(Trouble::from)
        {
            Ok(_) => {}
            Err(trouble @ Trouble::Answer { code, .. }) if code != 421 => {
                turned_away.push((address.clone(), trouble));
            }
            Err(trouble) => return Err((Stage::Recipient, trouble)),
        }
    }
    if turned_away.len() < to.len() {
        connection.command(Data).await.map_err(at(Stage::Data))?;
        connection.message(mail).await.map_err(at(Stage::Data))?;
    }
    Ok(turned_away)
}
