//! The command line of each reproduction.
//!
//! ```text
//! reproduce-X [CLAIM…]                      each claim against a fresh X in a process of its own
//! reproduce-X --address A [CLAIM…]          against a broker that runs already
//!     [--address-5 A] [--websocket A] [--tls A] [--process ID] [--expect-holds]
//! ```
//!
//! The exit code is 0 when every claim was reproduced, or, with `--expect-holds`, when none was;
//! 1 when not; 2 when one could not be looked at.

use std::io::{self, BufRead, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use crate::claim::{CLAIMS, Claim, Found, Target};

/// The addresses a broker under test is to take.
#[derive(Debug, Clone, Copy)]
pub struct Ports {
    pub old: u16,
    pub new: u16,
    pub websocket: u16,
    pub tls: u16,
}

/// A broker under test.
#[derive(Debug)]
pub struct Subject {
    pub name: &'static str,
    /// The claims made about it.
    pub claims: &'static [&'static str],
    /// Whether one port serves both versions.
    pub one_port: bool,
    /// Whether it serves WebSocket.
    pub websocket: bool,
    /// Whether it serves TLS.
    pub tls: bool,
    /// Runs it; does not come back.
    pub serve: fn(Ports) -> io::Result<()>,
}

impl Subject {
    /// `main` of its reproduction.
    pub fn main(&self) -> ExitCode {
        let arguments: Vec<String> = std::env::args().skip(1).collect();
        if let [verb, old, new, websocket, tls] = arguments.as_slice()
            && verb == "serve"
        {
            let port = |text: &String| text.parse().unwrap_or_default();
            let ports = Ports {
                old: port(old),
                new: port(new),
                websocket: port(websocket),
                tls: port(tls),
            };
            if let Err(error) = (self.serve)(ports) {
                eprintln!("{}: {error}", self.name);
            }
            return ExitCode::FAILURE;
        }
        match self.look_at_all(&arguments) {
            Ok(true) => ExitCode::SUCCESS,
            Ok(false) => ExitCode::FAILURE,
            Err(error) => {
                eprintln!("{error}");
                ExitCode::from(2)
            }
        }
    }

    fn look_at_all(&self, arguments: &[String]) -> io::Result<bool> {
        let asked = Asked::parse(arguments, self.claims)?;
        println!(
            "{}",
            if asked.target.is_some() {
                "the broker at the address given"
            } else {
                self.name
            }
        );
        let mut as_expected = true;
        for claim in &asked.claims {
            println!("\n{}\n  wanted:   {}", claim.name, claim.wanted);
            let found = match &asked.target {
                Some(target) => (claim.look)(target),
                None => Running::start(self).and_then(|running| (claim.look)(&running.target)),
            };
            let found =
                found.map_err(|error| io::Error::other(format!("{}: {error}", claim.name)))?;
            let (verdict, text, reproduced) = match found {
                Found::Reproduced(text) => ("reproduced", text, true),
                Found::Holds(text) => ("not reproduced", text, false),
            };
            println!("  happened: {text}\n  {verdict}");
            as_expected &= reproduced != asked.expect_holds;
        }
        Ok(as_expected)
    }
}

struct Asked {
    claims: Vec<&'static Claim>,
    target: Option<Target>,
    expect_holds: bool,
}

impl Asked {
    fn parse(arguments: &[String], own: &[&str]) -> io::Result<Self> {
        let wrong = |text: String| io::Error::other(text);
        let (mut old, mut new, mut websocket, mut tls, mut process) =
            (None, None, None, None, None);
        let mut expect_holds = false;
        let mut names: Vec<&str> = Vec::new();
        let mut words = arguments.iter();
        while let Some(word) = words.next() {
            let mut value = || {
                words
                    .next()
                    .ok_or_else(|| wrong(format!("{word} needs a value")))
            };
            let address = |text: &String| -> io::Result<SocketAddr> {
                text.parse()
                    .map_err(|_| wrong(format!("{text} is no address such as 127.0.0.1:1883")))
            };
            match word.as_str() {
                "--address" => old = Some(address(value()?)?),
                "--address-5" => new = Some(address(value()?)?),
                "--websocket" => websocket = Some(address(value()?)?),
                "--tls" => tls = Some(address(value()?)?),
                "--process" => process = value()?.parse().ok(),
                "--expect-holds" => expect_holds = true,
                name => names.push(name),
            }
        }
        if names.is_empty() {
            names = own.to_vec();
        }
        let claims = names
            .into_iter()
            .map(|name| {
                CLAIMS
                    .iter()
                    .find(|claim| claim.name == name)
                    .ok_or_else(|| {
                        let all: Vec<_> = CLAIMS.iter().map(|claim| claim.name).collect();
                        wrong(format!("no claim {name}; there are {}", all.join(", ")))
                    })
            })
            .collect::<io::Result<_>>()?;
        let target = old.map(|old| Target {
            old,
            new: new.unwrap_or(old),
            websocket,
            tls,
            process,
        });
        Ok(Self {
            claims,
            target,
            expect_holds,
        })
    }
}

/// A broker in a process of its own; it ends with this.
struct Running {
    child: Child,
    target: Target,
}

impl Running {
    fn start(subject: &Subject) -> io::Result<Self> {
        let ports = Ports {
            old: free_port()?,
            new: free_port()?,
            websocket: free_port()?,
            tls: free_port()?,
        };
        let ports = if subject.one_port {
            Ports {
                new: ports.old,
                ..ports
            }
        } else {
            ports
        };
        let mut child = Command::new(std::env::current_exe()?)
            .arg("serve")
            .args([ports.old, ports.new, ports.websocket, ports.tls].map(|port| port.to_string()))
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        // Panics are worth showing; once each.
        if let Some(stderr) = child.stderr.take() {
            std::thread::spawn(move || {
                let mut shown = 0;
                for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                    if line.contains("panicked") && shown < 3 {
                        println!("  (broker)  {line}");
                        shown += 1;
                    }
                }
            });
        }
        let at = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let running = Self {
            target: Target {
                old: at(ports.old),
                new: at(ports.new),
                websocket: subject.websocket.then(|| at(ports.websocket)),
                tls: subject.tls.then(|| at(ports.tls)),
                process: Some(child.id()),
            },
            child,
        };
        let deadline = Instant::now() + Duration::from_secs(10);
        for address in [
            Some(at(ports.old)),
            Some(at(ports.new)),
            running.target.websocket,
            running.target.tls,
        ] {
            let Some(address) = address else { continue };
            while std::net::TcpStream::connect(address).is_err() {
                if Instant::now() > deadline {
                    return Err(io::Error::other(format!(
                        "{} does not listen",
                        subject.name
                    )));
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        Ok(running)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}
