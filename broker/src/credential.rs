//! How an identity proves itself, as it is kept: never the secret itself.
//!
//! A machine's secret has 256 random bits: its SHA-256 is kept and compared in constant time. A
//! person's password is kept as argon2id, which makes guessing slow.

use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use hostbus_daemon::Secret;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::error::Error;

/// What an identity is to prove itself with.
#[derive(Debug, Clone)]
pub enum Credential {
    /// A machine's secret of 256 random bits, such as [`Secret::random`] makes.
    Secret(Secret),
    /// A person's password.
    Password(Secret),
}

/// A credential as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kept {
    /// SHA-256 of a machine's secret.
    Sha256([u8; 32]),
    /// A person's password in the PHC format.
    Argon2id(String),
}

impl Kept {
    /// Makes of a credential what is kept. Takes some 30 ms for a password.
    pub(crate) fn of(credential: &Credential) -> Result<Self, Error> {
        match credential {
            Credential::Secret(secret) => Ok(Self::of_secret(secret)),
            Credential::Password(password) => Argon2::default()
                .hash_password(password.reveal().as_bytes())
                .map(|hash| Self::Argon2id(hash.to_string()))
                .map_err(|error| Error::Hash(error.to_string())),
        }
    }

    pub(crate) fn of_secret(secret: &Secret) -> Self {
        Self::Sha256(Sha256::digest(secret.reveal()).into())
    }

    /// Compares with a machine's secret, at once; false for a person.
    pub(crate) fn is_secret(&self, given: &[u8]) -> bool {
        let Self::Sha256(kept) = self else {
            return false;
        };
        let given: [u8; 32] = Sha256::digest(given).into();
        kept.ct_eq(&given).into()
    }

    /// Compares with a person's password; false for a machine. Takes some 30 ms.
    pub(crate) fn is_password(&self, given: &[u8]) -> bool {
        let Self::Argon2id(kept) = self else {
            return false;
        };
        PasswordHash::new(kept)
            .is_ok_and(|kept| Argon2::default().verify_password(given, &kept).is_ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kept_credential_knows_its_secret_and_no_other() {
        let secret = Kept::of(&Credential::Secret(Secret::new("s3cret"))).unwrap();
        assert!(secret.is_secret(b"s3cret"));
        assert!(!secret.is_secret(b"s3cres"));
        assert!(!secret.is_password(b"s3cret"));
        let password = Kept::of(&Credential::Password(Secret::new("hunter42"))).unwrap();
        assert!(password.is_password(b"hunter42"));
        assert!(!password.is_password(b"hunter43"));
        assert!(!password.is_secret(b"hunter42"));
        assert!(matches!(password, Kept::Argon2id(hash) if hash.starts_with("$argon2id$")));
    }
}
