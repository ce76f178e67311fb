//! The stored forms of a job, one file each: what this release writes, and how it reads what it or another one wrote.

pub(crate) mod facts;
pub(crate) mod notice;
pub(crate) mod past;
pub(crate) mod question;
pub(crate) mod record;
pub(crate) mod request;
