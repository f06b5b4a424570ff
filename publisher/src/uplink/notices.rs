//! What the outbox wants people to hear of: in the log, as an event, and in the health.

use std::time::Instant;

use hostbus_daemon::clock;
use hostbus_wire::EncodeError;
use tracing::{error, info, warn};

use crate::conversation::Conversation;
use crate::events;
use crate::outbox::{DiskNotice, Notice};

/// Tells it.
pub(super) fn tell(notice: Notice, conversation: &mut Conversation) -> Result<(), EncodeError> {
    let ts = clock::unix_ms();
    match notice {
        Notice::DropsBegan => {
            warn!("the outbox is full, the oldest samples are dropped");
            conversation.condition.dropping = true;
            conversation.event(events::samples_dropped(ts));
        }
        Notice::DropsEnded { dropped } => {
            info!(dropped, "the outbox has room again");
            conversation.condition.dropping = false;
            conversation.event(events::outbox_recovered(ts, dropped));
        }
        Notice::ImpossibleMark { mark } => {
            warn!(
                ?mark,
                "a mark covers samples that were never sent, it is ignored"
            );
        }
        Notice::OtherPublisher { mark } => {
            conversation.on_foreign_mark(mark.boot, Instant::now());
        }
        Notice::BootMoved { from, to } => {
            info!(
                from,
                to, "the ingester knows a later run, ours comes after it now"
            );
            conversation.on_boot_moved(to)?;
        }
        Notice::Damaged { lost } => {
            error!(lost, "samples on disk are damaged and lost");
            conversation.event(events::samples_damaged(ts, lost));
        }
        Notice::Broken {
            aside,
            reason,
            lost,
        } => {
            error!(
                kept = aside,
                reason, lost, "the file of samples is damaged, a new one is begun"
            );
            conversation.event(events::outbox_broken(ts, &aside, &reason, lost));
        }
        Notice::Disk(DiskNotice::Failed(failure)) => {
            warn!(
                reason = failure.reason,
                mend = failure.mend,
                "samples can't be kept on disk, they stay in memory"
            );
            conversation.condition.disk = Some(failure.to_string());
            conversation.event(events::outbox_disk_failed(ts, &failure));
        }
        Notice::Disk(DiskNotice::Recovered) => {
            info!("samples can be kept on disk again");
            conversation.condition.disk = None;
            conversation.event(events::outbox_disk_recovered(ts));
        }
    }
    Ok(())
}
