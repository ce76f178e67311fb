//! The reader of Gemini.

#![no_main]

use legwork_models::gemini::Gemini;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| legwork_fuzz::hold::<Gemini>(data));
