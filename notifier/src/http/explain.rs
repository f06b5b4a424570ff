//! What went wrong with a request, in words for people. The library's own words may show the URL, which
//! may hold a token: of the URL only the host is told.

use std::error::Error as StdError;
use std::io;
use std::time::Duration;

use hostbus_daemon::trust::Peer;
use tokio_rustls::rustls::Error as TlsError;

const SERVICE: Peer = Peer {
    whose: "its",
    mend: "name its CA in notifier.http.ca_file, or install the system's certificates (ca-certificates)",
};

/// What went wrong with a request to `host` that may take `timeout`.
pub(super) fn explain(error: &reqwest::Error, host: &str, timeout: Duration) -> String {
    if error.is_timeout() {
        let seconds = timeout.as_secs();
        return format!("{host} did not answer within {seconds} seconds");
    }
    let mut innermost = None;
    let mut source = error.source();
    while let Some(cause) = source {
        if let Some(told) = of_tls(cause, host) {
            return format!("{host}: {told}");
        }
        innermost = Some(cause);
        source = cause.source();
    }
    match innermost {
        // One of the library's own errors would show the URL.
        Some(cause) if !cause.is::<reqwest::Error>() => format!("{host}: {cause}"),
        _ => format!("{host} can't be asked"),
    }
}

/// What TLS says, if that is what failed.
fn of_tls(cause: &(dyn StdError + 'static), host: &str) -> Option<String> {
    let mut cause = cause;
    // What an error of the system holds is not among its sources.
    while let Some(inner) = cause
        .downcast_ref::<io::Error>()
        .and_then(io::Error::get_ref)
    {
        cause = inner;
    }
    Some(match cause.downcast_ref::<TlsError>()? {
        TlsError::InvalidCertificate(wrong) => SERVICE.explain(wrong, host),
        TlsError::InvalidMessage(_) => "it does not speak TLS there: is it http://?".to_owned(),
        TlsError::AlertReceived(alert) => format!("it refuses the TLS handshake: {alert:?}"),
        other => other.to_string(),
    })
}
