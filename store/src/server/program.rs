//! Which server program this host has, and whether it is new enough.

use std::io;

use tokio::process::Command;

use super::ServerError;

/// The server programs that serve, the preferred one first.
const PROGRAMS: [&str; 2] = ["redis-server", "valkey-server"];
/// The oldest version with `XADD … MINID` and `ZRANGE … REV`.
const OLDEST: (u32, u32) = (6, 2);

/// A server program.
#[derive(Debug)]
pub(super) struct Program {
    pub(super) name: &'static str,
    pub(super) version: String,
}

impl Program {
    /// The first one on this host.
    pub(super) async fn find() -> Result<Self, ServerError> {
        for name in PROGRAMS {
            match Self::at(name).await {
                Err(ServerError::Version { source, .. })
                    if source.kind() == io::ErrorKind::NotFound => {}
                found => return found,
            }
        }
        Err(ServerError::Missing)
    }

    /// This one, a name or a path.
    pub(super) async fn at(name: &'static str) -> Result<Self, ServerError> {
        let output = Command::new(name).arg("--version").output().await;
        let output = output.map_err(|source| ServerError::Version {
            program: name,
            source,
        })?;
        let said = String::from_utf8_lossy(&output.stdout);
        let version = version(&said).unwrap_or("unknown").to_owned();
        if is_new_enough(&version) {
            Ok(Self { name, version })
        } else {
            Err(ServerError::TooOld {
                program: name,
                version,
            })
        }
    }
}

/// The version in `Redis server v=7.0.15 sha=00000000:0 malloc=…`.
fn version(said: &str) -> Option<&str> {
    said.split_whitespace()
        .find_map(|word| word.strip_prefix("v="))
}

fn is_new_enough(version: &str) -> bool {
    let mut numbers = version.split('.').map(|number| number.parse::<u32>().ok());
    matches!((numbers.next(), numbers.next()), (Some(Some(major)), Some(Some(minor))) if (major, minor) >= OLDEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_read_and_compared() {
        let said = "Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc-5.3.0 bits=64";
        assert_eq!(version(said), Some("7.0.15"));
        for (version, good) in [
            ("7.0.15", true),
            ("6.2.0", true),
            ("6.0.16", false),
            ("10.0", true),
            ("unknown", false),
        ] {
            assert_eq!(is_new_enough(version), good, "{version}");
        }
    }
}
