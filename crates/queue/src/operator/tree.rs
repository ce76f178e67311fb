//! Which job of a list dispatched which.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use legwork_common::id::JobId;

use crate::operator::list::ListedJob;

/// One line of a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TreeLine<'jobs> {
    /// How many dispatchers of the list are above the job.
    pub depth: usize,
    /// The job.
    pub listed: &'jobs ListedJob,
}

/// Puts each job below its dispatcher, if that is in the list too. Roots keep the order of the list, newest first;
/// below a job its children stand in the order in which it dispatched them.
pub fn tree(jobs: &[ListedJob]) -> Vec<TreeLine<'_>> {
    let known: BTreeSet<JobId> = jobs.iter().map(|listed| listed.job.id).collect();
    let mut below: BTreeMap<Option<JobId>, Vec<&ListedJob>> = BTreeMap::new();
    for listed in jobs {
        let parent = listed.job.parent.filter(|parent| known.contains(parent));
        below.entry(parent).or_default().push(listed);
    }
    let mut lines = Vec::with_capacity(jobs.len());
    // Taken from the end, so the roots go in reversed. Children go in as they are: the list has the newest first, and
    // taking the last one first gives the order of their dispatch.
    let mut stack: Vec<TreeLine<'_>> =
        below.get(&None).into_iter().flatten().rev().map(|listed| TreeLine { depth: 0, listed }).collect();
    while let Some(line) = stack.pop() {
        lines.push(line);
        let children = below.get(&Some(line.listed.job.id)).into_iter().flatten();
        stack.extend(children.map(|listed| TreeLine { depth: line.depth + 1, listed }));
    }
    lines
}

#[cfg(test)]
mod tests {
    use legwork_common::id::SessionId;
    use legwork_common::job::Job;

    use super::*;
    use crate::operator::testing::job;

    /// A list of jobs from `name parent` pairs, in the order of the list; `-` for no parent.
    fn jobs(pairs: &[&str]) -> Vec<ListedJob> {
        let session = SessionId::random();
        let mut ids: BTreeMap<&str, JobId> = BTreeMap::new();
        pairs
            .iter()
            .map(|pair| {
                let (name, parent) = pair.split_once(' ').unwrap();
                let mut id = |name| *ids.entry(name).or_insert_with(|| JobId::random_in(session));
                let parent = (parent != "-").then(|| id(parent));
                let job = Job { id: id(name), parent, task: name.to_owned(), ..job() };
                ListedJob { job, stale_for: None }
            })
            .collect()
    }

    #[test]
    fn jobs_stand_below_their_dispatchers() {
        let table: [(&[&str], &str); 5] = [
            (&[], ""),
            (&["b -", "a -"], "b a"),
            // Newest first in the list, in the order of dispatch below the parent.
            (&["c2 a", "c1 a", "a -"], "a .c1 .c2"),
            (&["d c1", "b -", "c2 a", "c1 a", "a -"], "b a .c1 ..d .c2"),
            // The parent is on another page.
            (&["d c", "c gone"], "c .d"),
        ];
        for (pairs, expected) in table {
            let jobs = jobs(pairs);
            let lines = tree(&jobs);
            let shown: Vec<String> = lines
                .iter()
                .map(|line| format!("{}{}", ".".repeat(line.depth), line.listed.job.task))
                .collect();
            assert_eq!(shown.join(" "), expected, "{pairs:?}");
        }
    }
}
