//! The reader of Anthropic's Messages.

#![no_main]

use legwork_models::anthropic::Anthropic;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| legwork_fuzz::hold::<Anthropic>(data));
