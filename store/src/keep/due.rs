//! Which series of a node have something to do, in one question for all of them.
//!
//! Of most series at most times there is nothing: a visit would cost a round trip and seven commands each to
//! find that out. It is found out here of those that were visited before; what is remembered of them must
//! still be so.

use hostbus_wire::NodePath;
use redis::Pipeline;

use super::look::{LOOK_EVERY_MS, Look};
use super::roll::{closed_ms, is_behind};
use super::rows::entry_id;
use super::since::{RETENTION, Since};
use super::visit::CHANGES;
use super::{Keeper, Progress};
use crate::config::Retention;
use crate::error::StoreError;
use crate::keys::NodeKeys;
use crate::tier::Tier;

impl Keeper {
    /// Those of `series` that are to be visited now. The others have nothing to do, as far as can be
    /// told without a visit.
    ///
    /// # Errors
    /// Redis failed.
    pub async fn due(
        &mut self,
        node: &NodePath,
        series: Vec<String>,
        now_ms: u64,
    ) -> Result<Vec<String>, StoreError> {
        let Some(known) = self.nodes.get_mut(node) else {
            return Ok(series);
        };
        known.visited = true;
        let is_known = |name: &String| {
            let progress = known.series.get(name.as_str());
            progress.is_some_and(|progress| progress.rests(now_ms))
        };
        let (asked, mut due): (Vec<String>, Vec<String>) = series.into_iter().partition(is_known);
        if asked.is_empty() {
            return Ok(due);
        }
        let keys = NodeKeys::new(node);
        let mut question = Pipeline::with_capacity(asked.len() + 2);
        let noted = question.cmd("HMGET").arg(keys.kept());
        noted.arg(CHANGES).arg(RETENTION).arg(&asked);
        let late = question.cmd("EXISTS");
        for name in &asked {
            late.arg(keys.late(name));
        }
        for name in &asked {
            let newest = question.cmd("XREVRANGE").arg(keys.raw(name));
            newest.arg("+").arg("-").arg("COUNT").arg(1);
        }
        let answers = self.connection.ask(&question).await?;
        let mut noted = answers.get(0).items();
        let (Some(changes), Some(since)) = (noted.next(), noted.next()) else {
            due.extend(asked);
            return Ok(due);
        };
        let changes = changes.text().and_then(|text| text.parse().ok());
        let since = Since::parse(since.text().unwrap_or_default());
        let as_it_was = known.changes == Some(changes.unwrap_or(0))
            && since.under(&self.retention, now_ms) == since
            && answers.get(1).number() == Some(0);
        let known_of_each = noted.zip(answers.iter().skip(2));
        for (name, (noted, newest)) in asked.into_iter().zip(known_of_each) {
            let mut look = Look::default();
            look.note(noted.text().unwrap_or_default(), &self.retention);
            let newest = newest.items().first().and_then(entry_id);
            look.top_ms = newest.map_or(0, |id| id.at_ms.min(now_ms));
            let progress = known.series.get(name.as_str());
            let rests = as_it_was
                && newest.is_some()
                && progress
                    .is_some_and(|progress| progress.is_done(&look, &self.retention, now_ms));
            if !rests {
                due.push(name);
            }
        }
        Ok(due)
    }
}

impl Progress {
    /// Nothing is to be packed or looked up yet.
    fn rests(&self, now_ms: u64) -> bool {
        let looked = |looked_ms: u64| now_ms.saturating_sub(looked_ms) < LOOK_EVERY_MS;
        self.looked_ms.is_some_and(looked) && now_ms < self.seal_due_ms && self.gathering.is_none()
    }

    /// Nothing is to be rolled up.
    fn is_done(&self, look: &Look, retention: &Retention, now_ms: u64) -> bool {
        let behind = is_behind(retention, look, closed_ms(retention, look.top_ms, now_ms));
        look.top_ms >= look.checked_ms(Tier::Minute)
            && (!behind || self.settled_ms == Some(look.top_ms))
    }
}
