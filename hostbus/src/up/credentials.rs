//! The users of a site and their secrets.

use std::collections::BTreeMap;

use hostbus_broker::{Credential, Identities};
use hostbus_daemon::Secret;
use hostbus_wire::{Identity, NodePath};

use crate::folder::Folder;

/// The users of a site, in the order in which they are shown.
pub(super) const PEOPLE: [(&str, Identity, &str); 3] = [
    ("viewer", Identity::Viewer, "reads what hosts tell"),
    (
        "operator",
        Identity::Operator,
        "also raises, acknowledges and silences alerts",
    ),
    ("admin", Identity::Admin, "may do everything"),
];
/// A shorter secret is no secret of ours: 256 bits as hexadecimal text have 64 characters.
const SHORTEST_SECRET: usize = 32;
pub(super) const INGESTER: &str = "ingester";
pub(super) const NOTIFIER: &str = "notifier";

/// Secrets that were made just now, by user name.
pub(super) type New = BTreeMap<String, Secret>;

/// Makes sure that each user of the site has its secret in the folder, and that the broker knows
/// just these: the folder is the truth, so that a file which is lost or damaged is mended here.
pub(super) fn provision(
    identities: &Identities,
    folder: &Folder,
    node: &NodePath,
) -> anyhow::Result<New> {
    let mut users: Vec<(String, Identity)> = PEOPLE
        .iter()
        .map(|(user, identity, _)| ((*user).to_owned(), identity.clone()))
        .collect();
    users.push((INGESTER.to_owned(), Identity::Ingester));
    users.push((NOTIFIER.to_owned(), Identity::Notifier));
    users.push((node.to_string(), Identity::Publisher { node: node.clone() }));
    let mut new = New::new();
    for (user, identity) in users {
        let secret = match Secret::read(&folder.credential(&user)) {
            Ok(secret) if secret.reveal().len() >= SHORTEST_SECRET => secret,
            _ => {
                let secret = Secret::random();
                folder.write_credential(&user, &secret)?;
                new.insert(user.clone(), secret.clone());
                secret
            }
        };
        identities.put(&user, identity, &Credential::Secret(secret))?;
    }
    Ok(new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identities_are_made_once_and_mended_when_a_secret_is_lost() {
        let temporary = tempfile::tempdir().unwrap();
        let folder = Folder::at(Some(temporary.path())).unwrap();
        folder.create().unwrap();
        let node: NodePath = "home.a".parse().unwrap();
        let identities = Identities::open(&folder.broker()).unwrap();
        let first = provision(&identities, &folder, &node).unwrap();
        assert_eq!(first.len(), 6);
        assert!(provision(&identities, &folder, &node).unwrap().is_empty());
        std::fs::write(folder.credential("viewer"), "").unwrap();
        let mended = provision(&identities, &folder, &node).unwrap();
        assert_eq!(mended.keys().collect::<Vec<_>>(), ["viewer"]);
        assert_eq!(
            Secret::read(&folder.credential("viewer")).unwrap(),
            mended["viewer"]
        );
        let other = provision(&identities, &folder, &"home.b".parse().unwrap()).unwrap();
        assert_eq!(other.keys().collect::<Vec<_>>(), ["home.b"]);
    }
}
