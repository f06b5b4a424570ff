//! Recipients that a server turned away for now, while others got the mail. Pure.
//!
//! Such a one is tried again with the message, alone, so that nobody gets it twice; but not for ever,
//! because the next messages wait behind it. What is left is forgotten at a restart, and when the channel is
//! opened anew for other secrets: then all get it again.

use std::time::Duration;

use lettre::Address;

use super::answer::{Stage, Trouble, judge};
use super::session::TurnedAway;
use crate::channels::Verdict;

/// How often those that are left are tried again.
const MAX_TRIES: u8 = 5;
/// How long between two tries: servers that turn strangers away at first want some minutes.
const TRY_AFTER: Duration = Duration::from_mins(1);

/// Who is still to get a message that others have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Leftover {
    key: String,
    addresses: Vec<Address>,
    tries: u8,
}

/// What became of a message and its recipients.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Settled {
    pub(super) verdict: Verdict,
    pub(super) leftover: Option<Leftover>,
    /// Who goes without, and why.
    pub(super) without: Vec<(Address, String)>,
}

impl Leftover {
    pub(super) fn is_of(&self, key: &str) -> bool {
        self.key == key
    }

    pub(super) fn addresses(&self) -> &[Address] {
        &self.addresses
    }
}

/// Decides on message `key` after `turned_away` of `to` did not get it; `before` is who was left when it
/// was sent, if others already had it.
pub(super) fn settle(
    key: &str,
    before: Option<Leftover>,
    to: &[Address],
    turned_away: TurnedAway,
    server: &str,
) -> Settled {
    let somebody_has_it = before.is_some() || turned_away.len() < to.len();
    let tries = before.map_or(0, |leftover| leftover.tries);
    let (mut again, mut without) = (Vec::new(), Vec::new());
    let mut reasons = Vec::new();
    for (address, trouble) in turned_away {
        let for_now = matches!(trouble, Trouble::Answer { code, .. } if code < 500);
        let (Verdict::Retry { reason, .. }
        | Verdict::Broken { reason }
        | Verdict::Refused { reason }) = judge(Stage::Recipient, &trouble, server)
        else {
            continue;
        };
        reasons.push(format!("{address}: {reason}"));
        if for_now && (tries < MAX_TRIES || !somebody_has_it) {
            again.push(address);
        } else {
            without.push((address, reason));
        }
    }
    let reason = reasons.join("; ");
    let settled = |verdict, leftover, without| Settled {
        verdict,
        leftover,
        without,
    };
    match (again.is_empty(), somebody_has_it) {
        (true, true) => settled(Verdict::Delivered, None, without),
        // The settings name nobody who may be told: every mail would fare so.
        (true, false) => settled(Verdict::Broken { reason }, None, Vec::new()),
        // Nobody has it: all of them are tried again.
        (false, false) => settled(
            Verdict::Retry {
                reason,
                after: None,
            },
            None,
            Vec::new(),
        ),
        (false, true) => settled(
            Verdict::Retry {
                reason,
                after: Some(TRY_AFTER),
            },
            Some(Leftover {
                key: key.to_owned(),
                addresses: again,
                tries: tries + 1,
            }),
            without,
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(name: &str) -> Address {
        format!("{name}@example.com").parse().unwrap()
    }

    fn away(name: &str, code: u16) -> (Address, Trouble) {
        let text = "words".to_owned();
        (address(name), Trouble::Answer { code, text })
    }

    fn settled(before: Option<Leftover>, to: &[&str], turned_away: &[(&str, u16)]) -> Settled {
        let to: Vec<Address> = to.iter().map(|name| address(name)).collect();
        let turned_away = turned_away.iter().map(|(name, code)| away(name, *code));
        settle("main-1", before, &to, turned_away.collect(), "mail:25")
    }

    #[test]
    fn a_wrong_address_keeps_nobody_elses_mail() {
        let check = |away: &[(&str, u16)], delivered: bool, without: usize| {
            let settled = settled(None, &["a", "b"], away);
            assert_eq!(settled.verdict == Verdict::Delivered, delivered, "{away:?}");
            let broken = matches!(settled.verdict, Verdict::Broken { .. });
            assert_eq!(broken, !delivered, "{away:?}");
            assert_eq!(settled.without.len(), without, "{away:?}");
            assert_eq!(settled.leftover, None, "{away:?}");
        };
        check(&[], true, 0);
        check(&[("b", 550)], true, 1);
        check(&[("a", 550), ("b", 550)], false, 0);
    }

    #[test]
    fn who_is_turned_away_for_now_is_tried_again_alone_and_not_for_ever() {
        let mut last = settled(None, &["a", "b", "c"], &[("b", 450), ("c", 550)]);
        assert_eq!(last.without.len(), 1);
        for _ in 1..MAX_TRIES {
            let left = last.leftover.unwrap();
            assert_eq!(left.addresses(), [address("b")]);
            assert!(left.is_of("main-1") && !left.is_of("main-2"));
            last = settled(Some(left), &["b"], &[("b", 450)]);
            let Verdict::Retry { after, .. } = &last.verdict else {
                panic!("{last:?}");
            };
            assert_eq!(*after, Some(TRY_AFTER));
        }
        let taken = settled(last.leftover.clone(), &["b"], &[]);
        assert_eq!(taken.verdict, Verdict::Delivered);
        let never = settled(last.leftover, &["b"], &[("b", 450)]);
        assert_eq!(never.verdict, Verdict::Delivered);
        assert_eq!(never.without.len(), 1);
    }

    #[test]
    fn where_nobody_has_it_the_message_as_a_whole_is_tried_again() {
        let settled = settled(None, &["a", "b"], &[("a", 550), ("b", 450)]);
        assert!(matches!(
            settled.verdict,
            Verdict::Retry { after: None, .. }
        ));
        assert_eq!((settled.leftover, settled.without.len()), (None, 0));
    }
}
