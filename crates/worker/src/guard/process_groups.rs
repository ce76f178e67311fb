//! What the guard knows, and whom it ends. Pure: no clock, no processes.

use std::collections::BTreeMap;

/// How long a group may live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lifetime {
    /// While the program may act on its leases.
    Lease,
    /// While the program lives.
    Process,
}

/// One line of the pipe: `lease 71`, `life 72`, `ended 71`, `until 123456`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Record {
    /// A group is about to begin its command.
    Started(Lifetime, u32),
    /// Nothing of the group lives.
    Ended(u32),
    /// The program may act until this moment, in milliseconds since the machine started.
    Deadline(u64),
}

impl Record {
    /// The line, short enough to be written in one piece whoever else writes.
    pub(super) fn line(self) -> String {
        match self {
            Self::Started(Lifetime::Lease, group) => format!("lease {group}\n"),
            Self::Started(Lifetime::Process, group) => format!("life {group}\n"),
            Self::Ended(group) => format!("ended {group}\n"),
            Self::Deadline(moment) => format!("until {moment}\n"),
        }
    }

    /// Reads a line. A group's number is above 1: a signal to 0 or 1 would go to others than it.
    pub(super) fn parse(line: &str) -> Option<Self> {
        let (word, number) = line.trim_end().split_once(' ')?;
        let group = || number.parse().ok().filter(|group| *group > 1);
        match word {
            "lease" => Some(Self::Started(Lifetime::Lease, group()?)),
            "life" => Some(Self::Started(Lifetime::Process, group()?)),
            "ended" => Some(Self::Ended(group()?)),
            "until" => Some(Self::Deadline(number.parse().ok()?)),
            _ => None,
        }
    }
}

/// One group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TrackedGroup {
    /// Its number, and that of the process that leads it.
    pub(super) group: u32,
    /// When its leader started, in the system's own measure; `None` if it was gone already.
    pub(super) leader: Option<u64>,
    bound: Lifetime,
}

impl TrackedGroup {
    /// Whether the number still stands for this group, where a process with that number started at `now`.
    /// While any process of a group lives the system gives its number to no other process; so a leader that
    /// started at another time leads another group.
    pub(super) fn is_meant(&self, now: Option<u64>) -> bool {
        now.is_none() || now == self.leader
    }
}

/// The groups that live, as far as the guard was told.
#[derive(Debug, Default)]
pub(super) struct ProcessGroups {
    groups: BTreeMap<u32, TrackedGroup>,
    deadline: Option<u64>,
}

impl ProcessGroups {
    /// Takes a record; `leader` says when a process with that number started.
    pub(super) fn take(&mut self, record: Record, leader: impl FnOnce(u32) -> Option<u64>) {
        match record {
            Record::Started(bound, group) => {
                self.groups.insert(group, TrackedGroup { group, leader: leader(group), bound });
            }
            Record::Ended(group) => {
                self.groups.remove(&group);
            }
            Record::Deadline(moment) => self.deadline = Some(moment),
        }
    }

    /// Whether time alone may bring something to do.
    pub(super) fn waits_for_a_deadline(&self) -> bool {
        self.deadline.is_some() && self.groups.values().any(|known| known.bound == Lifetime::Lease)
    }

    /// Takes out the groups whose time is up.
    pub(super) fn overdue(&mut self, now: u64) -> Vec<TrackedGroup> {
        if self.deadline.is_none_or(|deadline| now <= deadline) {
            return Vec::new();
        }
        let overdue = self.groups.values().filter(|known| known.bound == Lifetime::Lease).copied().collect();
        self.groups.retain(|_, known| known.bound != Lifetime::Lease);
        overdue
    }

    /// All groups, at the end.
    pub(super) fn into_groups(self) -> Vec<TrackedGroup> {
        self.groups.into_values().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn books(lines: &[&str]) -> ProcessGroups {
        let mut books = ProcessGroups::default();
        for line in lines {
            books.take(Record::parse(line).unwrap(), |group| (group != 99).then_some(u64::from(group) * 10));
        }
        books
    }

    fn numbers(known: Vec<TrackedGroup>) -> Vec<u32> {
        known.into_iter().map(|known| known.group).collect()
    }

    #[test]
    fn what_is_written_is_read() {
        for record in [
            Record::Started(Lifetime::Lease, 71),
            Record::Started(Lifetime::Process, u32::MAX),
            Record::Ended(2),
            Record::Deadline(u64::MAX),
        ] {
            assert_eq!(Record::parse(&record.line()), Some(record));
        }
        for bad in ["", "lease", "lease 1", "lease 0", "life -5", "ended x", "until", "what 7", "lease 7 8"] {
            assert_eq!(Record::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_group_that_ended_is_forgotten() {
        assert_eq!(numbers(books(&["lease 5", "life 6", "ended 5"]).into_groups()), [6]);
    }

    #[test]
    fn only_what_hangs_on_leases_has_a_deadline() {
        let mut books = books(&["life 6", "until 100"]);
        assert!(!books.waits_for_a_deadline());
        books.take(Record::Started(Lifetime::Lease, 5), |_| None);
        assert!(books.waits_for_a_deadline());
        assert_eq!(books.overdue(100), []);
        assert_eq!(numbers(books.overdue(101)), [5]);
        // Ended once. A late one that begins past the deadline is ended too, and a later deadline is a new life.
        assert_eq!(books.overdue(102), []);
        books.take(Record::Started(Lifetime::Lease, 7), |_| None);
        assert_eq!(numbers(books.overdue(103)), [7]);
        books.take(Record::Deadline(200), |_| None);
        books.take(Record::Started(Lifetime::Lease, 8), |_| None);
        assert_eq!(books.overdue(150), []);
        assert_eq!(numbers(books.into_groups()), [6, 8]);
    }

    #[test]
    fn a_number_that_was_given_to_another_is_not_meant() {
        let groups = books(&["lease 5", "lease 99"]).into_groups();
        for (known, now, meant) in [
            (groups[0], Some(50), true),
            (groups[0], None, true),
            (groups[0], Some(51), false),
            // Its leader had ended before anybody looked: whoever has the number now is another.
            (groups[1], Some(50), false),
            (groups[1], None, true),
        ] {
            assert_eq!(known.is_meant(now), meant, "{known:?} {now:?}");
        }
    }
}
