//! Amazon Bedrock's Converse: one interface to the models of many vendors, which take different things through it.
//!
//! A stream comes as frames of AWS, which the reader takes apart. The path names the model; the address of the region and
//! the bearer token are the caller's.

mod request;
mod stream;
mod vendor;

use crate::wire::impl_wire;

/// The wire of Converse.
#[derive(Debug, Clone, Copy)]
pub struct BedrockConverse;

impl_wire!(BedrockConverse, "bedrock_converse", stream::Blocks);

#[cfg(test)]
mod tests;
