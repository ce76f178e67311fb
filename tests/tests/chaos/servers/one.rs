//! One server behind two proxies. It is killed and starts again with its data.

use legwork_tests::proxy::Proxy;
use legwork_tests::redis::Redis;

use crate::random::Random;
use crate::servers::Begun;
use crate::servers::Servers;

/// The server and its proxies; the programs are spread over these.
#[derive(Debug)]
pub(super) struct OneServer {
    proxies: [Proxy; 2],
    redis: Redis,
}

impl OneServer {
    pub(super) fn start() -> Self {
        let redis = Redis::start();
        Self { proxies: [redis.behind_proxy(), redis.behind_proxy()], redis }
    }
}

impl Servers for OneServer {
    fn url(&self, place: usize) -> String {
        self.proxies[place % self.proxies.len()].url()
    }

    fn proxies(&self) -> Vec<&Proxy> {
        self.proxies.iter().collect()
    }

    fn masters(&self) -> Vec<&Redis> {
        vec![&self.redis]
    }

    fn more_faults(&self) -> u64 {
        0
    }

    fn begin_fault(&mut self, _random: &mut Random) -> Begun {
        self.redis.kill();
        Begun::Lasting("Redis killed")
    }

    fn end_fault(&mut self) {
        self.redis.restart();
    }

    fn until_whole(&self) {}
}
