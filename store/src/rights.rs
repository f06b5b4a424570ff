//! What hostbus may do in a Redis that has users.
//!
//! ```text
//! ACL SETUSER hostbus on >password resetkeys resetchannels ~hb:* -@all +@stream ...
//! ```
//! The rights are [`ACL`]. All data commands end at the keys `hb:*`; SCAN also tells the names of other
//! keys. No command of the administration is among them. Two rights may be left out or added: without
//! `INFO`, marks are published a moment before Redis has written its file, and `doctor` is blind; with
//! `CONFIG GET`, `doctor` can tell how often the file is synced, but so can this user the
//! passwords in Redis' settings.

/// The rights that hostbus needs, as arguments of `ACL SETUSER`, for Redis 6.2 and newer.
pub const ACL: &str = "resetkeys resetchannels ~hb:* -@all +@stream +@hash +@set +@sortedset \
    +@string +@keyspace +@transaction +@connection -@dangerous +info +time +memory|usage \
    +client|setname";

/// The command that gives `user` these rights; its password is for the reader to fill in.
#[must_use]
pub fn command(user: &str) -> String {
    format!("ACL SETUSER {user} on '>the password' {ACL}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rights_are_one_line_of_words() {
        assert!(!ACL.contains("  ") && !ACL.contains('\n'));
        assert!(command("hostbus").starts_with("ACL SETUSER hostbus on "));
        assert!(command("hostbus").ends_with("+client|setname"));
    }
}
