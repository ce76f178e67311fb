//! The reader of chat completions.

#![no_main]

use legwork_models::openai_chat::OpenaiChat;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| legwork_fuzz::hold::<OpenaiChat>(data));
