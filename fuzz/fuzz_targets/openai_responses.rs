//! The reader of Responses.

#![no_main]

use legwork_models::openai_responses::OpenaiResponses;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| legwork_fuzz::hold::<OpenaiResponses>(data));
