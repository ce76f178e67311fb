//! What providers say when something is wrong, and what it means.

use serde_json::json;

use super::*;

fn http(status: u16, headers: &[(&str, &'static str)], body: &str) -> ProviderError {
    let header = |name: &str| headers.iter().find(|(known, _)| *known == name).map(|&(_, value)| value);
    ProviderError::from_response(status, header, body.as_bytes(), Timestamp::UNIX_EPOCH)
}

#[test]
fn in_a_stream_by_names_and_numbers() {
    use ErrorKind as K;
    let table = [
        (json!({"error": {"code": 429, "message": "Rate limited upstream"}}), K::RateLimited),
        (json!({"error": {"code": "429", "message": "m"}}), K::RateLimited),
        (json!({"error": {"code": 401, "message": "User not found."}}), K::Authentication),
        (
            json!({"error": {"message": "Insufficient credits", "type": "billing", "code": 402}}),
            K::QuotaUsedUp,
        ),
        (json!({"error": {"message": "m", "type": "insufficient_quota"}}), K::QuotaUsedUp),
        (
            json!({"error": {"message": "m", "type": "invalid_request_error", "code": "invalid_api_key"}}),
            K::Authentication,
        ),
        (
            json!({"object": "error", "message": "prompt too long", "type": "BadRequestError", "code": 400}),
            K::ContextLength,
        ),
        (
            json!({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}),
            K::Overloaded,
        ),
        (
            json!({"type": "error", "code": "context_length_exceeded", "message": "too long"}),
            K::ContextLength,
        ),
        (json!({"type": "error", "code": "rate_limit_exceeded", "message": "slow"}), K::RateLimited),
        (json!({"error": "model is overloaded"}), K::Overloaded),
        (json!({"error": {"message": "oops", "type": "server_error"}}), K::Server),
        (json!({"error": {}}), K::Server),
        (json!([{"error": {"code": 503, "status": "UNAVAILABLE", "message": "m"}}]), K::Overloaded),
        (
            json!({"error": {"code": 400, "status": "INVALID_ARGUMENT", "message": "API key not valid."}}),
            K::Authentication,
        ),
        (json!({"detail": "Not authenticated"}), K::Server),
        (json!({"base_resp": {"status_code": 1004, "status_msg": "login fail"}}), K::Authentication),
        (json!({"error": {"code": "content_filter", "message": "m", "type": null}}), K::Filtered),
    ];
    for (document, kind) in table {
        let error = ProviderError::in_json(&document).unwrap();
        assert_eq!(error.kind, kind, "{document}: {error}");
    }
}

#[test]
fn an_error_without_words_says_so() {
    assert_eq!(http(400, &[], "").to_string(), "400: no reason was given");
    assert_eq!(ProviderError::in_json(&json!({"error": {}})).unwrap().to_string(), "no reason was given");
}

#[test]
fn payloads_without_an_error_are_left_alone() {
    for document in [
        json!({"choices": [], "error": null}),
        json!({"choices": [{"message": {"content": "hi"}}], "message": "m"}),
        json!({"choices": [], "base_resp": {"status_code": 0}}),
        json!({"type": "message_start", "message": {}}),
        json!({"error": false}),
        json!([]),
        json!(3),
    ] {
        assert_eq!(ProviderError::in_json(&document), None, "{document}");
    }
}

#[test]
fn over_http_by_status_and_names() {
    use ErrorKind as K;
    let quota = r#"{"error": {"message": "You exceeded your current quota", "type": "insufficient_quota", "code": "insufficient_quota"}}"#;
    let gemini = r#"{"error": {"code": 429, "status": "RESOURCE_EXHAUSTED", "message": "You exceeded your current quota", "details": [{"retryDelay": "34s"}]}}"#;
    let daily = r#"{"error": {"code": 429, "status": "RESOURCE_EXHAUSTED", "details": [{"violations": [{"quotaId": "GenerateRequestsPerDayPerProject"}]}]}}"#;
    let vllm = r#"{"object": "error", "message": "This model's maximum context length is 9 tokens.", "type": "BadRequestError", "code": 400}"#;
    let llama = r#"{"error": {"code": 400, "message": "exceeds the available size", "type": "exceed_context_size_error"}}"#;
    let wrapped = r#"{"error": {"message": "Requested token count exceeds the model's maximum context length", "code": "503"}}"#;
    let throttled = r#"{"__type": "ThrottlingException", "message": "Too many tokens, please wait"}"#;
    let table = [
        (429, "", K::RateLimited),
        (429, quota, K::QuotaUsedUp),
        (429, gemini, K::RateLimited),
        (429, daily, K::QuotaUsedUp),
        (429, "You exceeded your current quota (insufficient_quota)", K::QuotaUsedUp),
        (402, "{}", K::QuotaUsedUp),
        (
            400,
            r#"{"error": {"type": "invalid_request_error", "message": "Your credit balance is too low"}}"#,
            K::QuotaUsedUp,
        ),
        (503, "busy", K::Overloaded),
        (529, "", K::Overloaded),
        (500, r#"{"error": {"type": "api_error"}}"#, K::Server),
        (502, "<html><title>502 Bad Gateway</title></html>", K::Server),
        (408, "", K::Server),
        (401, "", K::Authentication),
        (403, r#"{"error": {"type": "invalid_request_error"}}"#, K::Authentication),
        (404, r#"{"error": {"type": "not_found_error"}}"#, K::NotFound),
        (400, vllm, K::ContextLength),
        (400, llama, K::ContextLength),
        (503, wrapped, K::ContextLength),
        (413, r#"{"error": {"type": "request_too_large"}}"#, K::ContextLength),
        (400, throttled, K::RateLimited),
        (400, r#"{"__type": "com.amazon.coral#ThrottlingException"}"#, K::RateLimited),
        (400, r#"{"message": "Input is too long for requested model."}"#, K::ContextLength),
        (403, r#"{"Message": "The security token is expired"}"#, K::Authentication),
        (424, r#"{"message": "the model failed"}"#, K::Server),
        (400, "bad", K::InvalidRequest),
        (422, r#"{"detail": [{"msg": "field required"}]}"#, K::InvalidRequest),
    ];
    for (status, body, kind) in table {
        let error = http(status, &[], body);
        assert_eq!(error.kind, kind, "{status} {body}: {error}");
    }
    let in_header = [("x-amzn-errortype", "ModelNotReadyException:http://internal.amazon.com/")];
    assert_eq!(http(429, &in_header, r#"{"message": "m"}"#).kind, K::Overloaded);
    assert_eq!(http(429, &[], gemini).retry_after, Some(Duration::from_secs(34)));
    assert_eq!(http(502, &[], "<html><title>502 Bad Gateway</title>").to_string(), "502: 502 Bad Gateway");
    assert_eq!(http(422, &[], r#"{"detail": [{"msg": "field required"}]}"#).words, "field required");
}

#[test]
fn by_the_wait_that_is_asked_for() {
    let table = [
        (vec![("retry-after", "7")], Some(7000)),
        (vec![("retry-after", "7"), ("retry-after-ms", "120.5")], Some(120)),
        (vec![("retry-after", "Thu, 01 Jan 1970 00:00:09 GMT")], Some(9000)),
        (vec![("retry-after", "Wed, 31 Dec 1969 00:00:00 GMT")], Some(0)),
        (vec![("retry-after", "1970-01-01T00:00:09Z")], Some(9000)),
        (vec![("retry-after", "9s")], Some(9000)),
        (vec![("retry-after", " 1.5 ")], Some(1500)),
        (vec![("retry-after", "0")], Some(0)),
        (vec![("retry-after", "99999999999999999999999")], None),
        (vec![("retry-after", "NaN")], None),
        (vec![("retry-after", "")], None),
        (vec![("retry-after", "soon")], None),
        (vec![("retry-after", "-1")], None),
        (vec![], None),
    ];
    for (headers, expected) in table {
        let header = |name: &str| headers.iter().find(|(known, _)| *known == name).map(|&(_, value)| value);
        for status in [429, 503, 529] {
            let error = ProviderError::from_response(status, header, b"", Timestamp::UNIX_EPOCH);
            assert_eq!(error.retry_after.map(|wait| wait.as_millis()), expected, "{headers:?}");
        }
    }
    let field = json!({"error": {"code": 429, "message": "slow", "retry_after": 7}});
    assert_eq!(ProviderError::in_json(&field).unwrap().retry_after, Some(Duration::from_secs(7)));
    for (words, expected) in [
        ("Rate limit reached. Please try again in 1.2s", Some(1200)),
        ("Please try again in 20ms. Visit", Some(20)),
        ("try again in 6m0s.", Some(360_000)),
        ("Retry in 5 seconds", Some(5000)),
        ("try again in a while", None),
        ("try again in 7", None),
    ] {
        let error = ProviderError::named("rate_limit_exceeded", words);
        assert_eq!(error.retry_after.map(|wait| wait.as_millis()), expected, "{words}");
    }
}

#[test]
fn words_are_one_short_line() {
    let long = "a\n\u{1b}[31m b ".repeat(100_000);
    for body in [long.clone(), json!({"error": {"message": long}}).to_string()] {
        let error = http(500, &[], &body);
        assert_eq!(error.words.chars().count(), WORDS);
        assert!(!error.words.contains(char::is_control));
    }
    let router = json!({"error": {"code": 400, "message": "Provider returned error", "metadata": {"raw": r#"{"error": {"message": "no such tool"}}"#}}});
    let error = ProviderError::in_json(&router).unwrap();
    assert_eq!(error.to_string(), "400: no such tool");
    let page = ProviderError::not_a_reply("<html><body>Please log in</body></html>");
    assert_eq!(page.to_string(), "a page came in place of a reply: Please log in");
}

#[test]
fn conversations_that_are_too_long_in_the_words_of_each_provider() {
    let words = [
        "This model's maximum context length is 4097 tokens. However, your messages resulted in 4301 tokens.",
        "This model's maximum prompt length is 131072 but the request contains 136973 tokens.",
        "Please reduce the length of the messages or completion. Current length is 42328 while limit is 40000",
        "The decoder prompt (length 163840) is longer than the maximum model length of 131072.",
        "prompt is too long: 210000 tokens > 200000 maximum",
        "input length and `max_tokens` exceed context limit: 199000 + 8000 > 200000",
        "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).",
        "Invalid request: Your request exceeded model token limit: 8192",
        "Prompt exceeds max length",
        "Range of input length should be [1, 30720]",
        "invalid params, context window exceeds limit",
        "the request exceeds the available context size. try increasing the context size or enable context shift",
        "The number of tokens to keep from the initial prompt is greater than the context length.",
        "`inputs` tokens + `max_new_tokens` must be <= 8193. Given: 9000 `inputs` tokens",
        "prompt token count of 137123 exceeds the limit of 128000",
        "Input is too long for requested model.",
        "prompt too long; exceeded max context length by 10 tokens",
    ];
    for words in words {
        let body = json!({"error": {"message": words, "type": "invalid_request_error"}}).to_string();
        assert_eq!(http(400, &[], &body).kind, ErrorKind::ContextLength, "{words}");
        let event = json!({"error": {"message": words, "code": 400}});
        assert_eq!(ProviderError::in_json(&event).unwrap().kind, ErrorKind::ContextLength, "{words}");
    }
    let groq = r#"{"error": {"message": "Request too large for model `m` on tokens per minute (TPM): Limit 6000, Requested 12000, please reduce your message size and try again.", "type": "tokens", "code": "rate_limit_exceeded"}}"#;
    assert_eq!(http(413, &[], groq).kind, ErrorKind::ContextLength);
    assert_eq!(http(429, &[], groq).kind, ErrorKind::ContextLength);
    assert_eq!(
        http(413, &[], "<html><title>413 Request Entity Too Large</title></html>").kind,
        ErrorKind::ContextLength
    );
}

#[test]
fn names_that_other_providers_have() {
    use ErrorKind as K;
    let table = [
        (429, json!({"error": {"type": "engine_overloaded_error", "message": "m"}}), K::Overloaded),
        (429, json!({"error": {"type": "exceeded_current_quota_error", "message": "m"}}), K::QuotaUsedUp),
        (403, json!({"error": {"code": "insufficient_user_quota", "message": "m"}}), K::QuotaUsedUp),
        (400, json!({"code": "Arrearage", "message": "m"}), K::QuotaUsedUp),
        (429, json!({"code": "Throttling.RateQuota", "message": "m"}), K::RateLimited),
        (400, json!({"code": "DataInspectionFailed", "message": "m"}), K::Filtered),
        (401, json!({"code": "InvalidApiKey", "message": "m"}), K::Authentication),
        (429, json!({"error": {"code": "1113", "message": "m"}}), K::QuotaUsedUp),
        (429, json!({"error": {"code": "1302", "message": "m"}}), K::RateLimited),
        (498, json!({"error": {"code": "capacity_exceeded", "message": "m"}}), K::Overloaded),
        (
            400,
            json!({"error": {"message": "litellm.RateLimitError: slow", "type": "RateLimitError", "code": "429"}}),
            K::RateLimited,
        ),
        (
            400,
            json!({"error": {"message": "m", "type": "invalid_request_error", "code": "content_filter", "innererror": {}}}),
            K::Filtered,
        ),
        (524, json!({"error": "a timeout occurred"}), K::Server),
        (
            400,
            json!({"error": {"message": "You have reached your specified API usage limits.", "type": "invalid_request_error"}}),
            K::QuotaUsedUp,
        ),
        (
            400,
            json!({"error": {"message": json!({"error": {"code": 503, "status": "UNAVAILABLE", "message": "busy"}}).to_string()}}),
            K::Overloaded,
        ),
        (400, json!({"error": "Unauthorized", "statusCode": 401}), K::Authentication),
    ];
    for (status, body, kind) in table {
        let error = http(status, &[], &body.to_string());
        assert_eq!(error.kind, kind, "{status} {body}: {error}");
    }
    let deep = (0..8).fold("gone".to_owned(), |inner, _| json!({"error": {"message": inner}}).to_string());
    assert!(http(500, &[], &deep).words.len() <= WORDS * 4, "only one level is read");
}
