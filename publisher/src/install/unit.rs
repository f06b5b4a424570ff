//! The text of the systemd unit, and whether somebody has changed it since.
//!
//! ```text
//! # checksum 0123456789abcdef       the first line: FNV-1a of all that follows, 64 bits
//! ```
//! The checksum keeps changes from being lost by accident. It protects from nobody.

use std::path::Path;

use anyhow::{Result, bail};

const TEMPLATE: &str = include_str!("hostbus-publisher.service");
const PASSWORD: &str = include_str!("password.conf");
const NO_PASSWORD: &str = include_str!("no-password.conf");
const CHECKSUM: &str = "# checksum ";

/// The unit for this program. With a password systemd hands it to the service.
pub(crate) fn text(program: &Path, password: bool) -> Result<String> {
    let Some(name) = program.to_str().filter(|name| is_plain(name)) else {
        bail!(
            "`{}` can't stand in a unit (--program): a path from / on of letters, digits and . _ - + @ was expected",
            program.display()
        );
    };
    let password = if password { PASSWORD } else { NO_PASSWORD };
    let body = TEMPLATE
        .replace("{program}", name)
        .replace("{password}\n", password);
    Ok(format!("{CHECKSUM}{:016x}\n{body}", checksum(&body)))
}

/// Tells whether a unit is as some version of this program wrote it.
pub(crate) fn is_untouched(unit: &str) -> bool {
    unit.strip_prefix(CHECKSUM)
        .and_then(|rest| rest.split_once('\n'))
        .is_some_and(|(sum, body)| sum == format!("{:016x}", checksum(body)))
}

/// systemd gives a meaning to spaces, quotes, `%`, `$` and `\`.
fn is_plain(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+@".contains(c);
    name.starts_with('/') && name.chars().all(plain)
}

fn checksum(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |sum, byte| {
        (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_fnv_1a() {
        assert_eq!(checksum(""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(checksum("foobar"), 0x8594_4171_f739_67e8);
    }

    #[test]
    fn a_unit_is_known_until_somebody_changes_it() {
        for password in [true, false] {
            let unit = text(Path::new("/usr/bin/hostbus-publisher"), password).unwrap();
            assert!(is_untouched(&unit), "{unit}");
            assert!(!unit.contains(['{', '}']), "{unit}");
            assert_eq!(unit.contains("\nLoadCredential="), password);
            assert!(!is_untouched(&unit.replace("Nice=5", "Nice=6")));
            assert!(!is_untouched(&unit.replace("# checksum ", "# sum ")));
        }
        assert!(!is_untouched(""));
    }

    #[test]
    fn a_program_that_systemd_would_misread_is_refused() {
        for name in ["bin/x", "/a b", "/50%", "/a\"b", "/$HOME/x", "/a\\x", "/ü"] {
            let error = text(Path::new(name), false).unwrap_err().to_string();
            assert!(
                error.contains(name) && error.contains("--program"),
                "{error}"
            );
        }
    }
}
