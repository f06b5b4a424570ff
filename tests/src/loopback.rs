//! An address of this host that no other test uses.
//!
//! All of 127.0.0.0/8 is loopback on Linux. With an address of its own, a test can stop a server
//! and start it again on the same port, and nobody takes that port in between.

use std::net::Ipv4Addr;
use std::process;
use std::sync::atomic::{AtomicU8, Ordering};

/// An address that this process has not given out before.
///
/// # Panics
/// After 250 addresses.
#[must_use]
pub fn address() -> Ipv4Addr {
    static NEXT: AtomicU8 = AtomicU8::new(1);
    let last = NEXT.fetch_add(1, Ordering::Relaxed);
    assert!(
        last < 251,
        "too many loopback addresses in one test process"
    );
    let [.., high, low] = process::id().to_be_bytes();
    Ipv4Addr::new(127, 1 + high % 254, low, last)
}
