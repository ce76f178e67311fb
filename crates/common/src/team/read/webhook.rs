//! Reads the settings of the toolset `webhook`.

use crate::team::fields::Fields;
use crate::team::keys;
use crate::team::names::quoted_list;
use crate::team::reader::Reader;
use crate::team::toolset::Webhook;
use crate::team::toolset::WebhookForm;

/// The services, in docker-agent's order.
const SERVICES: [&str; 9] =
    ["slack", "discord", "ifttt", "telegram", "mattermost", "rocketchat", "googlechat", "teams", "generic"];

/// Reads `webhook_config`; `None` where an error was recorded.
pub(super) fn read_webhook(reader: &mut Reader<'_>, fields: &Fields<'_>) -> Option<Webhook> {
    let no_url = "webhook tool requires a url in webhook_config";
    let Some(node) = fields.node("webhook_config") else {
        reader.error(fields.at, no_url, None);
        return None;
    };
    let config = reader.fields(node, &keys::WEBHOOK)?;
    let (url, chat) = (config.string(reader, "url"), config.string(reader, "chat_id"));
    let headers = config.string_map(reader, "headers");
    let written = config.string(reader, "provider").unwrap_or_default();
    let at = config.node("provider").map_or(config.at, |node| node.at);
    let service = service(&written);
    let Some(service) = SERVICES.iter().find(|known| **known == service) else {
        let hint = format!("supported: {}", quoted_list(SERVICES.into_iter()));
        reader.error(at, format!("webhook tool: unknown provider `{}`", service), Some(hint));
        return None;
    };
    let is_filled = |text: &String| !text.trim().is_empty();
    let form = match (*service, chat.filter(is_filled)) {
        ("telegram", None) => {
            reader.error(at, "webhook tool: provider telegram requires chat_id in webhook_config", None);
            return None;
        }
        ("telegram", Some(chat)) => WebhookForm::Chat(chat),
        ("discord", _) => WebhookForm::Content,
        ("ifttt", _) => WebhookForm::Values,
        _ => WebhookForm::Text,
    };
    if !config.has("url") || url.as_ref().is_some_and(|url| !is_filled(url)) {
        reader.error(config.at, no_url, None);
        return None;
    }
    let url = url?;
    Some(Webhook { service: (*service).to_owned(), form, url, headers })
}

/// The name of a service as docker-agent understands it.
fn service(written: &str) -> String {
    let name = written.trim().to_lowercase();
    match name.as_str() {
        "" => "generic".to_owned(),
        "google_chat" | "gchat" => "googlechat".to_owned(),
        "msteams" | "microsoftteams" | "microsoft_teams" => "teams".to_owned(),
        "rocket.chat" | "rocket_chat" => "rocketchat".to_owned(),
        _ => name,
    }
}

#[cfg(test)]
mod tests {
    use crate::team::parse;
    use crate::team::toolset::ToolsetKind;
    use crate::team::toolset::Webhook;
    use crate::team::toolset::WebhookForm;

    fn read(config: &str) -> Result<Webhook, String> {
        let file = format!(
            "agents:\n  root:\n    model: auto\n    toolsets:\n    - {{type: webhook, webhook_config: {config}}}\n"
        );
        let parsed = parse("team.yaml", file.as_bytes())
            .map_err(|errors| errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))?;
        match &parsed.team.agent("root").unwrap().toolsets[0].kind {
            ToolsetKind::Webhook(webhook) => Ok(webhook.clone()),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_service_decides_the_form_of_its_messages() {
        for (provider, chat, service, form) in [
            ("''", "''", "generic", WebhookForm::Text),
            ("Slack", "''", "slack", WebhookForm::Text),
            ("msteams", "''", "teams", WebhookForm::Text),
            ("discord", "''", "discord", WebhookForm::Content),
            ("ifttt", "''", "ifttt", WebhookForm::Values),
            ("telegram", "'7'", "telegram", WebhookForm::Chat("7".to_owned())),
        ] {
            let config =
                format!("{{provider: {provider}, url: 'https://example.org/${{env.K}}', chat_id: {chat}}}");
            let webhook = read(&config).unwrap();
            assert_eq!((webhook.service.as_str(), webhook.form), (service, form), "{provider}");
            assert_eq!(webhook.url, "https://example.org/${env.K}");
        }
    }

    #[test]
    fn what_cannot_be_sent_is_an_error_where_the_file_is_read() {
        for (config, expected) in [
            ("{provider: pager, url: 'https://example.org'}", "unknown provider `pager`"),
            ("{provider: telegram, url: 'https://example.org'}", "telegram requires chat_id"),
            ("{provider: slack}", "requires a url"),
            ("{url: ' '}", "requires a url"),
        ] {
            let error = read(config).unwrap_err();
            assert!(error.contains(expected), "{config}: {error}");
        }
    }
}
