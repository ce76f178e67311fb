//! What an error means, by its names, its status and its words.

use super::ErrorKind;
use super::body::Said;

/// Names of errors, in lower case, and what they mean. What tells most comes first.
const NAMES: &[(ErrorKind, &[&str])] = &[
    (
        ErrorKind::ContextLength,
        &[
            "context_length_exceeded",
            "context_window_exceeded",
            "contextwindowexceedederror",
            "exceed_context_size_error",
            "model_max_prompt_tokens_exceeded",
            "request_too_large",
            "string_above_max_length",
            "tokens_limit_reached",
        ],
    ),
    (
        ErrorKind::QuotaUsedUp,
        &[
            "insufficient_quota",
            "billing_error",
            "billing_not_active",
            "billing_hard_limit_reached",
            "insufficient_credits",
            "insufficient_balance",
            "credit_balance_too_low",
            "insufficient_user_quota",
            "exceeded_current_quota_error",
            "payment_required",
            "arrearage",
            "402",
            // Z.AI, MiniMax.
            "1113",
            "1008",
        ],
    ),
    (
        ErrorKind::Overloaded,
        &[
            "overloaded_error",
            "overloaded",
            "server_overloaded",
            "model_overloaded",
            "engine_overloaded_error",
            "unavailable",
            "service_unavailable",
            "serviceunavailableexception",
            "modelnotreadyexception",
            "serviceunavailable",
            "serviceunavailableerror",
            "engine_overloaded",
            "capacity_exceeded",
            "503",
            "529",
            // Groq.
            "498",
        ],
    ),
    (
        ErrorKind::RateLimited,
        &[
            "rate_limit_error",
            "rate_limit_exceeded",
            "rate_limited",
            "too_many_requests",
            "resource_exhausted",
            "throttlingexception",
            "throttling",
            "servicequotaexceededexception",
            "tokens",
            "requests",
            "ratelimiterror",
            "rate_limit",
            "rate_limit_reached_error",
            "too_many_requests_error",
            "toomanyrequestsexception",
            "throttling.ratequota",
            "throttling.burstrate",
            "throttling.allocationquota",
            "429",
            // Z.AI, MiniMax.
            "1302",
            "1305",
            "1002",
        ],
    ),
    (
        ErrorKind::Authentication,
        &[
            "invalid_api_key",
            "authentication_error",
            "permission_error",
            "permission_denied",
            "unauthenticated",
            "unauthorized",
            "accessdeniedexception",
            "unrecognizedclientexception",
            "expiredtokenexception",
            "invalidsignatureexception",
            "incompletesignature",
            "missingauthenticationtoken",
            "missingauthenticationtokenexception",
            "authenticationerror",
            "permissiondeniederror",
            "invalid_authentication_error",
            "invalidapikey",
            "wrong_api_key",
            "api_key_invalid",
            "account_deactivated",
            "401",
            "403",
            // MiniMax.
            "1004",
        ],
    ),
    (
        ErrorKind::NotFound,
        &[
            "model_not_found",
            "not_found_error",
            "not_found",
            "resourcenotfoundexception",
            "deploymentnotfound",
            "notfounderror",
            "model_not_supported",
            "unknown_model",
            "404",
        ],
    ),
    (
        ErrorKind::Filtered,
        &[
            "content_filter",
            "content_policy_violation",
            "responsibleaipolicyviolation",
            "data_inspection_failed",
            "datainspectionfailed",
            "contentpolicyviolationerror",
            "moderation_blocked",
            "1301",
            "image_content_policy_violation",
        ],
    ),
    (
        ErrorKind::Server,
        &[
            "server_error",
            "api_error",
            "internal_error",
            "internal_server_error",
            "internal",
            "timeout_error",
            "deadline_exceeded",
            "cancelled",
            "aborted",
            "internalserverexception",
            "modelstreamerrorexception",
            "modelerrorexception",
            "modeltimeoutexception",
            "internalfailure",
            "vector_store_timeout",
            "internalservererror",
            "apiconnectionerror",
            "apitimeouterror",
            "timeout",
            "bad_gateway",
            "gateway_timeout",
            "upstream_error",
            "provider_unavailable",
            "520",
            "522",
            "524",
            "408",
            "409",
            "499",
            "500",
            "502",
            "504",
        ],
    ),
    (
        ErrorKind::InvalidRequest,
        &[
            "invalid_request_error",
            "invalid_argument",
            "badrequesterror",
            "invalid_prompt",
            "failed_precondition",
            "validationexception",
            "invalid_image",
            "invalid_image_format",
            "invalid_image_url",
            "invalid_image_mode",
            "invalid_base64_image",
            "image_too_large",
            "image_too_small",
            "image_parse_error",
            "image_file_too_large",
            "image_file_not_found",
            "unsupported_image_media_type",
            "empty_image_file",
            "failed_to_download_image",
            "invalid_encrypted_content",
            "bad_request",
            "bad_request_error",
            "invalidparameter",
            "400",
            "413",
            "422",
        ],
    ),
];

/// Words by which providers say that the conversation is too long.
const TOO_LONG: &[&str] = &[
    "context length",
    "context window",
    "context size",
    "context limit",
    "maximum context",
    "max context",
    "prompt is too long",
    "prompt too long",
    "input is too long for requested model",
    "maximum allowed input length",
    "maximum prompt length",
    "maximum model length",
    "model token limit",
    "exceeds max length",
    "range of input length",
    "prompt token count",
    "max_new_tokens",
    "initial prompt is greater",
    "request entity too large",
    "input token count",
    "too many input tokens",
    "input tokens exceeded",
    "reduce the length of the",
];

/// Words by which they say that there is nothing left to pay with.
const UNPAID: &[&str] = &[
    "insufficient credits",
    "insufficient balance",
    "credit balance is too low",
    "insufficient funds",
    "specified api usage limits",
    "spending limit",
    "insufficient_quota",
];
/// Words by which they say that one request alone is more than the tokens of a minute: it would be refused again.
const MORE_THAN_A_MINUTE: &[&str] = &["request too large", "reduce your message size"];

/// What an error means. The names decide, then the status, and the words only where both leave room.
pub(super) fn kind(status: Option<u16>, said: &Said) -> ErrorKind {
    // AWS puts the name of the interface before that of the error.
    let own = |name: &String| name.rsplit('#').next().unwrap_or_default().to_ascii_lowercase();
    let names: Vec<String> = said.names.iter().map(own).collect();
    let words: String = said.words.chars().take(4000).collect::<String>().to_ascii_lowercase();
    let says = |phrases: &[&str]| phrases.iter().any(|phrase| words.contains(phrase));
    let named = NAMES.iter().find(|(_, known)| names.iter().any(|name| known.contains(&name.as_str())));
    let named = named.map(|&(kind, _)| kind);
    let kind = named_or_by_status(named, status);
    match kind {
        Some(ErrorKind::RateLimited) if names.iter().any(|name| name.contains("perday")) => {
            ErrorKind::QuotaUsedUp
        }
        Some(ErrorKind::RateLimited | ErrorKind::InvalidRequest | ErrorKind::Authentication)
            if says(UNPAID) =>
        {
            ErrorKind::QuotaUsedUp
        }
        Some(ErrorKind::RateLimited) if says(MORE_THAN_A_MINUTE) => ErrorKind::ContextLength,
        Some(ErrorKind::InvalidRequest) if says(&["api key not valid", "invalid api key"]) => {
            ErrorKind::Authentication
        }
        Some(ErrorKind::InvalidRequest | ErrorKind::Server | ErrorKind::Overloaded) | None
            if says(TOO_LONG) && !says(&["rate limit", "throttl"]) =>
        {
            ErrorKind::ContextLength
        }
        Some(kind) => kind,
        None if says(&["rate limit", "too many requests"]) => ErrorKind::RateLimited,
        None if says(&["overloaded"]) => ErrorKind::Overloaded,
        None => ErrorKind::Server,
    }
}

/// A name tells more than a status, except that `server_error` and `invalid_request_error` are what everything is called.
fn named_or_by_status(named: Option<ErrorKind>, status: Option<u16>) -> Option<ErrorKind> {
    let by_status = status.map(of_status);
    match named {
        None | Some(ErrorKind::Server | ErrorKind::InvalidRequest) => by_status.or(named),
        Some(kind) => Some(kind),
    }
}

fn of_status(status: u16) -> ErrorKind {
    match status {
        // Bedrock: the model failed.
        424 => ErrorKind::Server,
        401 | 403 => ErrorKind::Authentication,
        402 => ErrorKind::QuotaUsedUp,
        404 => ErrorKind::NotFound,
        // The body is longer than a gateway takes: a shorter conversation may pass.
        413 => ErrorKind::ContextLength,
        408 | 409 | 425 | 499 => ErrorKind::Server,
        429 => ErrorKind::RateLimited,
        503 | 529 => ErrorKind::Overloaded,
        500.. => ErrorKind::Server,
        _ => ErrorKind::InvalidRequest,
    }
}
