//! Telling systemd how the process is doing: ready, reloading, stopping, still at work.
//!
//! ```text
//! NOTIFY_SOCKET   /run/systemd/notify  or  @name for an abstract socket
//! datagram        READY=1\nSTATUS=publishing home.web1\n                      sd_notify(3)
//! WATCHDOG_USEC   60000000             with WATCHDOG_PID, if it is for one process only
//! ```
//! Without these variables all of it does nothing. That systemd can't be told never stops a
//! process: it is logged, and systemd acts as it does with a process that is silent.
//!
//! The crate `sd-notify` 0.5 connects to `@name` as to a file of that name, and its send waits for
//! ever when nobody reads: this is shorter than a way around both.

use std::env;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use tracing::warn;

/// How long a message may wait for systemd to read those before it.
const SEND_WITHIN: Duration = Duration::from_secs(1);

/// Talks to systemd, or to nobody.
#[derive(Debug, Clone)]
pub struct Notifier {
    to: Option<Arc<Socket>>,
}

#[derive(Debug)]
struct Socket {
    datagrams: UnixDatagram,
    address: SocketAddr,
}

impl Notifier {
    /// For the socket that `NOTIFY_SOCKET` names, if it does.
    #[must_use]
    pub fn from_environment() -> Self {
        let to = env::var_os("NOTIFY_SOCKET").and_then(|name| {
            Socket::open(&name)
                .inspect_err(
                    |error| warn!(%error, socket = ?name, "systemd can't be told anything"),
                )
                .ok()
        });
        Self {
            to: to.map(Arc::new),
        }
    }

    /// For the socket of this name: a path, or `@` and the name of an abstract socket.
    ///
    /// # Errors
    /// The name is neither, or there are no sockets to be had. Nobody needs to listen yet.
    pub fn to(name: &OsStr) -> io::Result<Self> {
        Ok(Self {
            to: Some(Arc::new(Socket::open(name)?)),
        })
    }

    /// The start, or a reload, is done.
    pub fn ready(&self, status: &str) {
        self.send(&format!("READY=1\n{}", status_line(status)));
    }

    /// A reload begins; [`Self::ready`] must follow, however it ends.
    pub fn reloading(&self) {
        self.send(&format!(
            "RELOADING=1\nMONOTONIC_USEC={}\n",
            monotonic_usec()
        ));
    }

    /// The end begins.
    pub fn stopping(&self) {
        self.send("STOPPING=1\n");
    }

    /// What `systemctl status` shows.
    pub fn status(&self, text: &str) {
        self.send(&status_line(text));
    }

    /// The watchdog, if systemd keeps one on this process.
    #[must_use]
    pub fn watchdog(&self) -> Option<Watchdog> {
        self.to.as_ref()?;
        let number = |name| env::var(name).ok().and_then(|text| text.parse().ok());
        let pid = env::var_os("WATCHDOG_PID").map(|_| number("WATCHDOG_PID"));
        let within = watched_within(number("WATCHDOG_USEC"), pid, std::process::id())?;
        Some(Watchdog::new(self.clone(), within))
    }

    fn send(&self, message: &str) {
        let Some(to) = &self.to else { return };
        if let Err(error) = to.send(message) {
            warn!(%error, "systemd could not be told");
        }
    }
}

impl Socket {
    fn open(name: &OsStr) -> io::Result<Self> {
        let address = match name.as_bytes() {
            [b'/', ..] => SocketAddr::from_pathname(name)?,
            [b'@', name @ ..] => abstract_address(name)?,
            _ => {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidInput,
                    "a path or `@` and a name was expected",
                ));
            }
        };
        let datagrams = UnixDatagram::unbound()?;
        datagrams.set_write_timeout(Some(SEND_WITHIN))?;
        Ok(Self { datagrams, address })
    }

    /// Not over a lasting connection: systemd may have made its socket anew.
    fn send(&self, message: &str) -> io::Result<()> {
        self.datagrams
            .send_to_addr(message.as_bytes(), &self.address)
            .map(drop)
    }
}

#[cfg(target_os = "linux")]
fn abstract_address(name: &[u8]) -> io::Result<SocketAddr> {
    use std::os::linux::net::SocketAddrExt;
    SocketAddr::from_abstract_name(name)
}

#[cfg(not(target_os = "linux"))]
fn abstract_address(_name: &[u8]) -> io::Result<SocketAddr> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Tells systemd that the process still works. When it is not fed in time, systemd ends the
/// process and starts it again.
///
/// Whoever sees the work go on feeds it, never a timer alone: a process whose work stands still
/// must not look alive. It may be fed as often as one likes; systemd hears of it twice in the time
/// that it allows.
#[derive(Debug)]
pub struct Watchdog {
    notifier: Notifier,
    within: Duration,
    last: Option<Instant>,
}

impl Watchdog {
    /// A watchdog that wants to hear from us within this time.
    #[must_use]
    pub fn new(notifier: Notifier, within: Duration) -> Self {
        Self {
            notifier,
            within,
            last: None,
        }
    }

    /// How often to look whether the work goes on, so that the watchdog is fed in time.
    #[must_use]
    pub fn look_every(&self) -> Duration {
        self.within / 4
    }

    /// The work goes on.
    pub fn feed(&mut self) {
        let now = Instant::now();
        if hungry(self.last, now, self.within) {
            self.notifier.send("WATCHDOG=1\n");
            self.last = Some(now);
        }
    }
}

/// Tells whether half of the time is over. One that looks a moment too early must not wait for its
/// next look, so a little less than half counts.
fn hungry(last: Option<Instant>, now: Instant, within: Duration) -> bool {
    last.is_none_or(|last| now.saturating_duration_since(last) >= within * 9 / 20)
}

/// The time that the watchdog allows, if it is for the process `own`. `pid` is absent when it is for
/// any, and holds nothing when it is no number.
fn watched_within(usec: Option<u64>, pid: Option<Option<u64>>, own: u32) -> Option<Duration> {
    let ours = pid.is_none_or(|pid| pid == Some(own.into()));
    usec.filter(|usec| ours && *usec > 0)
        .map(Duration::from_micros)
}

/// A status is one line, whatever it was made of.
fn status_line(text: &str) -> String {
    format!("STATUS={}\n", text.replace(['\n', '\r'], " "))
}

fn monotonic_usec() -> u128 {
    Duration::try_from(clock_gettime(ClockId::Monotonic))
        .unwrap_or_default()
        .as_micros()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(socket: &UnixDatagram) -> String {
        let mut buffer = [0; 256];
        socket
            .set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        let length = socket.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    }

    fn life(notifier: &Notifier, systemd: &UnixDatagram) {
        notifier.ready("publishing\nhome.web1");
        assert_eq!(heard(systemd), "READY=1\nSTATUS=publishing home.web1\n");
        notifier.reloading();
        let reloading = heard(systemd);
        let usec = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=");
        let usec: u64 = usec.unwrap().trim_end().parse().unwrap();
        assert!(usec > 0);
        notifier.status("as before");
        assert_eq!(heard(systemd), "STATUS=as before\n");
        notifier.stopping();
        assert_eq!(heard(systemd), "STOPPING=1\n");
    }

    #[test]
    fn a_socket_with_a_path_hears_of_each_turn_of_life() {
        let path = env::temp_dir().join(format!("hostbus-notify-{}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let systemd = UnixDatagram::bind(&path).unwrap();
        let notifier = Notifier::to(path.as_os_str()).unwrap();
        life(&notifier, &systemd);

        // As after a restart of systemd itself.
        drop(systemd);
        std::fs::remove_file(&path).unwrap();
        notifier.status("nobody hears this");
        let systemd = UnixDatagram::bind(&path).unwrap();
        notifier.status("here again");
        assert_eq!(heard(&systemd), "STATUS=here again\n");
        std::fs::remove_file(&path).unwrap();
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn an_abstract_socket_hears_of_each_turn_of_life() {
        let name = format!("hostbus-notify-{}", std::process::id());
        let address = abstract_address(name.as_bytes()).unwrap();
        let systemd = UnixDatagram::bind_addr(&address).unwrap();
        let notifier = Notifier::to(OsStr::new(&format!("@{name}"))).unwrap();
        life(&notifier, &systemd);
    }

    #[test]
    fn a_name_that_is_no_socket_is_refused() {
        for name in ["", "notify", "vsock:2:1234"] {
            assert!(Notifier::to(OsStr::new(name)).is_err(), "{name}");
        }
    }

    #[test]
    fn a_watchdog_fed_all_the_time_is_heard_twice_in_its_time() {
        let start = Instant::now();
        let within = Duration::from_secs(60);
        let check = |last: Option<u64>, now: u64, expected: bool| {
            let at = |seconds| start + Duration::from_secs(seconds);
            assert_eq!(
                hungry(last.map(at), at(now), within),
                expected,
                "{last:?} {now}"
            );
        };
        check(None, 0, true);
        check(Some(10), 10, false);
        check(Some(10), 36, false);
        check(Some(10), 40, true);
    }

    #[test]
    fn a_watchdog_for_another_process_is_not_ours() {
        let minute = Some(Duration::from_secs(60));
        let check = |usec, pid, expected| assert_eq!(watched_within(usec, pid, 7), expected);
        check(Some(60_000_000), Some(Some(7)), minute);
        check(Some(60_000_000), None, minute);
        check(Some(60_000_000), Some(Some(8)), None);
        check(Some(60_000_000), Some(None), None);
        check(Some(0), None, None);
        check(None, None, None);
    }
}
