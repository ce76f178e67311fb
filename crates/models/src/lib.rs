//! The wires of model providers: conversations become requests, bytes become replies.
//!
//! # Layout
//!
//! - [`conversation`]: what is said, as every wire is given it and as it is stored.
//! - [`images`]: which models read images.
//! - [`settings`]: what a request needs beyond the conversation.
//! - [`wire`]: the shape of a wire, [`Wire`](wire::Wire): settings and a conversation to a request, an event to a reply.
//! - [`reader`]: the reader of bytes, the same for every wire.
//! - [`reply`]: the pieces of a reply, and the one type that says how it ended.
//! - [`error`]: what a provider's failure means, in a stream as over HTTP.
//! - [`sse`]: server-sent events from segments.
//! - [`aws_event_stream`]: the frames of AWS from segments.
//! - [`text_calls`]: tool calls that a local model wrote as text.
//! - [`tool_calls`]: streamed tool calls, whatever a provider makes of ids and indices.
//! - [`names`]: tool names that a provider refuses, and what is sent in their place.
//! - [`openai_chat`]: OpenAI's chat completions, which most providers speak.
//! - [`openai_responses`]: OpenAI's Responses.
//! - [`anthropic`]: Anthropic's Messages.
//! - [`bedrock_converse`]: Amazon Bedrock's Converse.
//! - [`gemini`]: Google's generateContent, of the Gemini API and of Vertex.
//!
//! # A new wire
//!
//! A folder with `request.rs` (settings and conversation to a body) and `stream.rs` (one event, or a whole reply, to calls
//! of [`Assembly`](reply::Assembly)); next to it a file with a type that `impl_wire!` makes a [`Wire`](wire::Wire) of them.
//! Bytes, lines, errors, limits and the end of a reply are dealt with by the reader, and the wire only says what an event
//! means. Its cases go into tables for `testing::hold`: a name, the body, what it comes to; the body is read whole and in
//! pieces. `testing::holds_for_any_cut` is its property test, `testing::work_per_byte` its bound.
//!
//! This crate performs no input or output, knows no asynchronous runtime and never reads the environment or a clock.

pub mod anthropic;
pub mod aws_event_stream;
pub mod bedrock_converse;
pub mod conversation;
pub mod error;
pub mod gemini;
mod ids;
pub mod images;
mod json;
pub mod names;
mod openai;
pub mod openai_chat;
pub mod openai_responses;
pub mod reader;
pub mod reply;
pub mod settings;
pub mod sse;
#[cfg(test)]
mod testing;
pub mod text_calls;
pub mod tool_calls;
pub mod wire;
mod work;
