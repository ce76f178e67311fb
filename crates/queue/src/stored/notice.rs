//! How the notification of a job's end stands, in the field `notice` of its record: `<state> <attempts> <next attempt>
//! <detail>`, the next attempt by Redis' clock in milliseconds, 0 for none. `notify.lua`, `notified.lua` and `ending.lua`
//! write it.

use jiff::Timestamp;
use legwork_common::webhook::Notification;
use legwork_common::webhook::NotificationState;
use legwork_common::webhook::WebhookUrl;

/// Reads the field of a job that is reported to `url`. `finished` is the end of the job; `None` while it has none.
pub(crate) fn decode(url: &WebhookUrl, notice: &str, finished: Option<Timestamp>) -> Notification {
    let url = url.without_query().to_owned();
    let Some(finished) = finished else {
        let state = NotificationState::Waiting;
        return Notification { url, state, attempts: 0, next_attempt_at: None, detail: None };
    };
    let mut words = notice.splitn(4, ' ');
    let state = words.next().and_then(NotificationState::named).unwrap_or(NotificationState::Pending);
    let attempts = words.next().and_then(|word| word.parse().ok()).unwrap_or(0);
    let next: i64 = words.next().and_then(|word| word.parse().ok()).unwrap_or(0);
    // Without a notice the first attempt is due since the end.
    let next = Timestamp::from_millisecond(next).ok().filter(|_| next > 0).unwrap_or(finished);
    Notification {
        url,
        state,
        attempts,
        next_attempt_at: Some(next).filter(|_| state == NotificationState::Pending),
        detail: words.next().filter(|detail| !detail.is_empty()).map(str::to_owned),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_notice_is_read_whatever_is_in_it() {
        let url: WebhookUrl = "https://example.org/x?token=t".parse().unwrap();
        let ended = Timestamp::from_millisecond(500).unwrap();
        let pending = |attempts, ms, detail: Option<&str>| Notification {
            url: "https://example.org/x".to_owned(),
            state: NotificationState::Pending,
            attempts,
            next_attempt_at: Some(Timestamp::from_millisecond(ms).unwrap()),
            detail: detail.map(str::to_owned),
        };
        let decided =
            |state, detail| Notification { state, next_attempt_at: None, ..pending(2, 500, Some(detail)) };
        for (notice, expected) in [
            ("", pending(0, 500, None)),
            ("pending 1 900 ", pending(1, 900, None)),
            ("pending 2 900 answered 503", pending(2, 900, Some("answered 503"))),
            ("delivered 2 0 answered 204", decided(NotificationState::Delivered, "answered 204")),
            ("failed 2 0 answered 410", decided(NotificationState::Failed, "answered 410")),
            ("postponed x y", pending(0, 500, None)),
        ] {
            assert_eq!(decode(&url, notice, Some(ended)), expected, "{notice}");
        }
        assert_eq!(decode(&url, "", None).state, NotificationState::Waiting);
    }
}
