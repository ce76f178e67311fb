//! What a reply's end means for the turn. Pure.

use legwork_common::team::ModelSettings;

use super::ModelError;
use super::ModelReply;
use super::ReplyEnd;

/// The reply where the turn can continue with it: it is finished, wants tools, or is paused and continues when it is sent
/// back. Every other end is an error, so that no incomplete reply is taken for an answer.
pub(crate) fn usable(settings: &ModelSettings, reply: ModelReply) -> Result<ModelReply, ModelError> {
    let (model, detail) = (settings.reference(), reply.end.to_string());
    match reply.end {
        ReplyEnd::Finished | ReplyEnd::WantsTools | ReplyEnd::Paused => Ok(reply),
        ReplyEnd::BrokenOff(detail) => Err(ModelError::Transient { model, detail }),
        ReplyEnd::WindowFull => Err(ModelError::WindowFull { model, detail }),
        ReplyEnd::Empty { .. } => Err(ModelError::Empty { model, detail }),
        ReplyEnd::CutAtOutputLimit => {
            let detail = format!("{detail} (max_tokens)");
            Err(ModelError::Unusable { model, detail })
        }
        ReplyEnd::Refused(_) | ReplyEnd::Filtered(_) => Err(ModelError::Unusable { model, detail }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::AssistantMessage;

    #[test]
    fn only_whole_replies_are_usable() {
        let settings = ModelSettings::inline("openai", "m").unwrap();
        let table = [
            (ReplyEnd::Finished, "usable"),
            (ReplyEnd::WantsTools, "usable"),
            (ReplyEnd::Paused, "usable"),
            (
                ReplyEnd::CutAtOutputLimit,
                "openai/m: the reply was cut at the most output tokens (max_tokens)",
            ),
            (ReplyEnd::Refused("I will not.".into()), "openai/m: the model refused: I will not."),
            (ReplyEnd::Filtered(String::new()), "openai/m: the provider filtered the reply"),
            (ReplyEnd::WindowFull, "the conversation is too long for openai/m: the context window is full"),
            (ReplyEnd::Empty { reasoned: false }, "openai/m: the reply is empty"),
            (ReplyEnd::Empty { reasoned: true }, "openai/m: the reply has reasoning and no answer"),
            (ReplyEnd::BrokenOff("reset".into()), "openai/m did not answer: reset"),
        ];
        for (end, expected) in table {
            let reply = ModelReply { message: AssistantMessage::default(), end };
            let verdict = usable(&settings, reply);
            assert_eq!(verdict.map_or_else(|error| error.to_string(), |_| "usable".into()), expected);
        }
    }
}
