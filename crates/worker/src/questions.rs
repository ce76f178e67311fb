//! Questions of attempts to people: the job is parked, without a slot, until one answers.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use legwork_agent::person::Person;
use legwork_common::policy::Policy;
use legwork_common::question::Answer;
use legwork_common::question::Approvals;
use legwork_common::question::Question;
use legwork_common::service::CallIndex;
use legwork_common::service::ServiceError;

use crate::parking::ParkingService;

/// A person who answers later, from any machine.
#[derive(Debug)]
pub(crate) struct LaterPerson {
    parking: Arc<ParkingService>,
    expiry: Duration,
}

impl LaterPerson {
    /// Who answers the questions of a job: no one, unless its dispatcher or else the policy parks them.
    pub(crate) fn of_job(
        parking: &Arc<ParkingService>,
        approvals: Option<Approvals>,
        policy: &Policy,
    ) -> Option<Arc<dyn Person>> {
        match approvals.unwrap_or(policy.approvals()) {
            Approvals::Deny => None,
            // `ask` is for the program that dispatched the job, which answers as anyone else does.
            Approvals::Park | Approvals::Ask => {
                Some(Arc::new(Self { parking: Arc::clone(parking), expiry: policy.approvals_expire() }))
            }
        }
    }
}

#[async_trait]
impl Person for LaterPerson {
    fn is_durable(&self) -> bool {
        true
    }

    async fn ask(&self, call: CallIndex, question: &Question) -> Result<Answer, ServiceError> {
        self.parking.ask(call, question, self.expiry).await
    }
}
