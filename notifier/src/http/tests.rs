//! Real requests to real servers on this host.

use std::fs;
use std::process::Command;
use std::sync::Arc;

use hostbus_daemon::Secret;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

use super::stand_in::{Reply, StandIn};
use super::*;

const TOKEN: &str = "hunter2";

fn sender(config: &HttpConfig) -> HttpSender {
    HttpSender::new(config).unwrap()
}

fn request(url: &str) -> Request {
    Request {
        method: "POST",
        url: Secret::new(url),
        headers: vec![("authorization".to_owned(), Secret::new(TOKEN))],
        body: b"{}".to_vec(),
    }
}

#[tokio::test]
async fn a_request_arrives_whole_and_its_answer_comes_back() {
    let server = StandIn::start(|_| Reply::Answer {
        status: 429,
        headers: vec![("Retry-After", "7".to_owned())],
        body: b"later".to_vec(),
    })
    .await;
    let url = server.url("/hook?token=a%20b");
    let answer = sender(&HttpConfig::default())
        .ask(&request(&url))
        .await
        .unwrap();
    assert_eq!((answer.status, &answer.body[..]), (429, &b"later"[..]));
    let retry_after = ("retry-after".to_owned(), "7".to_owned());
    assert!(answer.headers.contains(&retry_after), "{answer:?}");
    let asked = &server.asked()[0];
    assert_eq!(
        (&*asked.method, &*asked.target),
        ("POST", "/hook?token=a%20b")
    );
    assert_eq!(asked.header("authorization"), Some(TOKEN));
    assert_eq!(asked.header("user-agent"), Some(USER_AGENT));
    assert_eq!(asked.body, b"{}");
}

#[tokio::test]
async fn a_redirect_is_an_answer_and_is_not_followed() {
    let other = StandIn::start(|_| Reply::status(200)).await;
    let location = other.url("/elsewhere");
    let server = StandIn::start(move |_| Reply::Answer {
        status: 307,
        headers: vec![("location", location.clone())],
        body: Vec::new(),
    })
    .await;
    let answer = sender(&HttpConfig::default())
        .ask(&request(&server.url("/")))
        .await;
    assert_eq!(answer.unwrap().status, 307);
    assert!(other.asked().is_empty());
}

#[tokio::test]
async fn of_a_long_answer_the_first_64_kib_are_read() {
    let server = StandIn::start(|_| Reply::Answer {
        status: 200,
        headers: Vec::new(),
        body: vec![b'x'; 3 * BODY_BYTES + 1],
    })
    .await;
    let answer = sender(&HttpConfig::default())
        .ask(&request(&server.url("/")))
        .await;
    assert_eq!(answer.unwrap().body.len(), BODY_BYTES);
}

#[tokio::test]
async fn what_went_wrong_is_told_without_the_secrets_of_the_address() {
    let hanging = StandIn::start(|_| Reply::Hang).await;
    let cutting = StandIn::start(|_| Reply::Cut).await;
    let gone = {
        let server = StandIn::start(|_| Reply::status(200)).await;
        server.address
    };
    let config = HttpConfig {
        timeout_seconds: 1,
        ..HttpConfig::default()
    };
    let sender = sender(&config);
    for (url, told, lasts) in [
        (
            hanging.url("/hunter2"),
            "127.0.0.1 did not answer within 1 seconds",
            false,
        ),
        (
            cutting.url("/hunter2"),
            "127.0.0.1: connection closed",
            false,
        ),
        (
            format!("http://{gone}/hunter2"),
            "Connection refused",
            false,
        ),
        (
            format!("https://{}/hunter2", cutting.address),
            "does not speak TLS",
            false,
        ),
        (
            "http://no-such-host.invalid/hunter2".to_owned(),
            "no-such-host.invalid: ",
            false,
        ),
        ("hunter2".to_owned(), "is not a URL", true),
        (
            "ftp://hunter2/".to_owned(),
            "does not begin with https://",
            true,
        ),
    ] {
        let failure = sender.ask(&request(&url)).await.unwrap_err();
        assert!(failure.reason.contains(told), "{url}: {}", failure.reason);
        assert!(!failure.reason.contains(TOKEN), "{}", failure.reason);
        assert_eq!(failure.lasts, lasts, "{url}");
    }
    let mut wrong = request(&hanging.url("/"));
    wrong.headers = vec![("x-token".to_owned(), Secret::new("hunter2\n"))];
    let failure = sender.ask(&wrong).await.unwrap_err();
    assert_eq!(
        failure.reason,
        "the header `x-token` has characters that it may not"
    );
    assert!(failure.lasts);
}

#[tokio::test]
async fn a_certificate_is_trusted_once_its_ca_is_named() {
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let certificate = params.self_signed(&key).unwrap();
    let provider = Arc::new(ring::default_provider());
    let tls = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivateKeyDer::Pkcs8(key.serialize_der().into()),
        )
        .unwrap();
    let tls = TlsAcceptor::from(Arc::new(tls));
    let server = StandIn::start_with(Some(tls), |_| Reply::status(204)).await;
    let url = format!("https://localhost:{}/hunter2", server.address.port());

    let failure = sender(&HttpConfig::default())
        .ask(&request(&url))
        .await
        .unwrap_err();
    assert!(
        failure.reason.contains("notifier.http.ca_file"),
        "{}",
        failure.reason
    );

    let folder = tempfile::tempdir().unwrap();
    let ca_file = folder.path().join("ca.pem");
    fs::write(&ca_file, certificate.pem()).unwrap();
    let config = HttpConfig {
        ca_file: Some(ca_file.clone()),
        ..HttpConfig::default()
    };
    assert_eq!(
        sender(&config).ask(&request(&url)).await.unwrap().status,
        204
    );
    let other_name = format!("https://127.0.0.1:{}/", server.address.port());
    let failure = sender(&config)
        .ask(&request(&other_name))
        .await
        .unwrap_err();
    assert!(
        failure.reason.contains("for localhost"),
        "{}",
        failure.reason
    );

    fs::write(&ca_file, "no certificate").unwrap();
    let error = HttpSender::new(&config).unwrap_err().to_string();
    assert!(error.contains("no certificate in PEM form"), "{error}");
}

/// The environment of a running process can't be changed safely: the test runs itself with another one.
#[tokio::test]
async fn a_proxy_of_the_environment_is_used() {
    const URL: &str = "http://no-such-host.invalid/hook";
    const AGAIN: &str = "HOSTBUS_TEST_BEHIND_A_PROXY";
    if std::env::var_os(AGAIN).is_some() {
        let answer = sender(&HttpConfig::default()).ask(&request(URL)).await;
        assert_eq!(answer.unwrap().status, 202);
        return;
    }
    let proxy = StandIn::start(|_| Reply::status(202)).await;
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "http::tests::a_proxy_of_the_environment_is_used"])
        .env(AGAIN, "1")
        .env("HTTP_PROXY", proxy.url(""))
        .env_remove("NO_PROXY")
        .env_remove("REQUEST_METHOD");
    let ran = tokio::task::spawn_blocking(move || command.output())
        .await
        .unwrap()
        .unwrap();
    assert!(
        ran.status.success(),
        "{}",
        String::from_utf8_lossy(&ran.stdout)
    );
    assert_eq!(proxy.asked()[0].target, URL);
}
