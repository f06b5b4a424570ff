//! Decides who a client is.
//!
//! An unknown name and a wrong password get the same answer after the same work: each failure
//! costs one password check. Such checks run beside the async threads, a few at once, and a bounded
//! number of failures a minute from one address. The right secret of a machine is known at once
//! and passes always.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use hostbus_wire::{Identity, Role};
use tokio::sync::Semaphore;

use crate::codec::reason::Reason;
use crate::config;
use crate::credential::Kept;
use crate::error::Error;
use crate::identities::{Identities, Record};
use crate::limits::Limits;
use crate::lock::Held;

/// How long failures are remembered.
const WINDOW: Duration = Duration::from_secs(60);

/// Nobody's password: what is checked where there is none, to spend the same time.
const NOBODY: &str = "$argon2id$v=19$m=19456,t=2,p=1$bm9ib2R5bm9ib2R5bm9ibw$JtF8Vd1CcWoFiEt0wPHpeElK4VYkUmz5vXZp0ZBDKMY";

/// Addresses and refusals remembered at most; more share a fate.
const MAX_REMEMBERED: usize = 4096;

/// The door of the broker.
#[derive(Debug)]
pub(crate) struct Logins {
    identities: Arc<Identities>,
    configured: BTreeMap<String, Record>,
    anonymous: Option<Identity>,
    checks: Arc<Semaphore>,
    failures: Mutex<Failures>,
    max_failures: u32,
}

#[derive(Debug, Default)]
struct Failures {
    since: Option<Instant>,
    by_address: HashMap<IpAddr, u32>,
    logged: HashSet<(IpAddr, Box<str>, Reason)>,
}

impl Failures {
    /// Forgets what is older than the window.
    fn renew(&mut self, now: Instant) {
        if self
            .since
            .is_none_or(|since| now.duration_since(since) >= WINDOW)
        {
            *self = Self {
                since: Some(now),
                ..Self::default()
            };
        }
    }
}

impl Logins {
    pub(crate) fn new(
        identities: Arc<Identities>,
        configured: BTreeMap<String, Record>,
        anonymous: Option<Role>,
        limits: &Limits,
    ) -> Result<Self, Error> {
        Ok(Self {
            identities,
            configured,
            anonymous: anonymous
                .map(|role| config::identity("anonymous", role, None))
                .transpose()?,
            checks: Arc::new(Semaphore::new(limits.password_checks)),
            failures: Mutex::default(),
            max_failures: limits.failed_logins_per_minute,
        })
    }

    /// Who the client at `address` is.
    ///
    /// # Errors
    /// The reason for CONNACK.
    pub(crate) async fn identify(
        &self,
        address: IpAddr,
        user: Option<&str>,
        password: &[u8],
    ) -> Result<Identity, Reason> {
        let Some(user) = user else {
            return self.anonymous.clone().ok_or(Reason::NOT_AUTHORIZED);
        };
        let record = match self.configured.get(user) {
            Some(record) => Some(record.clone()),
            None => self.identities.record(user),
        };
        if let Some(record) = &record
            && record.credential.is_secret(password)
        {
            return Ok(record.identity.clone());
        }
        if self.is_throttled(address, Instant::now()) {
            return Err(Reason::CONNECTION_RATE_EXCEEDED);
        }
        let Ok(_permit) = self.checks.acquire().await else {
            return Err(Reason::UNSPECIFIED_ERROR);
        };
        // Others may have failed while this one waited for its turn.
        if self.is_throttled(address, Instant::now()) {
            return Err(Reason::CONNECTION_RATE_EXCEEDED);
        }
        let (password, record) = (password.to_vec(), record);
        let checked = tokio::task::spawn_blocking(move || match record {
            Some(record) if matches!(record.credential, Kept::Argon2id(_)) => record
                .credential
                .is_password(&password)
                .then_some(record.identity),
            _ => {
                Kept::Argon2id(NOBODY.to_owned()).is_password(&password);
                None
            }
        });
        if let Ok(Some(identity)) = checked.await {
            return Ok(identity);
        }
        self.count_failure(address, Instant::now());
        Err(Reason::BAD_USER_NAME_OR_PASSWORD)
    }

    fn is_throttled(&self, address: IpAddr, now: Instant) -> bool {
        let mut failures = self.failures.held();
        failures.renew(now);
        failures
            .by_address
            .get(&address)
            .is_some_and(|count| *count >= self.max_failures)
    }

    fn count_failure(&self, address: IpAddr, now: Instant) {
        let mut failures = self.failures.held();
        failures.renew(now);
        if failures.by_address.len() < MAX_REMEMBERED || failures.by_address.contains_key(&address)
        {
            *failures.by_address.entry(address).or_default() += 1;
        }
    }

    /// Whether a refusal is to be logged: the same one is logged once a minute.
    pub(crate) fn is_news(&self, address: IpAddr, user: &str, reason: Reason) -> bool {
        let mut failures = self.failures.held();
        failures.renew(Instant::now());
        failures.logged.len() < MAX_REMEMBERED
            && failures
                .logged
                .insert((address, user.chars().take(64).collect(), reason))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credential::Credential;
    use hostbus_daemon::Secret;

    #[test]
    fn nobodys_password_takes_as_long_as_a_persons() {
        use argon2::password_hash::phc::PasswordHash;
        let Kept::Argon2id(person) = Kept::of(&Credential::Password(Secret::new("p"))).unwrap()
        else {
            panic!()
        };
        let (person, nobody) = (
            PasswordHash::new(&person).unwrap(),
            PasswordHash::new(NOBODY).unwrap(),
        );
        assert_eq!(nobody.params, person.params);
        assert_eq!(nobody.algorithm, person.algorithm);
        assert_eq!(
            nobody.hash.map(|hash| hash.len()),
            person.hash.map(|hash| hash.len())
        );
        assert!(!Kept::Argon2id(NOBODY.to_owned()).is_password(b""));
    }

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn logins(max_failures: u32) -> Logins {
        let identities = Identities::in_memory();
        let machine = Credential::Secret(Secret::new("machine"));
        let person = Credential::Password(Secret::new("person"));
        identities.put("m", Identity::Ingester, &machine).unwrap();
        identities.put("p", Identity::Viewer, &person).unwrap();
        let limits = Limits {
            failed_logins_per_minute: max_failures,
            ..Limits::default()
        };
        Logins::new(Arc::new(identities), BTreeMap::new(), None, &limits).unwrap()
    }

    #[tokio::test]
    async fn only_the_right_password_opens_the_door() {
        let logins = logins(100);
        let wrong = Err(Reason::BAD_USER_NAME_OR_PASSWORD);
        assert_eq!(
            logins.identify(HERE, Some("m"), b"machine").await,
            Ok(Identity::Ingester)
        );
        assert_eq!(
            logins.identify(HERE, Some("p"), b"person").await,
            Ok(Identity::Viewer)
        );
        assert_eq!(logins.identify(HERE, Some("m"), b"person").await, wrong);
        assert_eq!(logins.identify(HERE, Some("p"), b"machine").await, wrong);
        assert_eq!(logins.identify(HERE, Some("x"), b"").await, wrong);
        assert_eq!(
            logins.identify(HERE, None, b"").await,
            Err(Reason::NOT_AUTHORIZED)
        );
    }

    #[tokio::test]
    async fn guessing_is_throttled_and_machines_still_pass() {
        let logins = logins(2);
        for _ in 0..2 {
            let guess = logins.identify(HERE, Some("p"), b"guess").await;
            assert_eq!(guess, Err(Reason::BAD_USER_NAME_OR_PASSWORD));
        }
        let right = logins.identify(HERE, Some("p"), b"person").await;
        assert_eq!(right, Err(Reason::CONNECTION_RATE_EXCEEDED));
        assert_eq!(
            logins.identify(HERE, Some("m"), b"machine").await,
            Ok(Identity::Ingester)
        );
        let elsewhere = IpAddr::from([127, 0, 0, 2]);
        assert_eq!(
            logins.identify(elsewhere, Some("p"), b"person").await,
            Ok(Identity::Viewer)
        );
    }
}
