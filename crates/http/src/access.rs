//! Who may do what: bearer tokens (RFC 6750) with roles, or nothing but this machine where there are none.

use std::fmt;

use axum::extract::Request;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::StatusCode;
use axum::http::header::AUTHORIZATION;
use axum::http::header::HOST;
use axum::http::header::ORIGIN;
use axum::middleware::Next;
use axum::response::IntoResponse as _;
use axum::response::Response;
use legwork_common::error::Coded;
use legwork_common::error::ExitStatus;
use sha2::Digest as _;
use sha2::Sha256;
use thiserror::Error;

use crate::problem::Problem;

/// The shortest token that may be set: 16 random characters cannot be guessed over a network.
pub const MIN_TOKEN: usize = 16;

/// What a token allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Reads jobs, output, workers and numbers.
    Viewer,
    /// Dispatches, retries and sends messages, and reads.
    Dispatcher,
    /// Stops, retries, sends, pauses, drains and answers, and reads.
    Operator,
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 3] = [Self::Viewer, Self::Dispatcher, Self::Operator];

    /// Its name in a file of tokens.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Dispatcher => "dispatcher",
            Self::Operator => "operator",
        }
    }

    fn bit(self) -> u8 {
        match self {
            // What both of the others include.
            Self::Viewer => 0,
            Self::Dispatcher => 1,
            Self::Operator => 2,
        }
    }
}

/// Some roles.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Roles(u8);

impl Roles {
    /// All roles.
    pub const ALL: Self = Self(3);

    /// Whether these allow what any of the named roles allows. Every token reads.
    pub fn allow(self, any_of: &[Role]) -> bool {
        any_of.iter().any(|role| *role == Role::Viewer || self.0 & role.bit() != 0)
    }
}

/// A bearer token, stored as its SHA-256: comparing hashes leaks nothing about the token through timing.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Token([u8; 32]);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token")
    }
}

impl Token {
    /// The token in `text`, trimmed; `None` when that is empty.
    pub fn new(text: &str) -> Option<Self> {
        let text = text.trim();
        (!text.is_empty()).then(|| Self(Sha256::digest(text).into()))
    }

    /// The token that an operator sets. `None` when it is shorter than [`MIN_TOKEN`].
    pub fn configured(text: &str) -> Option<Self> {
        if text.trim().len() < MIN_TOKEN { None } else { Self::new(text) }
    }

    /// The token that an `Authorization` header carries. The scheme is case-insensitive (RFC 9110, section 11.1).
    pub fn of_header(header: Option<&str>) -> Option<Self> {
        let (scheme, token) = header?.split_once(' ')?;
        if scheme.eq_ignore_ascii_case("bearer") { Self::new(token) } else { None }
    }
}

/// Why a file of tokens cannot be used. The token itself is in no message.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("line {line} of the tokens: {detail}")]
pub struct TokensError {
    /// The line, counted from 1.
    pub line: usize,
    /// What is wrong with it.
    pub detail: String,
}

impl Coded for TokensError {
    fn code(&self) -> &'static str {
        "usage"
    }

    fn exit(&self) -> ExitStatus {
        ExitStatus::Usage
    }

    fn hint(&self) -> Option<String> {
        Some(
            "a line has a name, roles (viewer, dispatcher, operator) and a token: `ci dispatcher TOKEN`"
                .to_owned(),
        )
    }
}

/// One line of a file of tokens.
#[derive(Debug, Clone)]
struct Entry {
    name: String,
    roles: Roles,
    token: Token,
}

/// Who is admitted.
#[derive(Debug, Clone)]
pub enum Access {
    /// Every program that can connect to a loopback address, with all roles; no page of another site.
    ThisMachine,
    /// Every caller with one of these tokens.
    Tokens(Tokens),
}

/// Tokens with their names and roles.
#[derive(Debug, Clone, Default)]
pub struct Tokens(Vec<Entry>);

/// The caller of a request, for the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallerName(pub String);

impl Tokens {
    /// One token with all roles.
    pub fn all_roles(token: Token) -> Self {
        Self(vec![Entry { name: "token".to_owned(), roles: Roles::ALL, token }])
    }

    /// Reads a file: a line has a name, roles separated by commas, and a token. Empty lines and those that begin with `#`
    /// are left out.
    ///
    /// # Errors
    ///
    /// [`TokensError`] for the first line that is wrong, and for a file without a token.
    pub fn read(text: &str) -> Result<Self, TokensError> {
        let mut entries = Vec::new();
        for (line, text) in (1..).zip(text.lines()) {
            let text = text.trim();
            if !text.is_empty() && !text.starts_with('#') {
                entries.push(entry(text).map_err(|detail| TokensError { line, detail })?);
            }
        }
        if entries.is_empty() {
            return Err(TokensError { line: 1, detail: "there is no token".to_owned() });
        }
        Ok(Self(entries))
    }
}

fn entry(line: &str) -> Result<Entry, String> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let [name, roles, token] = words[..] else {
        return Err(format!("{} words instead of three", words.len()));
    };
    let mut bits = 0;
    for word in roles.split(',') {
        let role = Role::ALL.into_iter().find(|role| role.as_str() == word);
        bits |= role.ok_or_else(|| format!("`{word}` is not a role"))?.bit();
    }
    let token = Token::configured(token)
        .ok_or_else(|| format!("the token of `{name}` has less than {MIN_TOKEN} characters"))?;
    Ok(Entry { name: name.to_owned(), roles: Roles(bits), token })
}

impl Access {
    /// Admits a request that needs one of these roles, or says why not. A missing token and a wrong one get the same
    /// answer.
    ///
    /// # Errors
    ///
    /// [`Problem`] with status 401 or 403.
    pub fn admit(&self, headers: &HeaderMap, any_of: &[Role]) -> Result<CallerName, Problem> {
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
        match self {
            Self::ThisMachine => {
                let host = text(HOST);
                // Its own pages only: a page of another server on this machine can post what has no body.
                let is_foreign = !host.is_some_and(is_local)
                    || text(ORIGIN).is_some_and(|origin| origin.strip_prefix("http://") != host);
                if is_foreign {
                    return Err(Problem::new(
                        StatusCode::FORBIDDEN,
                        "forbidden",
                        "without tokens this server answers requests to this machine's own names, from its own pages only",
                    ));
                }
                Ok(CallerName("this machine".to_owned()))
            }
            Self::Tokens(Tokens(entries)) => {
                let given = Token::of_header(text(AUTHORIZATION));
                let entry = given.and_then(|given| entries.iter().find(|entry| entry.token == given));
                let Some(entry) = entry else { return Err(Problem::unauthorized()) };
                if !entry.roles.allow(any_of) {
                    let roles: Vec<&str> = any_of.iter().map(|role| role.as_str()).collect();
                    let detail = format!("this token has not the role {}", roles.join(" or "));
                    return Err(Problem::new(StatusCode::FORBIDDEN, "forbidden", detail));
                }
                Ok(CallerName(entry.name.clone()))
            }
        }
    }
}

/// Whether a `Host` is a name of this machine, on any port: a page of another site that is resolved to this machine
/// sends its own name.
fn is_local(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.chars().all(|digit| digit.is_ascii_digit()) => name,
        _ => host,
    };
    matches!(name, "localhost" | "127.0.0.1" | "[::1]")
}

/// What guards one route.
#[derive(Debug, Clone)]
pub struct Gate {
    /// Who is admitted to the server.
    pub access: Access,
    /// The roles of which one is needed.
    pub any_of: &'static [Role],
}

/// Refuses a request that the gate does not admit; adds the caller's name to others.
pub async fn gate(State(gate): State<Gate>, mut request: Request, next: Next) -> Response {
    match gate.access.admit(request.headers(), gate.any_of) {
        Ok(caller) => {
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Err(problem) => problem.into_response(),
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderName;
    use axum::http::HeaderValue;

    use super::*;

    const FILE: &str = "# who\nci dispatcher 0123456789abcdef\n\nboss operator,viewer fedcba9876543210\nwall viewer \
                        aaaaaaaaaaaaaaaa\n";

    fn headers(pairs: &[(HeaderName, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.clone(), HeaderValue::from_str(value).unwrap())).collect()
    }

    #[test]
    fn a_token_that_can_be_guessed_is_not_configured() {
        assert_eq!(Token::configured("fifteen-letters"), None);
        assert_eq!(Token::configured("  \n"), None);
        assert_eq!(Token::configured(" sixteen--letters\n"), Token::new("sixteen--letters"));
    }

    #[test]
    fn each_role_allows_its_own_and_reading() {
        let access = Access::Tokens(Tokens::read(FILE).unwrap());
        let status = |token: &str, any_of: &[Role]| {
            let headers = headers(&[(AUTHORIZATION, &format!("Bearer {token}"))]);
            access.admit(&headers, any_of).map(|caller| caller.0).map_err(|problem| problem.status.as_u16())
        };
        for (token, any_of, expected) in [
            ("0123456789abcdef", &[Role::Viewer][..], Ok("ci")),
            ("0123456789abcdef", &[Role::Dispatcher], Ok("ci")),
            ("0123456789abcdef", &[Role::Operator], Err(403)),
            ("0123456789abcdef", &[Role::Operator, Role::Dispatcher], Ok("ci")),
            ("fedcba9876543210", &[Role::Operator], Ok("boss")),
            ("fedcba9876543210", &[Role::Dispatcher], Err(403)),
            ("aaaaaaaaaaaaaaaa", &[Role::Viewer], Ok("wall")),
            ("aaaaaaaaaaaaaaaa", &[Role::Operator], Err(403)),
            ("0123456789abcdeg", &[Role::Viewer], Err(401)),
        ] {
            assert_eq!(status(token, any_of), expected.map(str::to_owned), "{token} {any_of:?}");
        }
    }

    #[test]
    fn a_missing_and_a_wrong_token_get_the_same_answer() {
        let access = Access::Tokens(Tokens::read(FILE).unwrap());
        let missing = access.admit(&HeaderMap::new(), &[Role::Viewer]).unwrap_err();
        for wrong in ["Bearer", "Bearer x", "Basic 0123456789abcdef", "0123456789abcdef"] {
            let refused = access.admit(&headers(&[(AUTHORIZATION, wrong)]), &[Role::Viewer]).unwrap_err();
            assert_eq!(refused, missing, "{wrong}");
        }
    }

    #[test]
    fn a_token_is_trimmed_and_matches_only_itself() {
        assert_eq!(Token::new(" secret\n"), Token::new("secret"));
        assert_eq!(Token::new(" \n"), None);
        let token = Token::new("secret");
        for right in ["Bearer secret", "bearer  secret"] {
            assert_eq!(Token::of_header(Some(right)), token, "{right}");
        }
        for wrong in [None, Some("Bearer"), Some("Bearer other"), Some("Basic secret"), Some("secret")] {
            assert_ne!(Token::of_header(wrong), token, "{wrong:?}");
        }
    }

    #[test]
    fn without_tokens_only_this_machines_names_are_answered() {
        let admitted = |pairs| Access::ThisMachine.admit(&headers(pairs), &[Role::Operator]).is_ok();
        assert!(admitted(&[(HOST, "127.0.0.1:7878")]));
        assert!(admitted(&[(HOST, "localhost"), (ORIGIN, "http://localhost")]));
        assert!(admitted(&[(HOST, "localhost:7878"), (ORIGIN, "http://localhost:7878")]));
        assert!(!admitted(&[(HOST, "localhost:7878"), (ORIGIN, "http://localhost:3000")]));
        assert!(!admitted(&[(HOST, "localhost:7878"), (ORIGIN, "http://127.0.0.1:7878")]));
        assert!(admitted(&[(HOST, "[::1]:7878")]));
        assert!(!admitted(&[]));
        assert!(!admitted(&[(HOST, "evil.example:7878")]));
        assert!(!admitted(&[(HOST, "127.0.0.1"), (ORIGIN, "https://evil.example")]));
        assert!(!admitted(&[(HOST, "localhost"), (ORIGIN, "null")]));
        assert!(!admitted(&[(HOST, "localhost.evil.example")]));
    }

    #[test]
    fn wrong_lines_are_named_without_the_token() {
        for (file, expected) in [
            ("", "line 1 of the tokens: there is no token"),
            ("ci 0123456789abcdef", "line 1 of the tokens: 2 words instead of three"),
            ("#\nci admin 0123456789abcdef", "line 2 of the tokens: `admin` is not a role"),
            ("ci viewer short", "line 1 of the tokens: the token of `ci` has less than 16 characters"),
        ] {
            assert_eq!(Tokens::read(file).unwrap_err().to_string(), expected);
        }
        assert!(!format!("{:?}", Tokens::read(FILE)).contains("0123456789abcdef"));
    }
}
