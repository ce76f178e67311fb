//! Which process groups the guard knows, and which of them it kills when. Pure: no clock, no processes.

use std::collections::BTreeMap;

/// How long a process group may live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lifetime {
    /// While the program's leases are valid.
    Lease,
    /// While the program lives.
    Process,
}

impl Lifetime {
    /// The word for it in announcements and on command lines.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Lease => "lease",
            Self::Process => "process",
        }
    }

    /// Reads the word.
    pub(super) fn parse(word: &str) -> Option<Self> {
        [Self::Lease, Self::Process].into_iter().find(|lifetime| lifetime.word() == word)
    }
}

/// One line of the program: `ended 71`, `until 123456`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Record {
    /// No process of the group is left.
    Ended(u32),
    /// The groups of jobs may live until this moment, in milliseconds since the machine started.
    Deadline(u64),
}

impl Record {
    /// The line.
    pub(super) fn line(self) -> String {
        match self {
            Self::Ended(group) => format!("ended {group}\n"),
            Self::Deadline(moment) => format!("until {moment}\n"),
        }
    }

    /// Reads a line.
    pub(super) fn parse(line: &str) -> Option<Self> {
        let (word, number) = line.trim_end().split_once(' ')?;
        match word {
            "ended" => Some(Self::Ended(number.parse().ok()?)),
            "until" => Some(Self::Deadline(number.parse().ok()?)),
            _ => None,
        }
    }
}

/// One process group that the guard may have to kill.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TrackedGroup {
    /// Its id, which is also the process id of its leader.
    pub(super) group: u32,
    /// When its leader started, in the system's own unit; `None` if the leader was gone already.
    pub(super) leader: Option<u64>,
    lifetime: Lifetime,
}

impl TrackedGroup {
    /// A group whose leader started at `leader`.
    pub(super) fn new(lifetime: Lifetime, group: u32, leader: Option<u64>) -> Self {
        Self { group, leader, lifetime }
    }

    /// Whether the id still stands for this group, where the process with that id started at `now`. While any process
    /// of a group lives, the system gives its id to no new process; so a leader that started at another time leads
    /// another group.
    pub(super) fn is_same(&self, now: Option<u64>) -> bool {
        now.is_none() || now == self.leader
    }
}

/// The process groups that live, according to the records so far.
#[derive(Debug, Default)]
pub(super) struct ProcessGroups {
    groups: BTreeMap<u32, TrackedGroup>,
    deadline: Option<u64>,
}

impl ProcessGroups {
    /// Notes a group that is about to start its command. `leader` is when the process with its id started.
    pub(super) fn start(&mut self, lifetime: Lifetime, group: u32, leader: Option<u64>) {
        self.groups.insert(group, TrackedGroup::new(lifetime, group, leader));
    }

    /// Applies a record of the program.
    pub(super) fn apply(&mut self, record: Record) {
        match record {
            Record::Ended(group) => {
                self.groups.remove(&group);
            }
            Record::Deadline(moment) => self.deadline = Some(moment),
        }
    }

    /// Whether the passing of time alone may make a group overdue.
    pub(super) fn has_deadline(&self) -> bool {
        self.deadline.is_some() && self.groups.values().any(|tracked| tracked.lifetime == Lifetime::Lease)
    }

    /// Removes and returns the groups whose deadline has passed at `now`.
    pub(super) fn overdue(&mut self, now: u64) -> Vec<TrackedGroup> {
        if self.deadline.is_none_or(|deadline| now <= deadline) {
            return Vec::new();
        }
        let overdue =
            self.groups.values().filter(|tracked| tracked.lifetime == Lifetime::Lease).copied().collect();
        self.groups.retain(|_, tracked| tracked.lifetime != Lifetime::Lease);
        overdue
    }

    /// All groups that are left when the program is gone.
    pub(super) fn into_groups(self) -> Vec<TrackedGroup> {
        self.groups.into_values().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Applies lines: those of the program, and `lease 5` or `process 5` for a group that starts.
    fn groups(lines: &[&str]) -> ProcessGroups {
        let mut groups = ProcessGroups::default();
        for line in lines {
            let (word, number) = line.split_once(' ').unwrap();
            match Lifetime::parse(word) {
                Some(lifetime) => start(&mut groups, lifetime, number.parse().unwrap()),
                None => groups.apply(Record::parse(line).unwrap()),
            }
        }
        groups
    }

    /// The leader of each group started at ten times its number; that of 99 is gone.
    fn start(groups: &mut ProcessGroups, lifetime: Lifetime, group: u32) {
        groups.start(lifetime, group, (group != 99).then_some(u64::from(group) * 10));
    }

    fn ids(tracked: Vec<TrackedGroup>) -> Vec<u32> {
        tracked.into_iter().map(|tracked| tracked.group).collect()
    }

    #[test]
    fn records_are_read_as_they_are_written() {
        for record in [Record::Ended(2), Record::Deadline(u64::MAX)] {
            assert_eq!(Record::parse(&record.line()), Some(record));
        }
        for bad in ["", "lease", "lease 7", "process -5", "ended x", "until", "what 7", "ended 7 8"] {
            assert_eq!(Record::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_group_that_ended_is_not_tracked() {
        assert_eq!(ids(groups(&["lease 5", "process 6", "ended 5"]).into_groups()), [6]);
    }

    #[test]
    fn only_groups_of_leases_have_a_deadline() {
        let mut groups = groups(&["process 6", "until 100"]);
        assert!(!groups.has_deadline());
        start(&mut groups, Lifetime::Lease, 5);
        assert!(groups.has_deadline());
        assert_eq!(groups.overdue(100), []);
        assert_eq!(ids(groups.overdue(101)), [5]);
        // Killed once. A group that starts past the deadline is killed too; a later deadline lets new groups live.
        assert_eq!(groups.overdue(102), []);
        start(&mut groups, Lifetime::Lease, 7);
        assert_eq!(ids(groups.overdue(103)), [7]);
        groups.apply(Record::Deadline(200));
        start(&mut groups, Lifetime::Lease, 8);
        assert_eq!(groups.overdue(150), []);
        assert_eq!(ids(groups.into_groups()), [6, 8]);
    }

    #[test]
    fn a_reused_id_does_not_stand_for_the_group() {
        let groups = groups(&["lease 5", "lease 99"]).into_groups();
        for (tracked, now, same) in [
            (groups[0], Some(50), true),
            (groups[0], None, true),
            (groups[0], Some(51), false),
            // Its leader had ended before it was looked up: a process with that id is another one.
            (groups[1], Some(50), false),
            (groups[1], None, true),
        ] {
            assert_eq!(tracked.is_same(now), same, "{tracked:?} {now:?}");
        }
    }
}
