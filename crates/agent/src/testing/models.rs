//! Models that answer with what a test put in, one answer a request.

use std::collections::VecDeque;
use std::sync::Mutex;

use async_trait::async_trait;

use crate::model::Delta;
use crate::model::ModelCall;
use crate::model::ModelError;
use crate::model::ModelPort;
use crate::model::ModelReply;
use crate::model::ModelRequest;

/// The answers, first to last, each with text that was streamed before it; and the requests so far.
#[derive(Debug, Default)]
pub(crate) struct FakeModels {
    answers: Mutex<VecDeque<(String, Result<ModelReply, ModelError>)>>,
    requests: Mutex<Vec<(String, ModelRequest)>>,
}

impl FakeModels {
    pub(crate) fn new(answers: impl IntoIterator<Item = Result<ModelReply, ModelError>>) -> Self {
        let answers = answers.into_iter().map(|answer| {
            let text = answer.as_ref().map(|reply| reply.message.text.clone()).unwrap_or_default();
            (text, answer)
        });
        Self::streaming(answers)
    }

    /// With the text that each streams before its answer.
    pub(crate) fn streaming(
        answers: impl IntoIterator<Item = (String, Result<ModelReply, ModelError>)>,
    ) -> Self {
        Self { answers: Mutex::new(answers.into_iter().collect()), requests: Mutex::default() }
    }

    /// The requests so far, each with the model that was asked.
    pub(crate) fn requests(&self) -> Vec<(String, ModelRequest)> {
        self.requests.lock().unwrap().clone()
    }
}

#[async_trait]
impl ModelPort for FakeModels {
    async fn stream(&self, call: ModelCall<'_>) -> Result<ModelReply, ModelError> {
        let ModelCall { settings, request, deltas } = call;
        self.requests.lock().unwrap().push((settings.reference(), request.clone()));
        let (text, answer) = self.answers.lock().unwrap().pop_front().expect("an answer for each request");
        if !text.is_empty() {
            deltas.send(Delta::Text(text)).await;
        }
        answer
    }
}
