//! Counts the bytes that are examined, so that tests can say that reading is linear. Costs nothing outside of tests.

#[cfg(test)]
use std::cell::Cell;

#[cfg(test)]
thread_local! {
    static BYTES: Cell<usize> = const { Cell::new(0) };
}

/// So many bytes are examined or moved.
#[cfg(test)]
pub(crate) fn count(bytes: usize) {
    BYTES.with(|all| all.set(all.get() + bytes));
}

/// So many bytes are examined or moved.
#[cfg(not(test))]
pub(crate) fn count(_bytes: usize) {}

/// The bytes that `work` examines, in this thread.
#[cfg(test)]
pub(crate) fn counted(work: impl FnOnce()) -> usize {
    BYTES.with(|all| all.set(0));
    work();
    BYTES.with(Cell::get)
}
