//! A receiver of webhooks that checks their signature as the documentation tells it to.

use super::{Reply, Seen, Service, digest};

#[derive(Debug, Default)]
pub struct Receiver {
    /// The key of the signature, if it asks for one.
    pub secret: Option<String>,
    pub now_ms: u64,
}

impl Service for Receiver {
    fn answer(&mut self, request: &Seen) -> Reply {
        if !matches!(request.method.as_str(), "POST" | "PUT") {
            return Reply::status(405);
        }
        if !request.is_json() || request.json().is_none() {
            return Reply::status(415);
        }
        if let Some(secret) = &self.secret
            && !is_signed(request, secret, self.now_ms)
        {
            return Reply::status(401);
        }
        Reply::status(204)
    }
}

fn is_signed(request: &Seen, secret: &str, now_ms: u64) -> bool {
    let header = request.header("x-hostbus-signature").unwrap_or_default();
    let Some((time, signature)) = header.split_once(',') else {
        return false;
    };
    let (Some(seconds), Some(signature)) = (time.strip_prefix("t="), signature.strip_prefix("v1="))
    else {
        return false;
    };
    let message = [seconds.as_bytes(), b".", &request.body].concat();
    let fresh = seconds
        .parse::<u64>()
        .is_ok_and(|seconds| seconds.abs_diff(now_ms / 1000) <= 300);
    fresh && signature == digest::hex(&digest::hmac_sha256(secret.as_bytes(), &message))
}
