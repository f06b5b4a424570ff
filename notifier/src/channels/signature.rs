//! HMAC-SHA256, which services sign requests with, and how its digest is written.

use std::fmt::Write;

use base64ct::{Base64, Encoding};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// The digest of an HMAC-SHA256.
pub struct Digest([u8; 32]);

impl Digest {
    /// HMAC-SHA256 of `parts`, one after the other.
    #[must_use]
    pub fn new(key: &[u8], parts: &[&[u8]]) -> Self {
        let mut hmac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
        for part in parts {
            hmac.update(part);
        }
        Self(hmac.finalize().into_bytes().into())
    }

    /// In base64, with padding.
    #[must_use]
    pub fn base64(&self) -> String {
        let mut room = [0; 44];
        let text = Base64::encode(&self.0, &mut room);
        text.expect("32 bytes are 44 characters of base64")
            .to_owned()
    }

    /// In hexadecimal digits, lower case.
    #[must_use]
    pub fn hex(&self) -> String {
        let mut text = String::with_capacity(64);
        for byte in self.0 {
            // Writing into a string never fails.
            let _ = write!(text, "{byte:02x}");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_is_that_of_rfc_4231() {
        let digest = Digest::new(b"Jefe", &[b"what do ya want ", b"for nothing?"]);
        assert_eq!(
            digest.hex(),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
        assert_eq!(
            digest.base64(),
            "W9zBRr9gdU5qBCQmCJV1x1oAPwidJzmDnexYuWTsOEM="
        );
    }
}
