//! Requests signed as AWS wants them, where there is no bearer token. Pure: the time is given.

use aws_credential_types::Credentials;
use aws_sigv4::http_request::SignableBody;
use aws_sigv4::http_request::SignableRequest;
use aws_sigv4::http_request::SigningSettings;
use aws_sigv4::http_request::sign;
use aws_sigv4::sign::v4::SigningParams;
use jiff::Timestamp;
use reqwest::Request;
use reqwest::header::CONTENT_TYPE;
use reqwest::header::HeaderName;
use reqwest::header::HeaderValue;

use crate::environment::Environment;

/// The variable of the id of an access key.
pub(super) const KEY_ID: &str = "AWS_ACCESS_KEY_ID";
/// The variable of the secret that belongs to it.
pub(super) const SECRET: &str = "AWS_SECRET_ACCESS_KEY";
/// The variable of the token that temporary keys have.
const SESSION: &str = "AWS_SESSION_TOKEN";
/// The name of the service, which is part of each signature.
const SERVICE: &str = "bedrock";
/// Who gave the key, for the library's own messages.
const SOURCE: &str = "environment";

/// An access key, and the region that its signatures are for. Its debug form has no secret.
#[derive(Debug, Clone)]
pub(super) struct Signer {
    credentials: Credentials,
    region: String,
}

impl Signer {
    /// With the access key of the environment; none where one of its two variables is not set.
    pub(super) fn new(environment: &Environment, region: &str) -> Option<Self> {
        let (id, secret) = (environment.variable(KEY_ID)?, environment.variable(SECRET)?);
        let session = environment.variable(SESSION).map(str::to_owned);
        let credentials = Credentials::new(id, secret, session, None, SOURCE);
        Some(Self { credentials, region: region.to_owned() })
    }

    /// The id of the key, which is not a secret.
    pub(super) fn key_id(&self) -> &str {
        self.credentials.access_key_id()
    }

    /// Adds the signature to a request that is otherwise complete: no part of it may change afterwards.
    ///
    /// # Errors
    ///
    /// Why it cannot be signed, without a secret.
    pub(super) fn sign(&self, request: &mut Request, now: Timestamp) -> Result<(), String> {
        let identity = self.credentials.clone().into();
        let parameters = SigningParams::builder()
            .identity(&identity)
            .region(&self.region)
            .name(SERVICE)
            .time(now.into())
            .settings(SigningSettings::default())
            .build()
            .map_err(|error| error.to_string())?
            .into();
        let kind = request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let headers = kind.map(|kind| (CONTENT_TYPE.as_str(), kind)).into_iter();
        let body = request.body().and_then(|body| body.as_bytes()).unwrap_or_default();
        let method = request.method().as_str();
        let signable =
            SignableRequest::new(method, request.url().as_str(), headers, SignableBody::Bytes(body))
                .map_err(|error| error.to_string())?;
        let (instructions, _) = sign(signable, &parameters).map_err(|error| error.to_string())?.into_parts();
        for (name, value) in instructions.headers() {
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(|error| error.to_string())?;
            let mut value = HeaderValue::from_str(value).map_err(|error| error.to_string())?;
            value.set_sensitive(true);
            request.headers_mut().insert(name, value);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use reqwest::Client;

    use super::*;

    fn signer(variables: &[(&str, &str)]) -> Option<Signer> {
        let variables: BTreeMap<String, String> =
            variables.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
        Signer::new(&Environment::new(variables, "/".into()), "eu-west-1")
    }

    /// The headers that signing adds to one request.
    fn signed(signer: &Signer, body: &'static str) -> Vec<(String, String)> {
        rustls::crypto::ring::default_provider().install_default().ok();
        let url = "https://bedrock-runtime.eu-west-1.amazonaws.com/model/a.claude%3A0/converse-stream";
        let request = Client::new().post(url).header(CONTENT_TYPE, "application/json").body(body);
        let mut request = request.build().unwrap();
        signer.sign(&mut request, "2026-01-02T03:04:05Z".parse().unwrap()).unwrap();
        request.headers_mut().remove(CONTENT_TYPE);
        let header = |(name, value): (&HeaderName, &HeaderValue)| {
            (name.to_string(), value.to_str().unwrap().to_owned())
        };
        request.headers().iter().map(header).collect()
    }

    #[test]
    fn a_request_is_signed_with_its_body_path_and_time() {
        let keys = [(KEY_ID, "AKIDEXAMPLE"), (SECRET, "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")];
        let signer = signer(&[keys[0], keys[1], (SESSION, "temporary")]).unwrap();
        let headers = signed(&signer, "{}");
        let value = |name: &str| &headers.iter().find(|(own, _)| own == name).unwrap().1;
        assert_eq!(value("x-amz-date"), "20260102T030405Z");
        assert_eq!(value("x-amz-security-token"), "temporary");
        // Made with an independent implementation of the published algorithm.
        assert_eq!(value("authorization"), EXPECTED);
        assert_ne!(signed(&signer, "{ }"), headers);
        assert!(!format!("{signer:?}").contains("wJalr"), "{signer:?}");
    }

    #[test]
    fn a_key_has_two_parts() {
        assert!(signer(&[(KEY_ID, "id"), (SECRET, "s")]).is_some());
        assert!(signer(&[(KEY_ID, "id")]).is_none());
        assert!(signer(&[(SECRET, "s")]).is_none());
    }

    /// What the published algorithm gives.
    const EXPECTED: &str = "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20260102/eu-west-1/bedrock/aws4_request, SignedHeaders=content-type;host;x-amz-date;x-amz-security-token, \
         Signature=47d0cb92e4b83597db3fb8087b3a782abe7feecba23e6fcc6d7bd9a4b0ea39d5";
}
