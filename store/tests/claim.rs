//! Two ingesters on one Redis.

mod fixture;

use fixture::fixture;
use hostbus_store::{Claim, Connection};
use hostbus_wire::SiteId;

const FORMER: usize = 0;
const FIRST: usize = 1;
const SECOND: usize = 2;

#[tokio::test]
async fn two_ingesters_hear_of_each_other_whatever_their_sites_and_one_after_the_other_does_not() {
    let fixture = fixture().await;
    let open = |site: &str| {
        let site: SiteId = site.parse().unwrap();
        Claim::new(Connection::open(&fixture.config).unwrap(), &site)
    };
    let mut claims = ["home", "home", "lab"].map(open);
    for (number, (claim, expected)) in [
        (FORMER, false),
        (FORMER, false),
        // It has ended, and another one begins.
        (FIRST, false),
        (FIRST, false),
        (SECOND, false),
        (FIRST, true),
        (SECOND, true),
        // The first one has ended.
        (SECOND, false),
    ]
    .into_iter()
    .enumerate()
    {
        let shared = claims[claim].renew().await.unwrap();
        assert_eq!(shared, expected, "{number}");
    }
}
