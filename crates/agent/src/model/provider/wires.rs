//! The wires of `legwork-models`, chosen at run time.

use legwork_models::anthropic::Anthropic;
use legwork_models::bedrock_converse::BedrockConverse;
use legwork_models::gemini::Gemini;
use legwork_models::openai_chat::OpenaiChat;
use legwork_models::openai_responses::OpenaiResponses;
use legwork_models::reader::ReadReply;
use legwork_models::reader::Reader;
use legwork_models::reply::Limits;
use legwork_models::settings::Settings;
use legwork_models::wire::Ask;
use legwork_models::wire::RequestError;
use legwork_models::wire::Wire;
use legwork_models::wire::WireRequest;
use legwork_models::wire::build_request;

/// A wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WireKind {
    OpenaiChat,
    OpenaiResponses,
    Anthropic,
    Gemini,
    BedrockConverse,
}

/// What is sent, and the reader of what comes back.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) request: WireRequest,
    pub(super) reader: Box<dyn ReadReply>,
}

impl WireKind {
    /// Builds the request and the reader of its reply. `id_prefix` begins the ids of calls that come without one.
    pub(super) fn prepare(
        self,
        settings: &Settings,
        ask: &Ask<'_>,
        id_prefix: &str,
    ) -> Result<Prepared, RequestError> {
        match self {
            Self::OpenaiChat => prepare::<OpenaiChat>(settings, ask, id_prefix),
            Self::OpenaiResponses => prepare::<OpenaiResponses>(settings, ask, id_prefix),
            Self::Anthropic => prepare::<Anthropic>(settings, ask, id_prefix),
            Self::Gemini => prepare::<Gemini>(settings, ask, id_prefix),
            Self::BedrockConverse => prepare::<BedrockConverse>(settings, ask, id_prefix),
        }
    }
}

fn prepare<W: Wire + Send + 'static>(
    settings: &Settings,
    ask: &Ask<'_>,
    id_prefix: &str,
) -> Result<Prepared, RequestError> {
    let (request, names) = build_request::<W>(settings, ask)?;
    let reader = Reader::<W>::new(settings, Limits::default(), id_prefix).with_names(names);
    Ok(Prepared { request, reader: Box::new(reader) })
}
