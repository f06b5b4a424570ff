//! What the user is told once a site serves.

use std::io::Write;
use std::path::Path;

use super::credentials::{New, PEOPLE};
use crate::folder::{Endpoints, Folder};

/// Tells the user what there is, and what to try.
pub(super) fn greet(endpoints: &Endpoints, new: &New, folder: &Folder) -> anyhow::Result<()> {
    let Endpoints {
        mqtt,
        redis,
        site: site_id,
        node,
        ..
    } = endpoints;
    let program = std::env::args()
        .next()
        .unwrap_or_else(|| "hostbus".to_owned());
    let data = Folder::at(None)
        .ok()
        .filter(|default| default.path() == folder.path())
        .map_or_else(
            || format!(" --data {}", folder.path().display()),
            |_| String::new(),
        );
    let mut out = std::io::stdout().lock();
    writeln!(
        out,
        "hostbus {} is up: site {site_id}, node {node}\n",
        env!("CARGO_PKG_VERSION")
    )?;
    writeln!(out, "  bus          {mqtt}")?;
    writeln!(out, "  data         {}", folder.path().display())?;
    writeln!(out, "  credentials  {}", folder.credentials().display())?;
    for (user, _, meaning) in PEOPLE {
        if let Some(secret) = new.get(user) {
            writeln!(
                out,
                "    {user:<7}  {}  {meaning}; shown this once",
                secret.reveal()
            )?;
        }
    }
    writeln!(out, "  history      {}", redis_cli(redis, site_id, node))?;
    writeln!(out, "\nTry in another terminal:")?;
    writeln!(out, "  {program} top{data}")?;
    writeln!(out, "  {program} watch{data} 'hostbus/v1/#'")?;
    writeln!(
        out,
        "  {program} history{data} {node} cpu.usage_percent --since 1h"
    )?;
    writeln!(out, "\nCtrl-C stops it.")?;
    out.flush()?;
    Ok(())
}

/// A command that reads this host's newest `cpu` row from Redis.
fn redis_cli(url: &str, site: &str, node: &str) -> String {
    let server = match url.strip_prefix("unix://") {
        Some(socket) => format!("-s {}", Path::new(socket).display()),
        None => format!("-u {url}"),
    };
    format!("redis-cli {server} XREVRANGE 'hb:{{{site}.{node}}}:raw:cpu' + - COUNT 1")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_to_read_redis_fits_its_address() {
        assert_eq!(
            redis_cli("unix:///d/redis.sock", "home", "a"),
            "redis-cli -s /d/redis.sock XREVRANGE 'hb:{home.a}:raw:cpu' + - COUNT 1"
        );
        assert!(redis_cli("redis://h:1", "home", "a").contains("-u redis://h:1 "));
    }
}
