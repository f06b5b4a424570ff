//! What went wrong with a request, in words for people. The library's own words may show the URL, which
//! may hold a token: of the URL only the host is told.

use std::error::Error as StdError;
use std::io;
use std::time::Duration;

use tokio_rustls::rustls::{CertificateError, Error as TlsError};

/// What went wrong with a request to `host` that may take `timeout`.
pub(super) fn explain(error: &reqwest::Error, host: &str, timeout: Duration) -> String {
    if error.is_timeout() {
        let seconds = timeout.as_secs();
        return format!("{host} did not answer within {seconds} seconds");
    }
    let mut innermost = None;
    let mut source = error.source();
    while let Some(cause) = source {
        if let Some(told) = of_tls(cause) {
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
fn of_tls(cause: &(dyn StdError + 'static)) -> Option<String> {
    let mut cause = cause;
    // What an error of the system holds is not among its sources.
    while let Some(inner) = cause
        .downcast_ref::<io::Error>()
        .and_then(io::Error::get_ref)
    {
        cause = inner;
    }
    Some(match cause.downcast_ref::<TlsError>()? {
        TlsError::InvalidCertificate(wrong) => of_certificate(wrong),
        TlsError::InvalidMessage(_) => "it does not speak TLS there: is it http://?".to_owned(),
        TlsError::AlertReceived(alert) => format!("it refuses the TLS handshake: {alert:?}"),
        other => other.to_string(),
    })
}

fn of_certificate(wrong: &CertificateError) -> String {
    match wrong {
        CertificateError::UnknownIssuer => {
            "its certificate is signed by nobody we trust: name its CA in notifier.http.ca_file, or install the system's certificates (ca-certificates)".to_owned()
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "its certificate has expired".to_owned()
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "its certificate is not valid yet: is this clock right?".to_owned()
        }
        CertificateError::NotValidForName => "its certificate is for another name".to_owned(),
        CertificateError::NotValidForNameContext { presented, .. } => {
            // They come as `DnsName("localhost")`.
            let names = presented.iter().map(|name| {
                let name = name.strip_prefix("DnsName(\"").unwrap_or(name);
                name.strip_suffix("\")").unwrap_or(name)
            });
            let names: Vec<&str> = names.collect();
            format!("its certificate is for {}", names.join(", "))
        }
        other => format!("its certificate can't be trusted: {other}"),
    }
}
