//! A dispatcher's list of the jobs below it, on Redis.

use std::collections::HashSet;

use legwork_common::id::Dispatcher;
use legwork_common::id::JobId;
use legwork_common::id::SessionId;
use legwork_common::lifecycle::State;
use legwork_common::service::JobList;

use crate::answer::Answer;
use crate::error::QueueError;
use crate::queue::Queue;
use crate::queue::record::ASKED;
use crate::queue::record::Depth;
use crate::queue::record::Place;

/// Queued and ended jobs that a dispatcher's list shows: it goes into the context of a model.
const SHOWN: usize = 50;
/// Queued and ended jobs that a dispatcher's list considers. Those beyond are only counted.
const LIST_WINDOW: usize = 2000;

/// Children of some dispatchers.
struct Children {
    /// The newest of each, as far as there was room.
    ids: Vec<JobId>,
    /// How many more there are.
    unseen: usize,
}

impl Queue {
    /// The jobs below a dispatcher. Those that a worker holds come from the leases, so they are listed however many
    /// others there are; queued and ended ones from a walk over the newest, level by level from the top: three round trips
    /// for each of ten levels at most. Of long tasks only the beginning is read.
    pub(super) async fn list_below(&self, session: SessionId, of: Dispatcher) -> Result<JobList, QueueError> {
        let mut places = self.held_below(session, of).await?;
        let mut unmet: HashSet<JobId> = places.iter().map(|place| place.id).collect();
        let mut walk = vec![of];
        walk.extend(
            places.iter().filter(|place| place.has_dispatched).map(|place| Dispatcher::Job(place.id)),
        );
        let (mut walked, mut unseen) = (0, 0);
        let held = unmet.clone();
        while !walk.is_empty() {
            let newest =
                self.newest_children(session, &std::mem::take(&mut walk), LIST_WINDOW - walked).await?;
            walked += newest.ids.len();
            unseen += newest.unseen;
            for place in self.places(&newest.ids).await?.into_iter().flatten() {
                unmet.remove(&place.id);
                if held.contains(&place.id) {
                    continue;
                }
                if place.has_dispatched {
                    walk.push(Dispatcher::Job(place.id));
                }
                places.push(place);
            }
        }
        // Held jobs beyond the window are listed, so they are not among the rest.
        let (shown, mut list) = select(places, unseen.saturating_sub(unmet.len()) as u64);
        let records = self.read_records(&shown, Depth::Outline).await?;
        list.jobs = records.into_iter().flatten().map(|record| record.job).collect();
        Ok(list)
    }

    /// The newest children of some dispatchers, `room` in all, in two round trips.
    async fn newest_children(
        &self,
        session: SessionId,
        of: &[Dispatcher],
        mut room: usize,
    ) -> Result<Children, QueueError> {
        let mut counts = redis::pipe();
        for dispatcher in of {
            counts.cmd("ZCARD").arg(self.keys.children(session, *dispatcher));
        }
        let counts = self.link.ask_all(ASKED, &counts).await?.map(Answer::parse::<usize>);
        let counts: Vec<usize> = counts.collect::<Result<_, _>>()?;
        let mut reads = redis::pipe();
        for (dispatcher, count) in of.iter().zip(&counts) {
            let wanted = room.min(*count);
            if wanted > 0 {
                let key = self.keys.children(session, *dispatcher);
                reads.cmd("ZRANGE").arg(key).arg(0).arg(wanted - 1).arg("REV");
            }
            room -= wanted;
        }
        let mut ids: Vec<JobId> = Vec::new();
        for newest in self.link.ask_all(ASKED, &reads).await? {
            ids.extend(newest.items()?.map(Answer::parse::<JobId>).collect::<Result<Vec<_>, _>>()?);
        }
        // Jobs may be forgotten between the two reads.
        let unseen = counts.iter().sum::<usize>().saturating_sub(ids.len());
        Ok(Children { ids, unseen })
    }

    /// The jobs below a dispatcher that a worker holds: those with a lease.
    async fn held_below(&self, session: SessionId, of: Dispatcher) -> Result<Vec<Place>, QueueError> {
        let mut command = redis::cmd("ZRANGE");
        command.arg(self.keys.lease(session.shard(self.keys.shards()))).arg(0).arg(-1);
        let members = self.link.ask(ASKED, &command).await?.items()?;
        // Owners of sessions are leased too; their members are not ids.
        let ids: Vec<JobId> = members.filter_map(|member| member.parse().ok()).collect();
        let places = self.places(&ids).await?.into_iter().flatten();
        Ok(places.filter(|place| !place.state.is_terminal() && place.is_below(session, of)).collect())
    }
}

/// Selects all that run, the next 50 that wait and the newest 50 that ended, oldest first, and counts the others.
fn select(mut places: Vec<Place>, unseen: u64) -> (Vec<JobId>, JobList) {
    places.sort_by_key(|place| (place.created, place.id));
    let ended = places.iter().filter(|place| place.state.is_terminal()).count();
    let (mut skip_ended, mut queued) = (ended.saturating_sub(SHOWN), 0);
    // Jobs beyond the window are counted as ended: they are the oldest.
    let mut list = JobList { jobs: Vec::new(), more_queued: 0, more_ended: unseen };
    let mut shown = Vec::new();
    for place in places {
        let waits = matches!(place.state, State::Queued | State::Scheduled);
        if waits && queued >= SHOWN {
            list.more_queued += 1;
        } else if place.state.is_terminal() && skip_ended > 0 {
            skip_ended -= 1;
            list.more_ended += 1;
        } else {
            queued += usize::from(waits);
            shown.push(place.id);
        }
    }
    (shown, list)
}
