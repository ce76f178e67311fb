//! Every way of altering a signed job is refused with its reason.

use std::sync::Arc;
use std::time::Duration;

use legwork_common::id::JobId;
use legwork_common::id::SessionId;
use legwork_common::job::TeamDigest;

use super::*;
use crate::envelope::EnvelopeError;
use crate::envelope::JobTerms;
use crate::envelope::Statement;
use crate::envelope::digest;
use crate::signer::JobSigner;
use crate::signer::LIFETIME;

const NOW: u64 = 1_800_000_000_000;

/// Keys of a fleet, jobs that they signed, and a trust file.
struct Fleet {
    ci: Arc<SigningKey>,
    worker: Arc<SigningKey>,
    trust: Trust,
}

fn key(id: &str) -> Arc<SigningKey> {
    Arc::new(SigningKey::generate(Some(id.parse().unwrap())).unwrap())
}

fn fleet(grant: &str) -> Fleet {
    let (ci, worker) = (key("ci"), key("worker-1"));
    let file = format!(
        "keys:\n  ci: {{key: '{}'{grant}}}\n  worker-1: {{key: '{}', worker: true}}\n",
        ci.public(),
        worker.public()
    );
    Fleet { trust: Trust::parse(&file).unwrap(), ci, worker }
}

fn terms() -> JobTerms {
    let session = SessionId::random();
    JobTerms {
        namespace: "default".into(),
        session,
        job: JobId::random_in(session),
        parent: None,
        depth: 0,
        request: digest(r#"{"agent":"reviewer","task":"t"}"#),
        team: TeamDigest("0".repeat(64)),
        queue: "code".into(),
        priority: 1,
        timeout_ms: Some(60_000),
        retries: 2,
    }
}

fn child_of(parent: &JobTerms) -> JobTerms {
    let job = JobId::random_in(parent.session);
    JobTerms { job, parent: Some(parent.job), depth: parent.depth + 1, ..parent.clone() }
}

fn signed(signer: &JobSigner, terms: &JobTerms) -> SignedJob {
    let envelope = signer.sign(terms.clone(), Duration::ZERO, NOW).unwrap();
    SignedJob { envelope, terms: terms.clone() }
}

fn below(key: &Arc<SigningKey>, parent: &SignedJob) -> JobSigner {
    JobSigner::below(Arc::clone(key), Arc::new(Envelope::parse(&parent.envelope).unwrap()))
}

fn refusal(trust: &Trust, job: &SignedJob) -> Option<Refusal> {
    trust.accept(Some(job), NOW).err()
}

#[test]
fn jobs_of_roots_and_of_jobs_are_accepted_as_they_were_signed() {
    let fleet = fleet("");
    let root = signed(&JobSigner::of_root(Arc::clone(&fleet.ci)), &terms());
    let child = signed(&below(&fleet.worker, &root), &child_of(&root.terms));
    let grandchild = signed(&below(&fleet.worker, &child), &child_of(&child.terms));
    for (job, links) in [(&root, 1), (&child, 2), (&grandchild, 3)] {
        let accepted = fleet.trust.accept(Some(job), NOW).unwrap();
        assert_eq!((accepted.envelope.links().len(), accepted.grants.len()), (links, links));
        assert_eq!(accepted.envelope.text(), job.envelope);
        assert_eq!(accepted.expires_ms, NOW + 7 * 24 * 3_600_000);
    }
}

#[test]
fn a_job_without_an_envelope_or_with_a_damaged_one_is_refused() {
    let fleet = fleet("");
    assert_eq!(fleet.trust.accept(None, NOW).err(), Some(Refusal::Unsigned));
    let good = signed(&JobSigner::of_root(Arc::clone(&fleet.ci)), &terms());
    let link = good.envelope.strip_prefix("1~").unwrap();
    let damaged = |part| Refusal::Unreadable(EnvelopeError::Damaged(part));
    for (envelope, expected) in [
        (String::new(), Refusal::Unreadable(EnvelopeError::Later)),
        (format!("2~{link}"), Refusal::Unreadable(EnvelopeError::Later)),
        ("1".to_owned(), damaged("the first link")),
        ("1~abc".to_owned(), damaged("a link")),
        ("1~!.!".to_owned(), damaged("a link")),
        ("1~YWJj.YWJj".to_owned(), damaged("a statement")),
        (format!("1{}", format!("~{link}").repeat(11)), Refusal::Unreadable(EnvelopeError::TooLong)),
        ("1~".repeat(40_000), Refusal::Unreadable(EnvelopeError::TooLong)),
    ] {
        let job = SignedJob { envelope: envelope.clone(), ..good.clone() };
        assert_eq!(refusal(&fleet.trust, &job), Some(expected), "{envelope}");
    }
}

#[test]
fn every_altered_term_is_named() {
    let fleet = fleet("");
    let good = signed(&JobSigner::of_root(Arc::clone(&fleet.ci)), &terms());
    let original = good.terms.clone();
    let session = SessionId::random();
    for (term, altered) in [
        ("namespace", JobTerms { namespace: "other".into(), ..original.clone() }),
        ("session", JobTerms { session, ..original.clone() }),
        ("id", JobTerms { job: JobId::random_in(original.session), ..original.clone() }),
        ("parent", JobTerms { parent: Some(original.job), ..original.clone() }),
        ("depth", JobTerms { depth: 1, ..original.clone() }),
        ("request", JobTerms { request: digest("{}"), ..original.clone() }),
        ("team", JobTerms { team: TeamDigest("1".repeat(64)), ..original.clone() }),
        ("queue", JobTerms { queue: "other".into(), ..original.clone() }),
        ("priority", JobTerms { priority: 0, ..original.clone() }),
        ("timeout", JobTerms { timeout_ms: None, ..original.clone() }),
        ("retries", JobTerms { retries: 3, ..original.clone() }),
    ] {
        let job = SignedJob { terms: altered, ..good.clone() };
        assert_eq!(refusal(&fleet.trust, &job), Some(Refusal::Altered { term }));
    }
}

#[test]
fn a_statement_that_was_changed_or_signed_by_another_key_is_forged() {
    let fleet = fleet("");
    let good = signed(&JobSigner::of_root(Arc::clone(&fleet.ci)), &terms());
    let own = Envelope::parse(&good.envelope).unwrap().own().unwrap().clone();
    let forged = |statement: Statement, signature: Vec<u8>| {
        let bytes = serde_json::to_vec(&statement).unwrap();
        let terms = statement.job.clone();
        let envelope = Envelope::below(None, Link::new(statement, bytes, signature)).text();
        SignedJob { envelope, terms }
    };
    let later = Statement { expires_ms: u64::MAX, ..own.statement.clone() };
    let urgent = JobTerms { priority: 0, ..own.statement.job.clone() };
    let urgent = Statement { job: urgent, ..own.statement.clone() };
    for statement in [later, urgent] {
        let job = forged(statement, own.signature.clone());
        assert_eq!(refusal(&fleet.trust, &job), Some(Refusal::Forged { key: "ci".parse().unwrap() }));
    }
    // The right name on a stranger's key, and a stranger's name.
    let stranger = signed(&JobSigner::of_root(key("ci")), &terms());
    assert_eq!(refusal(&fleet.trust, &stranger), Some(Refusal::Forged { key: "ci".parse().unwrap() }));
    let stranger = signed(&JobSigner::of_root(key("old")), &terms());
    assert_eq!(refusal(&fleet.trust, &stranger), Some(Refusal::UnknownKey { key: "old".parse().unwrap() }));
}

#[test]
fn keys_sign_in_their_own_place_only() {
    let fleet = fleet("");
    let of_worker = signed(&JobSigner::of_root(Arc::clone(&fleet.worker)), &terms());
    let wrong = |key: &str, is_worker| Some(Refusal::WrongKind { key: key.parse().unwrap(), is_worker });
    assert_eq!(refusal(&fleet.trust, &of_worker), wrong("worker-1", true));
    let root = signed(&JobSigner::of_root(Arc::clone(&fleet.ci)), &terms());
    let of_dispatcher = signed(&below(&fleet.ci, &root), &child_of(&root.terms));
    assert_eq!(refusal(&fleet.trust, &of_dispatcher), wrong("ci", false));
}

#[test]
fn a_chain_is_not_put_together_from_pieces_of_others() {
    let fleet = fleet("");
    let root = signed(&JobSigner::of_root(Arc::clone(&fleet.ci)), &terms());
    let other = signed(&JobSigner::of_root(Arc::clone(&fleet.ci)), &terms());
    let child = signed(&below(&fleet.worker, &root), &child_of(&root.terms));
    let link = child.envelope.rsplit('~').next().unwrap();
    let moved = SignedJob { envelope: format!("{}~{link}", other.envelope), ..child.clone() };
    assert_eq!(refusal(&fleet.trust, &moved), Some(Refusal::Chain));
    let alone = SignedJob { envelope: format!("1~{link}"), ..child.clone() };
    assert!(matches!(refusal(&fleet.trust, &alone), Some(Refusal::WrongKind { .. })));
    // A worker's key that was stolen signs below a job, and only as that job's dispatcher would have been allowed to.
    let good = child_of(&root.terms);
    for bad in [
        JobTerms { parent: None, ..good.clone() },
        JobTerms { parent: Some(other.terms.job), ..good.clone() },
        JobTerms { depth: 0, ..good.clone() },
        JobTerms { team: TeamDigest("1".repeat(64)), ..good.clone() },
        JobTerms { session: SessionId::random(), ..good.clone() },
        JobTerms { namespace: "other".into(), ..good.clone() },
    ] {
        let job = signed(&below(&fleet.worker, &root), &bad);
        assert_eq!(refusal(&fleet.trust, &job), Some(Refusal::Chain), "{bad:?}");
    }
    // A job of a root that names a parent.
    let odd = signed(&JobSigner::of_root(Arc::clone(&fleet.ci)), &good);
    assert_eq!(refusal(&fleet.trust, &odd), Some(Refusal::Chain));
}

#[test]
fn a_signature_holds_from_the_delay_until_its_expiry() {
    let fleet = fleet("");
    let delay = Duration::from_secs(3600);
    let signer = JobSigner::of_root(Arc::clone(&fleet.ci));
    let terms = terms();
    let job = SignedJob { envelope: signer.sign(terms.clone(), delay, NOW).unwrap(), terms };
    let (hour, lifetime) = (3_600_000, u64::try_from(LIFETIME.as_millis()).unwrap());
    let at = |now| fleet.trust.accept(Some(&job), now).err();
    assert_eq!(at(NOW), Some(Refusal::TooEarly { by_ms: hour }));
    assert_eq!(at(NOW + hour - 300_000), None, "clocks may differ by five minutes");
    assert_eq!(at(NOW + hour + lifetime - 1), None);
    assert_eq!(at(NOW + hour + lifetime + 500), Some(Refusal::Expired { by_ms: 500 }));
    assert!(fleet.trust.recognize(Some(&job)).is_ok(), "an old job can be retried");
}

#[test]
fn the_grant_of_the_root_holds_for_all_jobs_below_it() {
    let fleet = fleet(", queues: [docs], toolsets: [filesystem]");
    let terms = JobTerms { queue: "docs".into(), ..terms() };
    let root = signed(&JobSigner::of_root(Arc::clone(&fleet.ci)), &terms);
    assert_eq!(refusal(&fleet.trust, &root), None);
    let child = JobTerms { queue: "code".into(), ..child_of(&root.terms) };
    let child = signed(&below(&fleet.worker, &root), &child);
    let queue = "code".to_owned();
    assert_eq!(refusal(&fleet.trust, &child), Some(Refusal::Queue { key: "ci".parse().unwrap(), queue }));
    let grants = fleet.trust.accept(Some(&root), NOW).unwrap().grants;
    assert_eq!(grants[0].1.toolsets, Some(["filesystem".to_owned()].into()));
    assert_eq!(grants[0].1.agents, None);
}

#[test]
fn several_keys_are_trusted_while_one_replaces_another() {
    let (old, new) = (key("ci-2025"), key("ci-2026"));
    let line = |key: &SigningKey| format!("  {}: {{key: '{}'}}\n", key.id(), key.public());
    let both = Trust::parse(&format!("keys:\n{}{}", line(&old), line(&new))).unwrap();
    let after = Trust::parse(&format!("keys:\n{}", line(&new))).unwrap();
    let of_old = signed(&JobSigner::of_root(Arc::clone(&old)), &terms());
    let of_new = signed(&JobSigner::of_root(Arc::clone(&new)), &terms());
    for (trust, of, accepted) in
        [(&both, &of_old, true), (&both, &of_new, true), (&after, &of_old, false), (&after, &of_new, true)]
    {
        assert_eq!(refusal(trust, of).is_none(), accepted);
    }
    // A retry by the old key's owner is recognized by that key.
    assert!(after.with_own(&old).recognize(Some(&of_old)).is_ok());
}

#[test]
fn files_that_name_no_usable_key_are_refused() {
    let public = key("ci").public();
    for (file, expected) in [
        (String::new(), None),
        ("keys: {}".to_owned(), Some(TrustError::Empty)),
        ("keys: {ci: {key: abc}}".to_owned(), None),
        (format!("keys: {{ci: {{key: '{public}', queue: [a]}}}}"), None),
        (format!("keys: {{'two words': {{key: '{public}'}}}}"), None),
    ] {
        let error = Trust::parse(&file).unwrap_err();
        assert!(expected.as_ref().is_none_or(|expected| *expected == error), "{file}: {error}");
    }
    // JSON is YAML too.
    assert!(Trust::parse(&format!(r#"{{"keys": {{"ci": {{"key": "{public}"}}}}}}"#)).is_ok());
}

#[test]
fn the_reasons_read_well() {
    let ci: KeyId = "ci".parse().unwrap();
    let expired = Refusal::Expired { by_ms: 1500 };
    assert_eq!(expired.to_string(), "the signature of the job expired 2 s ago");
    let wrong = Refusal::WrongKind { key: ci.clone(), is_worker: true };
    assert_eq!(wrong.to_string(), "the key `ci` is a worker's: it signs jobs of jobs only");
    let what = "the toolset shell".to_owned();
    let granted = Refusal::NotGranted { key: ci, what };
    assert_eq!(granted.to_string(), "the key `ci` may not sign jobs with the toolset shell");
}
