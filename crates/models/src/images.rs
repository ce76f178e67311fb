//! Which models read images, by their names.
//!
//! A provider refuses a request with an image to a model that reads none, and would refuse each later one, for the image
//! stays in the conversation. So an image is not sent to a model that is known to read none; a model that is not known gets
//! it.

/// What the name of a model without eyes has in it, blanks between its words and after it being `-`.
const TEXT_ONLY: &[&str] = &[
    "claude-2",
    "claude-instant",
    "codestral",
    "command-r",
    "deepseek",
    "glm-4-",
    "glm-4.5-",
    "glm-4.6-",
    "glm-4.7-",
    "gpt-3.5",
    "gpt-4-0",
    "gpt-4-32k",
    "gpt-oss",
    "granite",
    "grok-3",
    "grok-code",
    "jamba",
    "kimi-k2-",
    "llama-2",
    "llama-3",
    "llama2",
    "llama3",
    "minimax-m1",
    "minimax-m2",
    "mistral-7b",
    "mistral-large-24",
    "mistral-nemo",
    "mixtral",
    "nova-micro",
    "o1-mini",
    "o1-preview",
    "o3-mini",
    "phi-3-",
    "phi-4-",
    "phi3-",
    "phi4-",
    "qwen-2.5-",
    "qwen2-",
    "qwen2.5-",
    "qwen3-",
    "qwq",
    "smollm2",
    "titan-text",
];

/// What the name of a model of such a family has in it that reads images all the same.
const WITH_EYES: &[&str] = &[
    "vision",
    "vl-",
    "vl2",
    "llava",
    "minicpm",
    "omni",
    "multimodal",
    "ocr",
    "3-2-11b",
    "3-2-90b",
    "3.2-11b",
    "3.2-90b",
];

/// Whether a model of this name is sent images.
#[must_use]
pub fn reads_images(model: &str) -> bool {
    // A router names the vendor first.
    let own = model.rsplit('/').next().unwrap_or_default();
    let name = own.to_ascii_lowercase().replace([':', '_', ' '], "-") + "-";
    let has = |words: &[&str]| words.iter().any(|word| name.contains(word));
    name != "gpt-4-" && (has(WITH_EYES) || !has(TEXT_ONLY))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_models_that_are_known_to_read_none_get_none() {
        for model in [
            "claude-sonnet-4-5",
            "global.anthropic.claude-sonnet-4-5-20250929-v1:0",
            "gpt-4o",
            "gpt-4.1-mini",
            "gpt-4-turbo",
            "gpt-5-mini",
            "o3",
            "o4-mini",
            "gemini-2.5-flash",
            "amazon.nova-lite-v1:0",
            "us.meta.llama3-2-90b-instruct-v1:0",
            "llama3.2-vision:11b",
            "llama4:scout",
            "qwen2.5vl:7b",
            "Qwen/Qwen3-VL-8B-Instruct",
            "ai/gemma3",
            "mistral-small-latest",
            "glm-4.5v",
            "kimi-k2.5",
            "my-own",
            "",
        ] {
            assert!(reads_images(model), "{model}");
        }
        for model in [
            "gpt-4",
            "gpt-4-0613",
            "gpt-3.5-turbo",
            "o3-mini",
            "openai/gpt-oss-120b",
            "ai/qwen3",
            "ai/qwen3:latest",
            "qwen3-coder:30b",
            "deepseek-chat",
            "us.deepseek.r1-v1:0",
            "amazon.nova-micro-v1:0",
            "llama3.1:8b",
            "meta-llama/Llama-3.3-70B-Instruct",
            "moonshotai/kimi-k2-instruct",
            "glm-4.6",
        ] {
            assert!(!reads_images(model), "{model}");
        }
    }
}
